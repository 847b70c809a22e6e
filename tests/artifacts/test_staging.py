"""Temporary directories: locked while their process lives, swept when it does not."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts import staging as module
from partitioner.artifacts.staging import Staging
from tests.artifacts.samples import listed

HEX = "0123456789ab"


def fill(path: Path, text: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "text").write_text(text)
    return path


def text(path: Path) -> str:
    return (path / "text").read_text()


@pytest.fixture(params=["exchange", "aside"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of replacing: in one step, and where the file system cannot do that."""
    if request.param == "aside":
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    return request.param


def test_publish(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "out")
    fill(staging.path, "new")
    staging.publish()
    staging.discard()
    assert (["out"], "new") == (listed(tmp_path), text(tmp_path / "out"))


def test_discard(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "out")
    fill(staging.path, "new")
    staging.discard()
    staging.discard()
    assert [] == listed(tmp_path)


def test_publish_in_place_of_another(tmp_path: Path, way: str) -> None:
    fill(tmp_path / "out", "old")
    staging = Staging(tmp_path / "out")
    fill(staging.path, "new")
    staging.publish(replace=True)
    assert (["out"], "new") == (listed(tmp_path), text(tmp_path / "out"))


def test_publish_does_not_replace_by_itself(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "out")
    fill(tmp_path / "out", "old")
    with pytest.raises(FileExistsError):
        staging.publish()
    staging.discard()
    assert (["out"], "old") == (listed(tmp_path), text(tmp_path / "out"))


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_was_moved_aside_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    fill(tmp_path / "out", "old")
    staging = Staging(tmp_path / "out")
    plain = Path.rename

    def rename(self: Path, target: Path) -> Any:
        if self == staging.path:
            raise error
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(error):
        staging.publish(replace=True)
    staging.discard()
    assert (["out"], "old") == (listed(tmp_path), text(tmp_path / "out"))


def test_the_exchange_is_used_here(tmp_path: Path) -> None:
    one, other = fill(tmp_path / "one", "1"), fill(tmp_path / "other", "2")
    if module._exchange(one, other):
        assert ("2", "1") == (text(one), text(other))
    else:
        assert ("1", "2") == (text(one), text(other))


def test_an_exchange_that_fails_for_another_reason(tmp_path: Path) -> None:
    fill(tmp_path / "one", "1")
    with pytest.raises(FileNotFoundError):
        module._exchange(tmp_path / "one", tmp_path / "nothing")


# --- sweeping -----------------------------------------------------------------------------------


def test_what_nobody_holds_is_swept(tmp_path: Path) -> None:
    fill(tmp_path / f".out.{HEX}.partial", "stale")
    fill(tmp_path / f".out.{HEX}.replaced", "old")
    fill(tmp_path / "out", "new")
    Staging(tmp_path / "out").discard()
    assert (["out"], "new") == (listed(tmp_path), text(tmp_path / "out"))


def test_what_was_moved_aside_by_a_killed_process_is_put_back(tmp_path: Path) -> None:
    fill(tmp_path / f".out.{HEX}.replaced", "old")
    Staging(tmp_path / "out").discard()
    assert (["out"], "old") == (listed(tmp_path), text(tmp_path / "out"))


def test_what_somebody_holds_is_let_be(tmp_path: Path) -> None:
    for kind in ("partial", "replaced"):
        held = fill(tmp_path / f".out.{HEX}.{kind}", "held")
        handle = os.open(held, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        Staging(tmp_path / "out").discard()
        assert "held" == text(held)
        os.close(handle)
    first, second = Staging(tmp_path / "out"), Staging(tmp_path / "out")
    assert (True, True) == (first.path.is_dir(), second.path.is_dir())
    first.discard()
    assert second.path.is_dir()
    second.discard()


@pytest.mark.parametrize(
    "name",
    [
        f".other.{HEX}.partial",
        f"out.{HEX}.partial",
        f".out.{HEX}.partial.old",
        f".out.{HEX[:-1]}.partial",
        ".out.partial",
        f".outx{HEX}.partial",
        f".out.more.{HEX}.partial",
    ],
)
def test_other_names_are_let_be(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name, "theirs")
    Staging(tmp_path / "out").discard()
    assert [name] == listed(tmp_path)


def test_links_and_files_of_that_name_are_let_be(tmp_path: Path) -> None:
    target = fill(tmp_path / "precious", "theirs")
    (tmp_path / f".out.{HEX}.partial").symlink_to(target)
    (tmp_path / ".out.ba9876543210.partial").write_text("a file")
    Staging(tmp_path / "out").discard()
    assert 3 == len(listed(tmp_path))
    assert "theirs" == text(target)


def test_names_are_no_patterns(tmp_path: Path) -> None:
    fill(tmp_path / f".a.b.{HEX}.partial", "theirs")
    Staging(tmp_path / "a*b").discard()
    Staging(tmp_path / "a?b").discard()
    assert [f".a.b.{HEX}.partial"] == listed(tmp_path)


def test_without_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    fill(tmp_path / f".out.{HEX}.partial", "perhaps alive")
    staging = Staging(tmp_path / "out")
    fill(staging.path, "new")
    staging.publish()
    assert {"out", f".out.{HEX}.partial"} == set(listed(tmp_path))


def test_swept_between_making_and_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, swept = os.open, list[Path]()

    def opened(path: Any, *args: Any) -> int:
        if not swept and str(path).endswith(".partial"):
            swept.append(path)
            Path(path).rmdir()
        return plain(path, *args)

    monkeypatch.setattr(os, "open", opened)
    staging = Staging(tmp_path / "out")
    assert staging.path.is_dir()
    assert staging.path not in swept
    staging.discard()


def test_many_writers_to_one_output(tmp_path: Path, way: str) -> None:
    """Each publishes; the last one stays, whole, and nothing else."""
    fill(tmp_path / "out", "first")
    faults: list[BaseException] = []

    def write(number: int) -> None:
        staging = Staging(tmp_path / "out")
        try:
            fill(staging.path, str(number))
            staging.publish(replace=True)
        except OSError as error:
            # Without an exchange two of them may be at the same rename; one is told so.
            if way == "exchange":
                faults.append(error)
        finally:
            staging.discard()

    for round_ in range(5):
        threads = [threading.Thread(target=write, args=(round_ * 10 + i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [] == faults
    Staging(tmp_path / "out").discard()
    assert ["out"] == listed(tmp_path)
    assert 0 <= int(text(tmp_path / "out")) < 50
