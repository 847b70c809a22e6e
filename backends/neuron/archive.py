"""The NEFF inside of what ``torch.jit.save`` writes, found without running or unpickling anything.

A TorchScript archive is a zip file. Tensors lie in it as they are; only source code may be
compressed. Which entry holds the NEFF is nobody's promise, so all that is stored plainly is
searched for a header. An archive comes from elsewhere: what its directory says is checked against
the file before anything is read by it.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from partitioner.artifacts.faults import damaged
from partitioner.backends.neuron.neff import NeffHeader, find_neffs

__all__ = ["EmbeddedNeff", "find_neff"]

#: Most entries of an archive; a model of thousands of layers has some ten thousand.
_MAX_ENTRIES = 1_000_000

#: Most bytes that the compressed entries (source code) may unfold to.
_MAX_UNFOLDED = 512 * 2**20

#: A local file header: signature, 22 bytes that the directory has too, lengths of name and extra.
_LOCAL = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"

_CHUNK = 2**20


@dataclass(frozen=True)
class EmbeddedNeff:
    """A NEFF in an archive.

    Attributes:
        header: what it says of itself.
        entry: the archive's entry that holds it.
        offset: where it starts, in bytes of the archive.
    """

    path: Path
    header: NeffHeader
    entry: str
    offset: int

    def sha256(self) -> str:
        """Of header and archive."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            _copy(file, self.offset, self.header.total_bytes, digest.update)
        return digest.hexdigest()

    def extract(self, target: Path) -> None:
        """Write it to a file of its own, for loaders that take nothing else.

        Raises:
            OSError: it cannot be written.
        """
        with self.path.open("rb") as file, target.open("xb") as out:
            _copy(file, self.offset, self.header.total_bytes, out.write)


def find_neff(path: Path) -> EmbeddedNeff:
    """The NEFF of a TorchScript archive.

    Raises:
        BundleError: no such archive, one whose directory contradicts the file or unfolds to more
            than code can have, or one that does not hold exactly one NEFF.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        stored = _stored_entries(file, path, size)
        if not stored:
            raise damaged("the archive holds no NEFF", path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            found = [
                EmbeddedNeff(path, header, name, offset)
                for name, start, end in stored
                for offset, header in find_neffs(mapped, start, end, path)
            ]
    if len(found) != 1:
        raise damaged(f"the archive holds {len(found) or 'no'} NEFFs, and should hold one", path)
    return found[0]


def _stored_entries(file: IO[bytes], path: Path, size: int) -> list[tuple[str, int, int]]:
    """(name, start, end) of what is not compressed, in the order of the file."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise damaged(f"not a TorchScript archive: {error}", path) from error
    if len(entries) > _MAX_ENTRIES:
        raise damaged(f"the archive has {len(entries)} entries", path)
    plain = [entry for entry in entries if entry.compress_type == zipfile.ZIP_STORED]
    unfolded = sum(e.file_size for e in entries if e.compress_type != zipfile.ZIP_STORED)
    if unfolded > _MAX_UNFOLDED:
        raise damaged(f"compressed entries of the archive unfold to {unfolded} bytes", path)
    if len({entry.filename for entry in entries}) < len(entries):
        raise damaged("the archive has two entries of one name", path)
    ranges = sorted((_range(file, entry, path, size) for entry in plain), key=lambda r: r[1])
    for (_, _, end), (_, start, _) in itertools.pairwise(ranges):
        if start < end:
            raise damaged("entries of the archive overlap", path)
    return [(name, start, end) for name, start, end in ranges if end > start]


def _range(file: IO[bytes], entry: zipfile.ZipInfo, path: Path, size: int) -> tuple[str, int, int]:
    # Counted from where the archive seems to begin, so it may be before the file does.
    file.seek(max(0, entry.header_offset))
    raw = file.read(_LOCAL.size) if entry.header_offset >= 0 else b""
    if len(raw) < _LOCAL.size or not raw.startswith(_LOCAL_MAGIC):
        raise damaged("the archive's directory names an entry that is not there", path)
    _, name_bytes, extra_bytes = _LOCAL.unpack(raw)
    start = entry.header_offset + _LOCAL.size + name_bytes + extra_bytes
    if entry.compress_size != entry.file_size or start + entry.file_size > size:
        raise damaged("an entry of the archive is larger than the file", path)
    return entry.filename, start, start + entry.file_size


def _copy(file: IO[bytes], offset: int, count: int, write: Callable[[bytes], object]) -> None:
    file.seek(offset)
    while count:
        piece = file.read(min(_CHUNK, count))
        if not piece:
            raise OSError(f"{file.name} ends early")
        write(piece)
        count -= len(piece)
