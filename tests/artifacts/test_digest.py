"""Digests: their form, and how files are hashed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.digest import (
    check_digest,
    digest_bytes,
    digest_file,
    digest_stream,
    hex_of,
)
from partitioner.errors import BundleError

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_of_bytes_and_files_agree(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"", b"abc", bytes(3 * 2**20 + 1)):
        path.write_bytes(data)
        assert digest_bytes(data) == digest_file(path)
    assert f"sha256:{EMPTY}" == digest_bytes(b"")


def test_hex_is_a_file_name() -> None:
    assert EMPTY == hex_of(f"sha256:{EMPTY}")
    assert f"sha256:{EMPTY}" == check_digest(f"sha256:{EMPTY}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        EMPTY,
        f"sha256:{EMPTY[:-1]}",
        f"sha256:{EMPTY}0",
        f"sha256:{EMPTY}\n",
        f"sha256:{EMPTY.upper()}",
        f"SHA256:{EMPTY}",
        f"sha512:{EMPTY}{EMPTY}",
        f"sha256:../../{EMPTY[6:]}",
        "sha256:" + "٣" * 64,
        None,
        7,
        ["sha256"],
        b"sha256:" + EMPTY.encode(),
    ],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(BundleError, match="is not a sha256 digest") as caught:
        check_digest(text)
    assert caught.value.advice is not None


def test_messages_are_safe_to_print() -> None:
    with pytest.raises(BundleError) as caught:
        check_digest("\x1b[31m" + "a" * 10_000)
    assert caught.value.what.isprintable()
    assert 200 > len(caught.value.what)


@pytest.mark.parametrize("over", [-1, 0, 1, 2**20 - 1, 2**20, 2**20 + 1])
def test_large_files_are_read_ahead(tmp_path: Path, over: int) -> None:
    data = os.urandom(4 * 2**20 + over)
    (tmp_path / "file").write_bytes(data)
    assert digest_bytes(data) == digest_file(tmp_path / "file")
    with (tmp_path / "file").open("rb", buffering=0) as file:
        file.seek(7)
        assert digest_bytes(data[7:]) == digest_stream(file)
        assert digest_bytes(b"") == digest_stream(file)


def test_a_file_that_fails_or_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = bytes(8 * 2**20)
    path.write_bytes(data)

    class Changing(FileIO):
        """Gives its third piece after ``act``."""

        def __init__(self, act: Callable[[], object]) -> None:
            super().__init__(path)
            self.act, self.count = act, 0

        def readinto(self, buffer: Any) -> int:
            self.count += 1
            if self.count == 3:
                self.act()
            return super().readinto(buffer)

    def fail() -> None:
        raise OSError(errno.EIO, "gone")

    with Changing(fail) as file, pytest.raises(OSError, match="gone"):
        digest_stream(file)
    with Changing(lambda: os.truncate(path, 5)) as file:
        assert digest_bytes(data[: 2 * 2**20]) == digest_stream(file)
