"""SHA-256 digests, the only names that blobs have."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from partitioner.errors import BundleError

__all__ = ["check_digest", "digest_bytes", "digest_file", "hex_of"]

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}\Z")


def digest_bytes(data: bytes | memoryview) -> str:
    """``sha256:<hex>`` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_file(path: Path) -> str:
    """``sha256:<hex>`` of a file's content, read in large chunks."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def check_digest(text: object) -> str:
    """Give ``text`` back if it is a digest; file names are made of nothing else.

    Raises:
        BundleError: it is not ``sha256:`` and 64 lower-case hexadecimal digits.
    """
    if not isinstance(text, str) or _PATTERN.match(text) is None:
        raise BundleError(
            f"{str(text)[:100]!r} is not a sha256 digest",
            advice="the bundle is damaged or was not made by partitioner; fetch or build it anew",
        )
    return text


def hex_of(digest: str) -> str:
    """The 64 hexadecimal digits: a blob's file name."""
    return check_digest(digest).removeprefix("sha256:")
