"""An entry: what was found under a key. A small document; the files it names are blobs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from partitioner.artifacts.codec import decode, encode
from partitioner.artifacts.digest import check_digest, digest_bytes
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.jsontext import dumps, loads
from partitioner.artifacts.manifest import Blob
from partitioner.caching.keys import Key

__all__ = ["MAX_ENTRY", "Entry"]

#: Bytes of an entry; its files are not in it.
MAX_ENTRY = 8 * 2**20

_ROLE = re.compile(r"[a-z0-9-]{1,40}\Z")


@dataclass(frozen=True)
class Entry:
    """What is kept under a key.

    Args:
        kind: ``segment``, ``failure`` (of a segment's compiler) or ``parity``.
        pipeline, name: of whom it was kept first; they are for people, and no part of the key.
        files: role -> blob.
        note: everything else, in JSON values.
    """

    kind: str
    pipeline: str
    name: str
    key: Key
    files: dict[str, Blob]
    note: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(blob.size for blob in self.files.values())

    def to_json(self) -> bytes:
        """Canonical JSON with a digest of itself."""
        document = encode(self)
        return dumps({"entry": document, "digest": digest_bytes(dumps(document))})

    @classmethod
    def from_json(cls, data: bytes, key: str, where: str) -> Entry:
        """Read an entry that was found under the digest of its key.

        Raises:
            BundleError: it is damaged, or another key's.
        """
        outer: Any = loads(data, "an entry of the compile cache")
        if not isinstance(outer, dict) or set(cast("dict[str, Any]", outer)) != {"entry", "digest"}:
            raise damaged("no entry of a compile cache", where)
        document = outer["entry"]
        if digest_bytes(dumps(document)) != outer["digest"]:
            raise damaged("an entry of the compile cache does not have its own digest", where)
        entry = cast(Entry, decode(cls, document))
        if entry.key.digest != key:
            raise damaged("an entry of the compile cache lies under another key", where)
        for role, blob in entry.files.items():
            # Roles become names of files.
            if _ROLE.match(role) is None or blob.size < 0:
                raise damaged("an entry of the compile cache names no file of one", where)
            check_digest(blob.digest)
        return entry
