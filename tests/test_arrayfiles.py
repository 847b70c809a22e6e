"""Files of arrays: any name, and a clear error for whatever is wrong with one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from partitioner.arrayfiles import read_npy, read_npz, write_npz
from partitioner.errors import InputError, OutputError

ONE = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("name", ["x", "file", "self", "allow_pickle", "a/b", "x.npy", "", "ä b"])
def test_an_array_is_kept_by_any_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "all.npz"
    with path.open("wb") as file:
        write_npz(file, {name: ONE, "other": ONE + 1, "x.npy.npy": ONE + 2})
    if name:
        assert ONE.tolist() == read_npz(path, name).tolist()
    assert (ONE + 1).tolist() == read_npz(path, "other").tolist()
    assert (ONE + 2).tolist() == read_npz(path, "x.npy.npy").tolist()
    with np.load(path) as loaded:
        assert [name, "other", "x.npy.npy"] == loaded.files


def test_the_same_arrays_give_the_same_bytes() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    write_npz(first, {"x": ONE})
    write_npz(second, {"x": ONE.copy()})
    assert first.getvalue() == second.getvalue()
    with zipfile.ZipFile(first) as archive:
        assert (1980, 1, 1, 0, 0, 0) == archive.infolist()[0].date_time


def test_a_name_that_an_archive_would_cut_is_refused() -> None:
    with pytest.raises(OutputError, match="cannot hold"):
        write_npz(io.BytesIO(), {"a\0b": ONE})


def test_numpys_own_files_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ONE)
    np.savez_compressed(tmp_path / "x.npz", x=ONE)
    assert ONE.tolist() == read_npy(tmp_path / "x.npy").tolist()
    assert ONE.tolist() == read_npz(tmp_path / "x.npz").tolist()


def test_the_name_may_be_left_out_of_one_array_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=ONE, b=ONE)
    with pytest.raises(InputError, match=r"several arrays(.|\n)*a, b: say .*x\.npz:a"):
        read_npz(tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"no array 'c'(.|\n)*a, b"):
        read_npz(tmp_path / "x.npz", "c")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(InputError, match="has no arrays"):
        read_npz(tmp_path / "none.npz")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    objects = np.array([{}], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=objects)
    with pytest.raises(InputError, match=r"never unpickled(.|\n)*convert"):
        read_npy(tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"never unpickled(.|\n)*convert"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_an_input_error(share: float, tmp_path: Path) -> None:
    for name, save, read in (("x.npy", np.save, read_npy), ("x.npz", np.savez, read_npz)):
        path = tmp_path / name
        save(path, ONE)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(InputError, match=f"{name} cannot be read(.|\n)*write it again"):
            read(path)


def test_a_flipped_bit_in_an_archive_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=ONE)
    data = path.read_bytes()
    path.write_bytes(data.replace(ONE.tobytes(), (ONE + 1).tobytes()))
    assert data != path.read_bytes()
    with pytest.raises(InputError, match="CRC"):
        read_npz(path)


def test_one_format_by_the_name_of_the_other_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ONE)
    np.savez(tmp_path / "x.npz", x=ONE)
    with pytest.raises(InputError, match=r"not an \.npz file"):
        read_npz(tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"not an \.npy file"):
        read_npy(tmp_path / "x.npz")


@pytest.mark.parametrize("read", [read_npy, read_npz])
def test_a_missing_file_and_a_directory(read, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match="Is a directory"):
        read(tmp_path)


def test_a_header_that_promises_too_much_is_an_input_error(tmp_path: Path) -> None:
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**60,)}
    np.lib.format.write_array_header_1_0(file, header)
    (tmp_path / "x.npy").write_bytes(file.getvalue())
    with pytest.raises(InputError, match="cannot be read"):
        read_npy(tmp_path / "x.npy")
