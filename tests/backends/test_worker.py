"""Compile jobs that crash, hang, eat memory or fail: each is an outcome with a message."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from partitioner.backends.worker import run_job, stop_worker
from partitioner.errors import CompileError

HERE = "tests.backends.jobs"


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """One worker for all, which imports the jobs of this folder by name."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    stop_worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        yield
    stop_worker()


def job(name: str, directory: Path, **limits: Any) -> Any:
    limits.setdefault("timeout_s", 60.0)
    return run_job(f"{HERE}:{name}", directory, what="segment 'x'", where="m.py:3", **limits)


def failed(name: str, directory: Path, **limits: Any) -> str:
    with pytest.raises(CompileError) as caught:
        job(name, directory, **limits)
    assert caught.value.advice
    return str(caught.value)


def test_a_job_gives_a_value(tmp_path: Path) -> None:
    assert {"answer": 42} == job("succeed", tmp_path)
    assert "said on the way" in (tmp_path / "log.txt").read_text()


def test_jobs_start_from_the_same_state(tmp_path: Path) -> None:
    results = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        results.append(job("count", tmp_path / name))
    assert [1, 1] == results


def test_a_crash_names_the_signal(tmp_path: Path) -> None:
    message = failed("crash", tmp_path)
    assert "crashed with SIGSEGV" in message
    assert "m.py:3" in message
    assert {"answer": 42} == job("succeed", tmp_path)


def test_a_kill_speaks_of_memory(tmp_path: Path) -> None:
    assert "killed, most likely for want of memory" in failed("be_killed", tmp_path)


def test_a_hang_is_ended(tmp_path: Path) -> None:
    assert "did not end within 0.5 s" in failed("hang", tmp_path, timeout_s=0.5)


def test_programs_that_a_job_has_started_end_with_it(tmp_path: Path) -> None:
    assert "did not end within 2 s" in failed("start_a_program_and_hang", tmp_path, timeout_s=2)
    pid = int((tmp_path / "pid").read_text())
    while is_alive(pid):
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Not ended; one that nobody has collected yet is."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_a_memory_limit_holds(tmp_path: Path) -> None:
    message = failed("eat_memory", tmp_path, memory_bytes=4 * 2**30)
    assert "ran out of memory" in message


def test_an_exception_shows_the_end_of_the_log(tmp_path: Path) -> None:
    message = failed("raise_error", tmp_path)
    assert "exit code 1" in message
    assert "ValueError: nobody expected this" in message


def test_an_error_of_ours_arrives_as_it_is(tmp_path: Path) -> None:
    message = failed("raise_ours", tmp_path)
    assert "the op is strange" in message
    assert "model.py:7" in message


def test_a_worker_that_was_killed_is_started_again(tmp_path: Path) -> None:
    pid = job("parent_pid", tmp_path)
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text():
        os.sched_yield()
    assert {"answer": 42} == job("succeed", tmp_path)


def test_a_job_whose_worker_is_killed_is_begun_again(tmp_path: Path) -> None:
    assert "well" == job("kill_the_worker_once", tmp_path)


def test_a_job_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    assert "segment 'x' was killed" in failed("kill_the_worker", tmp_path)
    assert "xxx" == (tmp_path / "times").read_text()


def test_jobs_of_several_threads_run_at_the_same_time(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor() as threads:
        assert [None, None] == list(threads.map(lambda folder: job("meet", folder), folders))
