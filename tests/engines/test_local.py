"""How many jobs run at a time here."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from partitioner.backends.base import Compiled, CompileOptions, Resources
from partitioner.engines import CompileJob, opened_engine
from partitioner.engines.crew import Crew
from partitioner.engines.local import LocalEngine, available_memory
from partitioner.errors import UsageError


def test_available_memory(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  4 kB\nMemAvailable:       3 kB\n")
    assert 3072 == available_memory(tmp_path)


class Meeting:
    """A compiler that counts how many of it run at the same time."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.most = self._now = 0
        self._lock = threading.Lock()
        self._both = threading.Barrier(2)

    def resources(self, *_: Any) -> Resources:
        return Resources(1.0, self.memory)

    def compile(self, *_: Any) -> Compiled:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        if not self.memory:
            self._both.wait(60)
        with self._lock:
            self._now -= 1
        return Compiled(None)


@pytest.mark.parametrize(("memory", "most"), [(0, 2), (2**60, 1)])
def test_jobs_run_together_where_there_is_memory(memory: int, most: int) -> None:
    compiler = Meeting(memory)
    options = CompileOptions(Path(), Path())
    job: Any = CompileJob(compiler, None, {}, {}, options)  # type: ignore[arg-type]
    with Crew(LocalEngine(2)) as crew:
        waiting = [crew.start(lambda: crew.run(job)) for _ in range(2)]
        assert [Compiled(None)] * 2 == [wait() for wait in waiting]
        assert crew.is_idle
    assert most == compiler.most


def test_with_one_worker_nothing_is_done_ahead() -> None:
    said: list[int] = []
    with Crew(LocalEngine(1)) as crew:
        waiting = [crew.start(lambda number=number: said.append(number)) for number in (1, 2)]
        assert [] == said
        waiting[0]()
        assert [1] == said


def test_engines_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="no engine 'slurm'"):
        opened_engine("slurm")
    with pytest.raises(UsageError, match="0 jobs"):
        opened_engine("local", 0)
