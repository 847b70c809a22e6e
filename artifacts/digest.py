"""SHA-256 digests, the only names that blobs have."""

from __future__ import annotations

import hashlib
import re
from io import FileIO
from pathlib import Path

from partitioner.artifacts.faults import damaged, shown

__all__ = ["check_digest", "digest_bytes", "digest_file", "digest_stream", "hex_of"]

_PREFIX = "sha256:"
_PATTERN = re.compile(r"sha256:[0-9a-f]{64}\Z")


def digest_bytes(data: bytes | memoryview) -> str:
    """``sha256:<hex>`` of bytes."""
    return _PREFIX + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """``sha256:<hex>`` of a file's content, at the speed of hashing memory.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return digest_stream(file)


def digest_stream(file: FileIO) -> str:
    """``sha256:<hex>`` of what is left in an open file.

    Raises:
        OSError: it cannot be read.
    """
    return _PREFIX + hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(text: object) -> str:
    """Give ``text`` back if it is a digest; file names are made of nothing else.

    Raises:
        BundleError: it is not ``sha256:`` and 64 lower-case hexadecimal digits.
    """
    if not isinstance(text, str) or _PATTERN.match(text) is None:
        raise damaged(f"{shown(text)} is not a sha256 digest")
    return text


def hex_of(digest: str) -> str:
    """The 64 hexadecimal digits: a blob's file name.

    Raises:
        BundleError: not a digest.
    """
    return check_digest(digest).removeprefix(_PREFIX)
