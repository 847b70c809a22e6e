"""What a backend must offer at build time: verdicts on nodes, and a compiler of segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import fx

from partitioner.backends.verdicts import CODES, Code, Judge, Rejected, Supported, Verdict

if TYPE_CHECKING:
    import torch

    from partitioner.planning.segments import Segment
    from partitioner.targets import Target
    from partitioner.weights import Layout

__all__ = [
    "CODES",
    "Code",
    "CompileOptions",
    "Compiled",
    "Compiler",
    "Judge",
    "Rejected",
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
    """

    graph: Path | None
    weights: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    report: dict[str, Any] = field(default_factory=dict[str, Any])
    constants: Path | None = None
    media_type: str = ""

    def weight_files(self, path_of: Callable[[str], Path]) -> tuple[Path, ...]:
        """The files of all weights in the order of the artifact's, before they are a bundle's.

        Args:
            path_of: gives a blob's file by digest.
        """
        own = () if self.constants is None else (self.constants,)
        return (*(path_of(digest) for digest in self.weights), *own)


class Compiler(Protocol):
    """A backend at build time."""

    name: str

    def verdict(self, node: fx.Node, target: Target) -> Verdict: ...

    def compile(
        self,
        segment: Segment,
        constants: Mapping[str, torch.Tensor],
        layout: Layout,
        options: CompileOptions,
    ) -> Compiled: ...
