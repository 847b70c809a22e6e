"""How a bundle is loaded for a benchmark, in this process or in one of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from partitioner.backends.execution import Memory, Mode
from partitioner.hostops import import_host_op
from partitioner.runtime import Pipeline, QueueOptions, load
from partitioner.runtime.batches import BatchedPipeline

__all__ = ["Serving"]


@dataclass(frozen=True)
class Serving:
    """A bundle, and options as of :func:`partitioner.load`.

    Args:
        path: of the bundle, or its address in a store.
        host_ops: each as ``module:name``, since another process imports them anew.
    """

    path: str
    threads: int | None = None
    memory: Memory = "fast"
    mode: Mode = "latency"
    pinning: bool = False
    host_ops: tuple[str, ...] = ()
    variant: Mapping[str, str] | None = None
    require_signature: tuple[str, ...] = ()
    allow_executable: bool = False

    def load(self, workers: int = 1, limit: int = 64) -> Pipeline | BatchedPipeline:
        """Load it; the queue serves so many requests at a time and lets so many wait.

        Raises:
            as :func:`partitioner.load`.
        """
        return load(
            self.path,
            threads=self.threads,
            memory=self.memory,
            mode=self.mode,
            pinning=self.pinning,
            host_ops=[import_host_op(text) for text in self.host_ops],
            variant=self.variant,
            require_signature=self.require_signature or None,
            allow_executable=self.allow_executable,
            queue=QueueOptions(workers=workers, limit=limit),
        )
