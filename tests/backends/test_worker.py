"""Compile jobs that crash, hang, eat memory or fail: each is an outcome with a message."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
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
