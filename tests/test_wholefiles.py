"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from partitioner.errors import OutputError
from partitioner.wholefiles import check_target, write_whole


def text(file: BinaryIO) -> None:
    file.write(b"new")


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    assert path == write_whole(path, text)
    assert "new" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        write_whole(path, fail)
    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_a_full_disk_says_to_make_room(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Refused as on a full disk, but for the number.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OutputError, match="make room"):
            write_whole(path, lambda file: file.write(bytes(1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_whole(path, text)
    reader.join()
    assert [b"new"] == read
    assert path.is_fifo()


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/real")
    write_whole(tmp_path / "link", text)
    assert (tmp_path / "link").is_symlink()
    assert "new" == (tmp_path / "folder" / "real").read_text()


@pytest.mark.parametrize("call", [check_target, lambda path: write_whole(path, text)])
def test_a_directory_a_missing_folder_and_a_file_as_folder(call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError, match=r"Is a directory(.|\n)*name of a file"):
        call(tmp_path)
    for name in ("none/a", "file/a"):
        with pytest.raises(OutputError, match="make the folder"):
            call(tmp_path / name)
    assert [tmp_path / "file"] == list(tmp_path.iterdir())


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)
    write_whole(path, text)
    assert "new" == path.read_text()
    with pytest.raises(OutputError, match="too long"):
        write_whole(tmp_path / ("a" * 256), text)


def test_the_mode_is_that_which_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_whole(path, text, mode=0o600)
    assert 0o600 == path.stat().st_mode & 0o777
