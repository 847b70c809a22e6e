"""Opening files with distrust."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from partitioner.artifacts.files import check_directory, open_plain, read_plain
from partitioner.errors import BundleError


def test_reading(tmp_path: Path) -> None:
    for data in (b"", b"abc", bytes(2**20 + 1)):
        (tmp_path / "f").write_bytes(data)
        assert data == read_plain(tmp_path / "f", len(data))
        with open_plain(tmp_path / "f") as (file, info):
            assert (len(data), data) == (info.st_size, file.read())


def test_the_limit_holds_before_reading(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.truncate(tmp_path / "f", 2**40)
    with pytest.raises(BundleError, match="1099511627776 bytes, where at most 3 are read"):
        read_plain(tmp_path / "f", 3)


def test_files_without_a_true_size_are_refused() -> None:
    """Those of /proc say that they are empty."""
    with pytest.raises(BundleError, match="changed while it was read"):
        read_plain(Path("/proc/self/status"), 2**20)


def test_a_link_is_not_followed_whatever_lstat_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    monkeypatch.setattr(Path, "lstat", Path.stat)
    with pytest.raises(BundleError, match="cannot be read: Too many levels of symbolic links"):
        read_plain(tmp_path / "link", 99)


def test_errors_while_reading(tmp_path: Path) -> None:
    (tmp_path / "f").touch()

    def use() -> None:
        with open_plain(tmp_path / "f"):
            raise OSError(5, "Input/output error")

    with pytest.raises(BundleError, match="cannot be read: Input/output error") as caught:
        use()
    assert str(tmp_path / "f") == caught.value.where


def test_directories(tmp_path: Path) -> None:
    check_directory(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "nothing"):
        with pytest.raises(BundleError):
            check_directory(tmp_path / name)
