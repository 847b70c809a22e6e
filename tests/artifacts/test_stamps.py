"""Stamps: what one process has hashed, another need not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from partitioner.artifacts import stamps
from partitioner.artifacts.cachedir import LIMIT_VARIABLE, VARIABLE
from partitioner.artifacts.stamps import LEAST_BYTES, is_stamped, leave_stamp

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    return tmp_path / "cache" / "hashed"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(bytes(LEAST_BYTES))
    return path


def stamp(path: Path, digest: str = DIGEST, later: float = 10) -> None:
    """As if it were hashed some seconds from now: files of tests are new."""
    leave_stamp(path.stat(), digest, time.time_ns() + int(later * 1e9))


def test_a_stamped_file_is_known_by_that_digest(file: Path) -> None:
    assert not is_stamped(file.stat(), DIGEST)
    stamp(file)
    assert (True, False) == (is_stamped(file.stat(), DIGEST), is_stamped(file.stat(), OTHER))


@pytest.mark.parametrize("change", ["write", "replace", "touch", "same size and times"])
def test_a_file_that_was_changed_is_not_known(file: Path, change: str) -> None:
    stamp(file)
    info = file.stat()
    if change == "touch":
        os.utime(file, ns=(0, 0))
    elif change == "write":
        with file.open("r+b") as opened:
            opened.write(b"x")
    elif change == "replace":
        other = file.with_name("other")
        other.write_bytes(file.read_bytes())
        other.replace(file)
    else:
        # What an enemy may set is set back; the time of the change (ctime) is the kernel's.
        with file.open("r+b") as opened:
            opened.write(b"x")
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert not is_stamped(file.stat(), DIGEST)


def test_a_file_that_was_just_written_gets_no_stamp(file: Path, folder: Path) -> None:
    stamp(file, later=1)
    assert not folder.exists()
    assert not is_stamped(file.stat(), DIGEST)


def test_stamps_of_another_boot_mean_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp(file)
    monkeypatch.setattr(stamps, "_boot", lambda: "another")
    assert not is_stamped(file.stat(), DIGEST)
    monkeypatch.setattr(stamps, "_boot", lambda: "")
    stamp(file)
    assert not is_stamped(file.stat(), DIGEST)


def test_small_files_are_not_worth_a_stamp(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(bytes(LEAST_BYTES - 1))
    stamp(path)
    assert not folder.exists()


def test_a_folder_that_others_may_write_to_is_left_alone(file: Path, folder: Path) -> None:
    stamp(file)
    folder.chmod(0o777)
    assert not is_stamped(file.stat(), DIGEST)
    stamp(file, OTHER)
    assert 1 == len(list(folder.iterdir()))


def test_a_cache_that_cannot_be_written_to_is_logged(
    file: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.write_text("no folder")
    with caplog.at_level("INFO", "partitioner"):
        stamp(file)
    assert "hashed in each process" in caplog.text
    assert not is_stamped(file.stat(), DIGEST)


def test_a_host_that_keeps_nothing_keeps_no_stamps(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    stamp(file)
    assert not folder.exists()


def test_the_oldest_stamps_go(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "_MOST_STAMPS", 2)
    digests = [f"sha256:{letter * 64}" for letter in "abcd"]
    for age, digest in zip((40, 30, 20, 10), digests, strict=True):
        before = set(folder.iterdir()) if folder.exists() else set()
        stamp(file, digest)
        for new in set(folder.iterdir()) - before:
            os.utime(new, (time.time() - age, time.time() - age))
    assert [False, False, True, True] == [is_stamped(file.stat(), one) for one in digests]
