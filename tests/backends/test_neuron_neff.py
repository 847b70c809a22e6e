"""Headers of NEFFs: by the documented layout, found in archives, and what hostile ones may do."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from partitioner.backends.neuron.archive import find_neff
from partitioner.backends.neuron.neff import find_neffs, read_header
from partitioner.errors import BundleError
from tests.neuron_standin.neffs import neff, tarball


def test_fields_stand_where_the_documentation_has_them() -> None:
    data = bytearray(neff(lnc=2, features=0x100, requested_cores=4, minor=1))
    # By hand, not by the same struct: offsets of the documented fields.
    assert 2 == int.from_bytes(data[24:32], "little")
    assert 2 == int.from_bytes(data[552:556], "little")
    header = read_header(bytes(data), len(data), "graph.neff")
    assert (2, 1, 2) == (header.major, header.minor, header.lnc)
    assert ("2.27.5334.0+b2a3b0ce", "model") == (header.build, header.name)
    assert (4, 0x100) == (header.requested_cores, header.features)
    assert bytes(range(16)).hex() == header.uuid
    assert len(data) == header.total_bytes


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (neff()[:1000], "1024 bytes at least, not 1000"),
        (neff(header_size=64), "would have 64 bytes"),
        (neff(package=2**40), "not a NEFF"),
        (neff(data_size=2**63), f"speaks of {2**63} bytes"),
        (neff()[:-1], "follow it"),
    ],
)
def test_a_header_that_says_more_than_there_is_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(BundleError) as caught:
        read_header(data, len(data), "graph.neff")
    assert said in caught.value.what


def test_names_are_safe_to_print() -> None:
    data = neff(name=b"\x1b[2J\xff", build=b"2.0")
    assert "?[2J?" == read_header(data, len(data), "x").name


@given(st.binary(max_size=1500), st.integers(0, 2**64 - 1))
def test_whatever_the_bytes_no_other_error(data: bytes, size: int) -> None:
    patched = data[:8] + (1024).to_bytes(8, "little") + size.to_bytes(8, "little") + data[24:]
    for one in (data, patched):
        try:
            header = read_header(one, len(one), "x")
        except BundleError:
            continue
        assert header.total_bytes <= len(one)


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=64))
def test_a_neff_is_found_wherever_it_stands(before: bytes, after: bytes, body: bytes) -> None:
    own = neff(b"\x1f\x8b" + body)
    found = find_neffs(before + own + after, 0, len(before + own + after), "x")
    assert (len(before), len(own)) in [(at, h.total_bytes) for at, h in found]


# --- archives -----------------------------------------------------------------------------------


class Holding(nn.Module):
    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.register_buffer("model", torch.frombuffer(bytearray(data), dtype=torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def torchscript(path: Path, data: bytes) -> Path:
    torch.jit.save(torch.jit.trace(Holding(data), torch.ones(2)), str(path))
    return path


def zipped(path: Path, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_the_neff_of_a_torchscript_archive(tmp_path: Path) -> None:
    own = neff(tarball(b"x" * 5000))
    found = find_neff(torchscript(tmp_path / "model.pt", own))
    found.extract(tmp_path / "graph.neff")
    assert own == (tmp_path / "graph.neff").read_bytes()
    assert find_neff(zipped(tmp_path / "z", a=own)).sha256() == found.sha256()


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("code", b"")
    # The directory speaks of 3 GiB; nothing is unfolded to find out.
    data = bytearray(out.getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (3 * 2**30).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.write_bytes(b""), "not a TorchScript archive"),
        (lambda p: p.write_bytes(b"PK\x05\x06" + bytes(18)), "holds no NEFF"),
        (lambda p: p.write_bytes(bomb()), "unfold to"),
        (lambda p: zipped(p, a=b"nothing"), "holds no NEFF"),
        (lambda p: zipped(p, a=neff(), b=neff()), "holds 2 NEFFs"),
        (lambda p: zipped(p, zipfile.ZIP_DEFLATED, a=neff()), "holds no NEFF"),
    ],
)
def test_other_archives_are_refused(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "model.pt")
    with pytest.raises(BundleError) as caught:
        find_neff(tmp_path / "model.pt")
    assert said in caught.value.what


@example(1, b"\x01\x00")  # The directory is said to lie before the file.
@given(st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_a_damaged_archive_is_an_error_of_ours(at: int, patch: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = zipped(Path(folder) / "z", a=b"filler" * 30, b=neff(b"\x1f\x8b12"))
        data = bytearray(path.read_bytes())
        data[-at - len(patch) : len(data) - at] = patch
        path.write_bytes(bytes(data))
        try:
            found = find_neff(path)
        except BundleError:
            return
        assert found.offset + found.header.total_bytes <= path.stat().st_size
