"""What an engine is: it runs compile jobs, of which each says what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.base import Compiled, CompileOptions, Resources

if TYPE_CHECKING:
    from partitioner.planning.segments import Segment

__all__ = ["CompileJob", "Engine", "compile_here"]


@dataclass(frozen=True)
class CompileJob:
    """One segment for one backend. Fields as the arguments of a compiler's ``compile``."""

    compiler: Any
    segment: Segment
    constants: Mapping[str, torch.Tensor]
    layout: Mapping[str, ConstantRef]
    options: CompileOptions

    @property
    def names(self) -> set[str]:
        """The constants that the segment reads."""
        return {cast(str, n.target) for n in self.segment.graph.nodes if n.op == "get_attr"}

    @property
    def resources(self) -> Resources:
        """What the compiler says that it takes; a limit of memory that was set goes before that."""
        wanted = Resources()
        if hasattr(self.compiler, "resources"):
            wanted = self.compiler.resources(self.segment, self.constants, self.options)
        limit = self.options.memory_bytes
        return wanted if limit is None else Resources(wanted.cpus, limit)


class Engine(Protocol):
    """Runs compile jobs.

    Attributes:
        width: from how many threads at a time :meth:`run` is to be called; 1: one after the other.
    """

    width: int

    def run(self, job: CompileJob) -> Compiled:
        """Compile a segment; the files of what comes of it lie in the job's working directory.

        A job that is ended by what is not its own, such as the death of a worker, is run again.

        Raises:
            CompileError: it cannot be compiled.
        """
        ...

    def close(self) -> None:
        """Give back what it took; jobs that still run are ended."""
        ...


def compile_here(job: CompileJob) -> Compiled:
    """Compile in this process and its worker."""
    return job.compiler.compile(job.segment, job.constants, job.layout, job.options)
