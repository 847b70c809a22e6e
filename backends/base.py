"""What a backend must offer at build time: verdicts on nodes, and a compiler of segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import fx

from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.verdicts import CODES, Code, Judge, Rejected, Supported, Verdict

if TYPE_CHECKING:
    import torch

    from partitioner.planning.segments import Segment
    from partitioner.targets import Target
    from partitioner.weights import Layout

__all__ = [
    "CODES",
    "CacheFacts",
    "CachedCompiler",
    "Code",
    "CompileOptions",
    "Compiled",
    "Compiler",
    "Judge",
    "Outside",
    "Rejected",
    "Resources",
    "Supported",
    "Verdict",
]


@dataclass(frozen=True)
class CompileOptions:
    """How a segment is compiled.

    Args:
        workdir: for files on the way; removed by the caller.
        blobs_dir: where the weights' blobs lie.
        timeout_s: seconds after which a compiler is ended.
        memory_bytes: address space a compiler may use; None for no limit.
        log: file to which the compiler's output is appended.
        precision: ``bf16`` where products may be computed in bfloat16 on hosts that have
            instructions for it; ``f32`` where not.
        target: what is compiled for; None where the backend's device is this host.
        defer: leave the last step, which needs the backend's own compiler, to a later one: make
            what it will start from. Backends that need no such compiler do not look at it.
        settings: of each backend, as the caller gives them: backend -> name -> value.
        tune: measure on this machine what the settings leave open.
    """

    workdir: Path
    blobs_dir: Path
    timeout_s: float = 1800.0
    memory_bytes: int | None = None
    log: Path | None = None
    precision: str = "f32"
    target: Target | None = None
    defer: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    tune: bool = False

    @property
    def limits(self) -> dict[str, Any]:
        """What ``worker.run_job`` takes of it."""
        return {"timeout_s": self.timeout_s, "memory_bytes": self.memory_bytes, "log": self.log}


@dataclass(frozen=True)
class Resources:
    """What compiling a segment takes, by estimate: engines make room for it.

    Args:
        cpus: threads that it keeps busy.
        memory_bytes: of all its processes, at their peak.
    """

    cpus: float = 1.0
    memory_bytes: int = 2 * 2**30


@dataclass(frozen=True)
class Compiled:
    """What a compiler made of a segment.

    Attributes:
        graph: a file that becomes a blob; None where the backend needs none.
        weights: digests of the blobs that the graph refers to.
        options: for the executor.
        report: for people.
        constants: a file that becomes a blob, too, and the last of the artifact's weights: numbers
            that the compiler has made; None where there are none.
        media_type: of the graph, where the backend has several.
        limited: whether limits of time or memory made it what it is: with more, the compiler might
            have given another.
    """

    graph: Path | None
    weights: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    report: dict[str, Any] = field(default_factory=dict[str, Any])
    constants: Path | None = None
    media_type: str = ""
    limited: bool = False

    def weight_files(self, path_of: Callable[[str], Path]) -> tuple[Path, ...]:
        """The files of all weights in the order of the artifact's, before they are a bundle's.

        Args:
            path_of: gives a blob's file by digest.
        """
        own = () if self.constants is None else (self.constants,)
        return (*(path_of(digest) for digest in self.weights), *own)


class Compiler(Protocol):
    """A backend at build time.

    It may have a method ``resources(segment, constants, options) -> Resources``, too; without it
    the defaults of :class:`Resources` are assumed.
    """

    name: str

    def verdict(self, node: fx.Node, target: Target) -> Verdict: ...

    def compile(
        self,
        segment: Segment,
        constants: Mapping[str, torch.Tensor],
        layout: Layout,
        options: CompileOptions,
    ) -> Compiled: ...


# --- what a compile cache asks -------------------------------------------------------------------


@dataclass(frozen=True)
class CacheFacts:
    """What a backend's artifacts depend on besides the segment itself. JSON values throughout.

    The segment's graph, its small constants and the types of its tensors are in every key.

    Args:
        compiler: versions of all that takes part in compiling, our own code among it
            (:mod:`partitioner.backends.facts`).
        options: those of :class:`CompileOptions` and of the backend that change the artifact;
            not limits of time and memory, which change whether there is one.
        target: what of the target, or of this machine, the artifact depends on; None if it runs
            on whatever the backend runs on.
        weight_free: whether an artifact fits weights that lie elsewhere or have other numbers,
            and tensors of other names, once :meth:`CachedCompiler.moved` has put in the new ones.
            Where not, the digests of the weights and the names of the tensors are in the key.
        limited: whether an artifact may come out :attr:`Compiled.limited`. Such a one is found
            again under the same limits only.
    """

    compiler: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    target: Mapping[str, Any] | None = None
    weight_free: bool = False
    limited: bool = False


@dataclass(frozen=True)
class Outside:
    """What an artifact may name of what lies around it.

    Args:
        inputs, outputs: names of the segment's tensors.
        places: where each constant that lies in a blob is, by the sorted names of constants.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    places: tuple[ConstantRef, ...]

    @property
    def blobs(self) -> tuple[str, ...]:
        """The digests of the blobs, sorted."""
        return tuple(sorted({place.blob for place in self.places}))


class CachedCompiler(Compiler, Protocol):
    """A compiler whose artifacts may be kept for other builds. One without these is not cached.

    It is given segments in canonical form: nodes and constants have names that depend on their
    order only, so that the artifact depends on nothing else of them.
    """

    def outside(self, segment: Segment, constants: Mapping[str, torch.Tensor]) -> set[str]:
        """The constants of a segment that must lie in blobs."""
        ...

    def cache_facts(self, segment: Segment, target: Target, options: CompileOptions) -> CacheFacts:
        """What artifacts for a target depend on."""
        ...

    def moved(self, kept: Compiled, old: Outside, new: Outside) -> Compiled:
        """An artifact that was made for ``old``, as a compile for ``new`` gives it, to the byte.

        Called only where the facts say ``weight_free``. Files of ``kept`` may be written to.
        """
        ...
