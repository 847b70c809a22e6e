"""Bundles of hostile documents, and watching which files are opened while they are read."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.digest import digest_bytes, hex_of
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import Blob, ConstantRef
from partitioner.artifacts.oci import (
    CONFIG_TYPE,
    IMAGE_TYPE,
    INDEX_TYPE,
    Member,
    write_members,
)
from tests.artifacts.samples import manifest, write_bundle

__all__ = ["DOCUMENTS", "lay", "read_all", "watched"]

#: What a bundle is read from, in the order in which it is.
DOCUMENTS = ("layout", "index", "members", "image", "config")


@contextmanager
def lay(path: Path, which: str, data: bytes) -> Iterator[dict[str, bytes]]:
    """The sample as a bundle with one document replaced, and digests and sizes that fit.

    A list of members is in between only if it is what is replaced: most bundles have none. Gives
    all documents; what was written goes afterwards.
    """
    if not path.exists():
        write_bundle(path)
    config = data if which == "config" else manifest().to_json()
    image = data if which == "image" else _image(config)
    members = data if which == "members" else _members(image)
    root = (members, INDEX_TYPE) if which == "members" else (image, IMAGE_TYPE)
    index = data if which == "index" else _index(*root)
    layout = data if which == "layout" else b'{"imageLayoutVersion":"1.0.0"}'
    written = {
        path / "oci-layout": layout,
        path / "index.json": index,
        path / "blobs" / "sha256" / hex_of(digest_bytes(config)): config,
        path / "blobs" / "sha256" / hex_of(digest_bytes(image)): image,
        path / "blobs" / "sha256" / hex_of(digest_bytes(members)): members,
    }
    for file, content in written.items():
        file.unlink(missing_ok=True)
        file.write_bytes(content)
    try:
        documents = (layout, index, members, image, config)
        yield dict(zip(DOCUMENTS, documents, strict=True))
    finally:
        for file in written:
            file.unlink()


def _image(config: bytes) -> bytes:
    """An OCI manifest that lists what the manifest declares, if that can be told."""
    layers: Any = []
    try:
        for blob in json.loads(config)["blobs"]:
            kind = blob["media_type"]
            layers.append({"digest": blob["digest"], "size": blob["size"], "mediaType": kind})
    except (ValueError, TypeError, KeyError, RecursionError):
        layers = []
    document = {
        "mediaType": IMAGE_TYPE,
        "artifactType": "application/vnd.partitioner.bundle.v1+json",
        "config": _descriptor(config, CONFIG_TYPE),
        "layers": layers,
    }
    return json.dumps(document).encode()


def _members(image: bytes) -> bytes:
    blob = Blob(digest_bytes(image), len(image), IMAGE_TYPE)
    return write_members([Member(blob, manifest().labels)])


def _index(root: bytes, media_type: str) -> bytes:
    return json.dumps({"manifests": [_descriptor(root, media_type)]}).encode()


def _descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_bytes(data), "size": len(data)}


def read_all(path: Path) -> None:
    """Everything that runs would read of a bundle, of all its members."""
    index = BundleIndex.open(path, "always")
    for member in index.matching():
        _read_member(index.bundle(member))


def _read_member(bundle: Bundle) -> None:
    found = bundle.manifest
    bundle.check()
    for value, ref in found.constants.items():
        bundle.constant(ref, found.plan.values[value]).sum()
    for variant in found.variants:
        _read_constants(bundle, variant.constants)
    if found.parity is not None:
        for given in found.parity.inputs.values():
            bundle.constant(given.data, given.spec).sum()


def _read_constants(bundle: Bundle, refs: dict[str, ConstantRef]) -> None:
    for value, ref in refs.items():
        bundle.constant(ref, bundle.manifest.plan.values[value]).sum()


# --- watching -----------------------------------------------------------------------------------

_watch = threading.local()
_hooked = False


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Let nothing outside of ``path`` be opened, listed, run or connected to by this thread.

    Raises:
        AssertionError: something was.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    _watch.root, _watch.seen = path.resolve(), []
    try:
        yield
    finally:
        seen, _watch.root = _watch.seen, None
    assert [] == seen


_EVENTS = ("open", "os.listdir", "os.scandir", "subprocess.Popen", "os.exec", "socket.connect")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    root = getattr(_watch, "root", None)
    if root is None or event not in _EVENTS:
        return
    where = arguments[0] if arguments else None
    # A number is a file that is open already; the hook saw it when it was opened.
    if isinstance(where, int):
        return
    if event != "open" or not Path(os.fsdecode(where)).resolve().is_relative_to(root):
        _watch.seen.append((event, where))
