"""Tasks in threads, their results in the order in which they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from partitioner.backends.base import Compiled
from partitioner.engines.base import CompileJob, Engine
from partitioner.errors import CompileError

__all__ = ["Crew"]

T = TypeVar("T")


class Crew:
    """As many threads as an engine can use. A context, at whose end no task runs any more.

    With an engine of width 1 there is no thread: a task runs when its result is asked for, so
    everything happens in the order in which it is written.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._is_over = False
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: list[Future[Any]] = []

    @property
    def is_wide(self) -> bool:
        """Whether tasks run while nobody waits for them."""
        return self.engine.width > 1

    @property
    def is_idle(self) -> bool:
        """Whether no task is running or waiting."""
        return all(task.done() for task in self._tasks)

    def start(self, task: Callable[[], T]) -> Callable[[], T]:
        """Begin a task; gives what waits for its result, and raises what it has raised."""
        if not self.is_wide:
            return task
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.engine.width, "compile")
        future = self._threads.submit(task)
        self._tasks.append(future)
        return future.result

    def run(self, job: CompileJob) -> Compiled:
        """Let the engine compile.

        Raises:
            CompileError: it cannot be compiled.
            CancelledError: the crew has been sent home: what the engine says is then of no worth.
        """
        if self._is_over:
            raise CancelledError
        try:
            return self.engine.run(job)
        except CompileError:
            if self._is_over:
                raise CancelledError from None
            raise

    @contextmanager
    def over_on_error(self) -> Generator[None]:
        """Send the crew home when an error passes, before what its tasks use is taken away.

        A compiler whose files vanish would fail by that, and the failure be believed.
        """
        try:
            yield
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._threads is not None:
            # No new one; those that run are ended by the engine.
            self._threads.shutdown(wait=False, cancel_futures=True)
        self.engine.close()
        if self._threads is not None:
            self._threads.shutdown(wait=True)
