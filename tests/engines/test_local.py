"""How many jobs run at a time here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, cast

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
    # The compiler looks at none of what is left out.
    job: Any = CompileJob(compiler, cast("Any", None), {}, {}, options)
    with Crew(LocalEngine(2)) as crew:
        waiting = [crew.start(lambda: crew.run(job)) for _ in range(2)]
        assert [Compiled(None)] * 2 == [wait() for wait in waiting]
        assert crew.is_idle
    assert most == compiler.most


class Held:
    """A compiler that takes all memory, and does not end before it is let."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = threading.Event()
        self.let = threading.Event()

    def resources(self, *_: Any) -> Resources:
        return Resources(1.0, 2**60)

    def compile(self, *_: Any) -> Compiled:
        self.calls += 1
        self.begun.set()
        assert self.let.wait(60)
        return Compiled(None)


def test_what_waits_for_memory_when_the_crew_goes_home_is_not_begun() -> None:
    compiler = Held()
    options = CompileOptions(Path(), Path())
    # The compiler looks at none of what is left out.
    job: Any = CompileJob(compiler, cast("Any", None), {}, {}, options)
    seen: list[type[BaseException]] = []

    def wait_for_second(wait: Callable[[], Compiled]) -> None:
        try:
            wait()
        except CancelledError as error:
            seen.append(type(error))
        compiler.let.set()

    with Crew(LocalEngine(2)) as crew:
        first = crew.start(lambda: crew.run(job))
        compiler.begun.wait(60)
        watcher = threading.Thread(
            target=wait_for_second, args=(crew.start(lambda: crew.run(job)),)
        )
        watcher.start()
    watcher.join()
    assert Compiled(None) == first()
    assert ([CancelledError], 1) == (seen, compiler.calls)


def test_an_error_sends_the_crew_home_before_the_files_of_its_tasks_go() -> None:
    compiler = Held()
    compiler.let.set()
    options = CompileOptions(Path(), Path())
    # The compiler looks at none of what is left out.
    job: Any = CompileJob(compiler, cast("Any", None), {}, {}, options)
    with Crew(LocalEngine(1)) as crew:
        with pytest.raises(ZeroDivisionError), crew.over_on_error():
            assert Compiled(None) == crew.run(job)
            raise ZeroDivisionError
        with pytest.raises(CancelledError):
            crew.run(job)


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


def test_what_measures_is_not_disturbed_by_other_jobs() -> None:
    assert [4, 1] == [opened_engine("local", 4, measuring=m).width for m in (False, True)]
