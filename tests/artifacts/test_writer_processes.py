"""Writers that are ended from outside, and several at once."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.writer import BundleWriter
from partitioner.errors import OutputError
from tests.artifacts.samples import listed, write_bundle

REPOSITORY = Path(__file__).parents[2]


def start(output: Path, mode: str = "slow") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.artifacts.writing", str(output), mode]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "begun" == process.stdout.readline().strip()
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)]
)
def test_signals_leave_nothing(tmp_path: Path, number: int, code: int) -> None:
    process = start(tmp_path / "b")
    assert [] != listed(tmp_path)
    process.send_signal(number)
    assert code == finish(process)[0]
    assert [] == listed(tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    """The process may not write files larger than 1 MiB."""
    code, out, err = finish(start(tmp_path / "b", "full"))
    assert (OutputError.exit_code, "") == (code, err)
    assert "OutputError: a file cannot be written: File too large" in out
    assert "make room on the disk" in out
    assert [] == listed(tmp_path)


def test_a_killed_process_leaves_what_the_next_one_sweeps(tmp_path: Path) -> None:
    process, other = start(tmp_path / "b"), start(tmp_path / "c")
    process.kill()
    assert -signal.SIGKILL == finish(process)[0]
    left = listed(tmp_path)
    assert ["b", "c"] == sorted(re.fullmatch(r"\.(.)\.\w+\.partial", n)[1] for n in left)  # type: ignore[index]
    write_bundle(tmp_path / "b")
    assert {"b"} == set(listed(tmp_path)) - set(left)
    assert 2 == len(listed(tmp_path))  # The other one's is still there: it lives.
    other.terminate()
    finish(other)
    assert ["b"] == listed(tmp_path)


def test_a_living_process_is_let_be(tmp_path: Path) -> None:
    process = start(tmp_path / "b")
    before = listed(tmp_path)
    write_bundle(tmp_path / "b")
    assert {*before, "b"} == set(listed(tmp_path))
    process.terminate()
    finish(process)
    assert ["b"] == listed(tmp_path)
    Bundle.open(tmp_path / "b").check()


def test_the_handler_of_sigterm_is_put_back(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with BundleWriter(tmp_path / "b"):
            assert signal.SIG_DFL != signal.getsignal(signal.SIGTERM)
        assert signal.SIG_DFL == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_of_the_program_is_let_be(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with BundleWriter(tmp_path / "b"):
            assert signal.SIG_IGN == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_set_no_handler(tmp_path: Path) -> None:
    written: list[str] = []
    thread = threading.Thread(target=lambda: written.append(write_bundle(tmp_path / "b")))
    thread.start()
    thread.join()
    assert [Bundle.open(tmp_path / "b").digest] == written
