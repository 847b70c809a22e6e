"""What a store can do: little, so that S3, a directory and a web server can all do it.

A store maps keys to objects. Blobs are only ever created; small JSON documents are created, or
replaced if they are still what the writer has read. The protocol that makes pushes and collections
safe (``push.py``, ``gc.py``) needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from partitioner.artifacts.manifest import Blob

__all__ = ["Document", "Entry", "InterruptedReadError", "Progress", "Store"]

#: Called with the bytes that have travelled since the last call; from several threads.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Entry:
    """An object of a store.

    Args:
        size: in bytes.
        modified: when it was written, in seconds since 1970 by the store's clock.
    """

    key: str
    size: int
    modified: float


@dataclass(frozen=True)
class Document:
    """The content of a small object, and the etag it was read at."""

    data: bytes
    etag: str


class InterruptedReadError(Exception):
    """A connection broke while a body was read; reading on from where it broke may help."""


class Store(Protocol):
    """A store of objects; thread-safe.

    Every method raises StoreError where the store cannot be reached after retries, or refuses.
    """

    @property
    def uri(self) -> str:
        """Where it is, for messages."""
        ...

    def head(self, key: str) -> Entry | None:
        """What is at a key, None if nothing is."""
        ...

    def get(self, key: str, limit: int) -> Document | None:
        """A small object; None if there is none. More than ``limit`` bytes are a StoreError."""
        ...

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``stop`` of an object in pieces of at most a MiB, in order.

        Raises:
            NotInStoreError: there is no such object.
            InterruptedReadError: the connection broke, or the body ended early.
        """
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create a small object. False if there is one already, which is left as it is."""
        ...

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """Replace a small object that still has that etag. False if it has not."""
        ...

    def upload_if_absent(self, path: Path, blob: Blob, key: str, progress: Progress) -> bool:
        """Create an object from a file, which is hashed on the way.

        Returns:
            False if there is an object already, which is left as it is.

        Raises:
            BundleError: the file does not have the blob's size and digest; nothing is created.
        """
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key starts with ``prefix``, in no given order."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; none is fine."""
        ...

    def abandon(self, age: float) -> int:
        """Remove what interrupted uploads have left, if older than ``age`` seconds; how many."""
        ...

    def url(self, key: str, seconds: int) -> str:
        """An address at which anybody can read the object for that time."""
        ...
