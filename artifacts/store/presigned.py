"""A bundle for those without credentials: a document of addresses that are valid for a while.

The document is a JSON object: ``schema`` (1), ``name``, ``version``, and ``urls``, which maps the
store's keys of all that belongs to the bundle to presigned addresses. Whoever has it can read the
bundle until the addresses expire, and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from partitioner.artifacts.faults import damaged
from partitioner.artifacts.files import read_plain
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.store.base import Store
from partitioner.artifacts.store.closure import stored_closure
from partitioner.artifacts.store.layout import (
    MAX_DOCUMENT,
    blob_key,
    check_name,
    signatures_key,
    version_key,
)
from partitioner.artifacts.store.locations import Reference
from partitioner.artifacts.store.options import StoreOptions
from partitioner.artifacts.store.refs import resolve
from partitioner.artifacts.store.web import WebStore
from partitioner.errors import NotInStoreError, UsageError

__all__ = ["open_presigned", "presign"]

_LIMIT = 64 * 2**20


def presign(store: Store, reference: Reference, seconds: int) -> bytes:
    """The document for a bundle of a store.

    Args:
        reference: by tag or version.
        seconds: for which the addresses are valid; S3 allows a week, less with passing
            credentials.

    Raises:
        NotInStoreError: there is no such bundle.
        StoreError: the store makes no such addresses.
        UsageError: the reference is a digest.
    """
    if reference.is_digest:
        raise UsageError("a digest cannot be shared", advice="name a version or tag of it")
    pointer = resolve(store, reference)
    version = version_key(pointer.name, pointer.version)
    if store.get(version, MAX_DOCUMENT) is None:
        raise NotInStoreError("the version is not there", where=str(reference))
    keys = [version, *(blob_key(digest) for digest in stored_closure(store, pointer.digest))]
    if store.head(signatures_key(pointer.digest)) is not None:
        keys.append(signatures_key(pointer.digest))
    urls = {key: store.url(key, seconds) for key in keys}
    return dumps({"schema": 1, "name": pointer.name, "version": pointer.version, "urls": urls})


def open_presigned(path: Path, options: StoreOptions) -> tuple[Store, Reference]:
    """The bundle of a document: a store with nothing else in it, and its reference.

    Raises:
        BundleError: malformed.
        UsageError: an address is not of the web.
    """
    document = loads(read_plain(path, _LIMIT), "the document of addresses")
    if not isinstance(document, dict):
        raise damaged("it is no JSON object", path)
    fields = cast("dict[str, Any]", document)
    urls, name, version = (fields.get(key) for key in ("urls", "name", "version"))
    if fields.get("schema") != 1 or not isinstance(urls, dict):
        raise damaged("it has no addresses of schema 1", path)
    found = cast("dict[str, Any]", urls)
    if not all(isinstance(text, str) for text in (name, version, *found.values())):
        raise damaged("name, version and addresses are strings", path)
    for url in found.values():
        if not url.startswith(("https://", "http://")):
            raise UsageError("an address is not of the web", where=str(path))
    check_name(str(name), "the name of a bundle")
    check_name(str(version), "a version")
    root = path.absolute().as_uri()
    return WebStore(root, options, found.get), Reference(root, str(name), str(version))
