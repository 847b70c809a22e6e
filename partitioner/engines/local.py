"""Compiling in this machine's warm workers, several at a time where there is room."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path

from partitioner.backends.base import Compiled
from partitioner.backends.worker import stop_worker
from partitioner.engines.base import CompileJob, compile_here
from partitioner.runtime.cpus import usable_cpus

__all__ = ["LocalEngine", "available_memory", "default_jobs"]

#: Compilers have threads of their own, so a job is given two CPUs, and memory for a worker with its
#: libraries (0.6 GiB) and what a compiler takes of a stage of some hundred million parameters.
_CPUS = 2
_MEMORY = 4 * 2**30


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that programs can take now without swapping, by ``/proc/meminfo``; None if unknown."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = dict(line.split(":", 1) for line in lines if ":" in line).get("MemAvailable")
    return None if found is None else int(found.split()[0]) * 2**10


def default_jobs() -> int:
    """Jobs at a time on this machine: by its CPUs and memory, at least one."""
    memory = available_memory()
    by_memory = usable_cpus() if memory is None else memory // _MEMORY
    return max(1, min(usable_cpus() // _CPUS, by_memory))


class LocalEngine:
    """Compiles on this machine.

    Args:
        jobs: how many at a time at most; a job waits, too, for the memory that it asks for, unless
            no other runs.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.width = default_jobs() if jobs is None else jobs
        self._budget = available_memory()
        self._taken = 0
        self._running = 0
        self._closed = False
        self._changed = threading.Condition()

    def run(self, job: CompileJob) -> Compiled:
        """Compile in a worker of this machine.

        Raises:
            CompileError: it cannot be compiled.
            CancelledError: the engine was closed while the job waited for memory.
        """
        if self.width == 1:
            return compile_here(job)
        with self._room(job.resources.memory_bytes):
            return compile_here(job)

    @contextmanager
    def _room(self, need: int) -> Generator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(need))
            if self._closed:
                raise CancelledError
            self._taken += need
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken -= need
                self._running -= 1
                self._changed.notify_all()

    def _fits(self, need: int) -> bool:
        if not self._running or self._budget is None:
            return True
        return self._taken + need <= self._budget

    def close(self) -> None:
        """End the workers, if there were several; one is kept for the next build."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self.width > 1:
            stop_worker()
