"""How much memory the weights of a segment take, before it is loaded and after.

An executor may say so, by a method, and an executable, by a property; who does not is taken to hold
what the segment's blobs have. The figures are estimates: of the bytes that a graph refers to, which
part a library packs for its kernels is its own affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable, Executor

__all__ = ["NOTHING", "Weighed", "Weighing", "WeightUse", "expected_weights", "held_weights"]


@dataclass(frozen=True)
class WeightUse:
    """Bytes of a segment's weights in memory.

    Args:
        mapped: read in place from the bundle's files, by all processes that have them open.
        packed: in copies that the backend has made, which are this process's own. An estimate from
            above: the bytes of all weights that the graph refers to.
    """

    mapped: int
    packed: int

    @property
    def total(self) -> int:
        return self.mapped + self.packed


#: Of a segment without weights.
NOTHING = WeightUse(0, 0)


@runtime_checkable
class Weighing(Protocol):
    """An executor that knows what it would take to load a segment."""

    def weigh(self, artifact: ArtifactFiles, device: DeviceOptions) -> WeightUse:
        """What the weights will take. Reads the graph only, which has not been checked.

        Args:
            artifact: of which the weights' files may not be there yet.

        Raises:
            BundleError: the graph is malformed.
        """
        ...


@runtime_checkable
class Weighed(Protocol):
    """An executable that knows what its weights take."""

    @property
    def weights(self) -> WeightUse: ...


def expected_weights(
    executor: Executor, artifact: ArtifactFiles, device: DeviceOptions, nbytes: int
) -> WeightUse:
    """What loading a segment will take.

    Args:
        nbytes: of the segment's blobs, in case that the executor does not know.

    Raises:
        BundleError: the graph is malformed.
    """
    if isinstance(executor, Weighing):
        return executor.weigh(artifact, device)
    return WeightUse(nbytes, 0)


def held_weights(executable: Executable, nbytes: int) -> WeightUse:
    """What the weights of a loaded segment take.

    Args:
        nbytes: of the segment's blobs, in case that the executable does not know.
    """
    return executable.weights if isinstance(executable, Weighed) else WeightUse(nbytes, 0)
