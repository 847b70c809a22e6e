"""A compiler whose process dies, for tests of what an engine then does."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partitioner.backends.base import Compiled


@dataclass(frozen=True)
class Dying:
    """Another compiler, of which the process that calls it is killed so many times."""

    inner: Any
    marks: Path
    times: int

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    def compile(self, *arguments: Any) -> Compiled:
        died = len(list(self.marks.iterdir()))
        if died < self.times:
            (self.marks / str(died)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.compile(*arguments)
