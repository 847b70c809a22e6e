"""The phases of a build: timed, told about, and tidied up after."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from partitioner.artifacts.writer import as_output_errors
from partitioner.backends.worker import stop_worker

__all__ = ["Phases", "Progress", "working_directory"]

#: Called with (phase, done, total); phases are those of a build. Where it is for several targets,
#: the target stands before the phase.
Progress = Callable[[str, int, int], None]


class Phases:
    """Times phases and tells about them.

    Attributes:
        seconds: of each phase that has ended, by name.
        target: stands before the names of phases, if it is not empty.
    """

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.target = ""
        self.name = ""

    @contextmanager
    def __call__(self, name: str, *, ends: bool = True) -> Generator[None, None, None]:
        """A phase, or a part of one; ``ends``: the last."""
        self.name = f"{self.target} {name}".strip()
        self.tell(0, 1)
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + seconds
        if ends:
            self.tell(1, 1)

    def tell(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.name, done, total)


@contextmanager
def working_directory() -> Generator[Path, None, None]:
    """A directory for files on the way, gone at the end whatever happens."""
    path = Path(tempfile.mkdtemp(prefix="partitioner-"))
    try:
        with as_output_errors(path):
            yield path
    except BaseException as error:
        # Whatever ends the build from outside must not leave a compiler running.
        if not isinstance(error, Exception):
            stop_worker()
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)
