"""Where things are in a store, and what the small documents say.

    blobs/sha256/<hex>                  blobs and manifests; create-only
    refs/<name>/versions/<v>.json       a version; create-only
    refs/<name>/channels/<tag>.json     a tag; moved by compare-and-swap
    refs/<name>/removed/<v>.json        a version that was removed lately
    signatures/<hex>.json               signatures of a bundle, by its digest
    writers/<id>.json                   a push that is running, with the blobs it relies on
    gc/lock.json                        a collection that is running

No key is made of anything but the names that :func:`check_name` lets through.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, cast

from partitioner.artifacts.digest import check_digest, hex_of
from partitioner.artifacts.faults import shown
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.manifest import MAX_MANIFEST_BYTES, Blob
from partitioner.artifacts.oci import BLOBS
from partitioner.errors import BundleError, StoreError, UsageError

__all__ = [
    "BLOB_PREFIX",
    "GC_KEY",
    "MAX_DOCUMENT",
    "REFS_PREFIX",
    "SIGNATURES_PREFIX",
    "WRITERS_PREFIX",
    "Pointer",
    "blob_key",
    "channel_key",
    "check_name",
    "read_digests",
    "removed_key",
    "signatures_key",
    "split_ref_key",
    "version_key",
    "write_digests",
    "writer_key",
]

BLOB_PREFIX = BLOBS + "/"
REFS_PREFIX = "refs/"
SIGNATURES_PREFIX = "signatures/"
WRITERS_PREFIX = "writers/"
GC_KEY = "gc/lock.json"

#: Bytes of a pointer, a list of digests, or the signatures of a bundle.
MAX_DOCUMENT = 2**20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_REF_KEY = re.compile(r"refs/([^/]+)/(versions|channels|removed)/([^/]+)\.json\Z")


def check_name(text: str, what: str) -> str:
    """Give a name, version or tag back if it can be part of a key.

    Raises:
        UsageError: it is not 1 to 128 letters, digits and ``._-``, beginning with neither of
            these three.
    """
    if _NAME.match(text) is None:
        raise UsageError(
            f"{shown(text)} cannot be {what}",
            advice="use letters, digits, dots, dashes and underscores; begin with letter or digit",
        )
    return text


def blob_key(digest: str) -> str:
    """The key of a blob.

    Raises:
        BundleError: not a sha256 digest.
    """
    return BLOB_PREFIX + hex_of(digest)


def version_key(name: str, version: str) -> str:
    """The key of a version's pointer."""
    return _ref_key(name, "versions", version)


def channel_key(name: str, tag: str) -> str:
    """The key of a tag's pointer."""
    return _ref_key(name, "channels", tag)


def removed_key(name: str, version: str) -> str:
    """The key under which a removed version is remembered."""
    return _ref_key(name, "removed", version)


def signatures_key(digest: str) -> str:
    """The key of a bundle's signatures."""
    return f"{SIGNATURES_PREFIX}{hex_of(digest)}.json"


def writer_key(identity: str) -> str:
    """The key of a running push."""
    return f"{WRITERS_PREFIX}{identity}.json"


def split_ref_key(key: str) -> tuple[str, str, str] | None:
    """Name, kind (versions, channels, removed) and version or tag; None if it is no such key."""
    match = _REF_KEY.match(key)
    if match is None or not all(_NAME.match(part) for part in (match[1], match[3])):
        return None
    return match[1], match[2], match[3]


@dataclass(frozen=True)
class Pointer:
    """What a version or tag points to.

    Args:
        name, version: of the bundle in the store.
        digest, size: of the bundle's root: its OCI manifest, or the index of several.
        total: bytes of all blobs, for lists.
    """

    name: str
    version: str
    digest: str
    size: int
    total: int

    @property
    def root(self) -> Blob:
        """The root's descriptor; its content says which kind it is."""
        return Blob(self.digest, self.size, "")

    def to_json(self) -> bytes:
        """The document."""
        return dumps({"schema": 1, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Pointer:
        """Read a document.

        Raises:
            StoreError: malformed, or of a schema that is not known.
        """
        document = _object(data, where)
        if document.pop("schema", None) != 1:
            raise _malformed("it is not of schema 1", where)
        kinds = {"name": str, "version": str, "digest": str, "size": int, "total": int}
        if document.keys() != kinds.keys():
            raise _malformed("it has other keys than a reference", where)
        for key, kind in kinds.items():
            if type(document[key]) is not kind:
                raise _malformed(f"{key!r} is not a {kind.__name__}", where)
        pointer = cls(**document)
        for text in (pointer.name, pointer.version):
            if _NAME.match(text) is None:
                raise _malformed(f"{shown(text)} is no name", where)
        if not 0 < pointer.size <= MAX_MANIFEST_BYTES or pointer.total < 0:
            raise _malformed("a size is out of range", where)
        try:
            check_digest(pointer.digest)
        except BundleError as error:
            raise _malformed(error.what, where) from error
        return pointer


def write_digests(digests: list[str]) -> bytes:
    """The document of a running push."""
    return dumps({"digests": digests})


def read_digests(data: bytes, where: str) -> list[str]:
    """The digests that a running push relies on.

    Raises:
        StoreError: malformed.
    """
    digests = _object(data, where).get("digests")
    if not isinstance(digests, list):
        raise _malformed("it has no list of digests", where)
    try:
        return [check_digest(digest) for digest in cast("list[Any]", digests)]
    except BundleError as error:
        raise _malformed(error.what, where) from error


def _ref_key(name: str, kind: str, text: str) -> str:
    check_name(name, "the name of a bundle")
    return f"{REFS_PREFIX}{name}/{kind}/{check_name(text, 'a version or tag')}.json"


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        document = loads(data, "the document")
    except BundleError as error:
        raise _malformed(error.what, where) from error
    if not isinstance(document, dict):
        raise _malformed("it is no JSON object", where)
    return cast("dict[str, Any]", document)


def _malformed(what: str, where: str) -> StoreError:
    return StoreError(
        f"a document of the store is malformed: {what}",
        where=where,
        advice="somebody else wrote to the store; remove the document, and push the bundle again",
    )
