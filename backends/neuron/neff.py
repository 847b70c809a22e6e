"""NEFF: what neuronx-cc makes and the Neuron runtime loads. Read by our own code, without the SDK.

A NEFF is a header of 1,024 bytes, little-endian, and an archive behind it. Offsets are those of
the struct in "Work with NEFF files" of the documentation of AWS Neuron SDK 2.32.0. Only the header
is read: what is in the archive is the runtime's business.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from partitioner.artifacts.faults import damaged

__all__ = ["HEADER_BYTES", "MAX_FORMAT", "NeffHeader", "find_neffs", "read_header"]

#: Size of the header.
HEADER_BYTES = 1024

#: Newest major version of the format that is known: runtimes say "supported: 1.1 received: 2.0".
MAX_FORMAT = 2

# pkg_version, header_size, data_size, neff_major, neff_minor: 0 to 40; build_version to 168;
# num_tpb to 172; hash to 204; uuid to 220; name to 476; requested_tpb to 480; tpb_per_node to 544;
# feature_bits to 552; lnc_size to 556.
_LAYOUT = struct.Struct("<5Q128sI32s16s256sI64sQI")

#: The package's version is a small number; larger ones are something else than a header.
_MAX_PACKAGE = 255

_SIZE_FIELD = struct.pack("<Q", HEADER_BYTES)

_GZIP = b"\x1f\x8b"
_TAR, _TAR_AT = b"ustar", 257


@dataclass(frozen=True)
class NeffHeader:
    """The header's fields, under the names that they have for people.

    Attributes:
        package: version of the package around the archive.
        data_bytes: size of the archive behind the header.
        major, minor: version of the NEFF format; runtimes take those that they know.
        build: the compiler's version.
        cores: cores that it runs on (``num_tpb``).
        hash, uuid: hexadecimal digits.
        name: of the model.
        requested_cores: that it asks the runtime for (``requested_tpb``).
        features: bits of what a runtime must be able to do.
        lnc: physical cores that make one logical core; 0 in files of before there were any.
    """

    package: int
    data_bytes: int
    major: int
    minor: int
    build: str
    cores: int
    hash: str
    uuid: str
    name: str
    requested_cores: int
    features: int
    lnc: int

    @property
    def total_bytes(self) -> int:
        """Header and archive."""
        return HEADER_BYTES + self.data_bytes


def read_header(data: bytes, available: int, where: object) -> NeffHeader:
    """The header at the start of a NEFF.

    Args:
        data: the first bytes of the NEFF, at least 1,024.
        available: bytes that there are, from the header's first one on.
        where: the file, for messages.

    Raises:
        BundleError: this is none, or it says more than there is.
    """
    if len(data) < HEADER_BYTES or available < HEADER_BYTES:
        found = min(len(data), available)
        raise damaged(f"a NEFF has {HEADER_BYTES} bytes at least, not {found}", where)
    fields = _LAYOUT.unpack_from(data)
    package, size, data_bytes, major, minor = fields[:5]
    if size != HEADER_BYTES or package > _MAX_PACKAGE:
        raise damaged(f"not a NEFF: its header would have {size} bytes", where)
    if data_bytes > available - HEADER_BYTES:
        raise damaged(
            f"the NEFF's header speaks of {data_bytes} bytes, and {available - HEADER_BYTES} "
            "follow it",
            where,
        )
    build, cores, hashed, uuid, name, requested, _, features, lnc = fields[5:]
    return NeffHeader(
        package,
        data_bytes,
        major,
        minor,
        _text(build),
        cores,
        hashed.hex(),
        uuid.hex(),
        _text(name),
        requested,
        features,
        lnc,
    )


def find_neffs(buffer: Any, start: int, end: int, where: object) -> list[tuple[int, NeffHeader]]:
    """All NEFFs in a part of a file, by what a header looks like: (position, header).

    Args:
        buffer: an ``mmap`` or ``bytes``, which can be searched without copying it.
        where: the file, for messages.

    Each byte is searched once; what is inside of a NEFF is not searched.
    """
    found: list[tuple[int, NeffHeader]] = []
    position = start
    while True:
        # The second field, the size of the header, is the same in each.
        at = buffer.find(_SIZE_FIELD, position + 8, end)
        if at < 0:
            return found
        begin = at - 8
        if _looks_like_one(buffer, begin, end):
            header = read_header(buffer[begin : begin + HEADER_BYTES], end - begin, where)
            found.append((begin, header))
            position = begin + header.total_bytes
        else:
            position = begin + 1


def _looks_like_one(buffer: Any, begin: int, end: int) -> bool:
    if end - begin < HEADER_BYTES:
        return False
    package, _, data_bytes, major, _ = struct.unpack_from("<5Q", buffer, begin)
    if package > _MAX_PACKAGE or major > _MAX_PACKAGE or data_bytes == 0:
        return False
    if data_bytes > end - begin - HEADER_BYTES:
        return False
    body = begin + HEADER_BYTES
    tar = body + _TAR_AT
    return buffer[body : body + 2] == _GZIP or buffer[tar : tar + len(_TAR)] == _TAR


def _text(raw: bytes) -> str:
    """Text up to the first zero byte, safe to print: headers are not checked by their makers."""
    text = raw.partition(b"\0")[0].decode("ascii", errors="replace")
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
