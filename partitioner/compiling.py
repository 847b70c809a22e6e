"""Compile the segments of a plan, each by the first backend that can.

Verdicts say what a backend takes; whether its compiler then manages is seen only here. A segment
that its backend fails on goes to the next backend of the target that takes all of its nodes. The
failure stands in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from partitioner.artifacts.manifest import Artifact
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends import find_backend
from partitioner.backends.base import Compiled, CompileOptions, Rejected
from partitioner.caching.segments import compile_segment
from partitioner.engines.crew import Crew
from partitioner.errors import CompileError
from partitioner.planning.graphs import is_op
from partitioner.planning.planned import Planned
from partitioner.planning.segments import Segment
from partitioner.planning.tables import HostCall
from partitioner.weights import Layout

if TYPE_CHECKING:
    from partitioner.caching.cache import CompileCache
    from partitioner.plan import Plan
    from partitioner.planning.verdicts import Judge
    from partitioner.prepared import Prepared
    from partitioner.targets import Target

__all__ = ["Compilation", "Pending", "SegmentCompiler", "moved"]

_GRAPH_TYPES = {"openvino": "application/vnd.partitioner.openvino.v1"}
_ONNX_TYPE = "application/vnd.partitioner.onnx.v1"
_CONSTANTS_TYPE = "application/vnd.partitioner.weights.v1"


#: The backend that took a segment, what it made of it, and what the ones before it said.
First = tuple[str, Compiled, dict[str, str]]

#: segment -> what waits for it.
Pending = dict[str, Callable[[], First]]


@dataclass
class Compilation:
    """What came of compiling a plan.

    Attributes:
        artifacts: by segment.
        backends: segment -> the backend that took it in the end, where it is not the plan's.
        report: segment -> what its compilers said, where that is worth knowing.
    """

    artifacts: dict[str, Artifact] = field(default_factory=dict[str, Artifact])
    backends: dict[str, str] = field(default_factory=dict[str, str])
    report: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class SegmentCompiler:
    """Compiles segments into the blobs of a bundle.

    Attributes:
        judges: backend name -> what gives its verdicts, overrides included.
        compilers: those made so far, by backend name.
        cache: what other builds have compiled; None for none.
        crew: runs what compiles, on an engine.
    """

    target: Target
    judges: Mapping[str, Judge]
    compilers: dict[str, Any]
    writer: BundleWriter
    cache: CompileCache | None
    crew: Crew

    def outside(self, planned: Planned, constants: Mapping[str, torch.Tensor]) -> set[str]:
        """The constants that any backend that may come to compile a segment wants in blobs.

        Raises:
            MissingDependencyError: a library that a backend of the plan needs is not installed.
        """
        names: set[str] = set()
        for segment in planned.segments.values():
            if isinstance(segment, Segment):
                for backend in self._candidates(segment):
                    names |= self._compiler(backend).outside(segment, constants)
        return names

    def start(
        self,
        planned: Planned,
        constants: Mapping[str, torch.Tensor],
        layout: Layout,
        options: CompileOptions,
    ) -> Pending:
        """Begin to compile every segment: by segment, what gives how that went."""
        pending: Pending = {}
        for name, segment in planned.segments.items():
            if isinstance(segment, Segment):
                candidates = self._candidates(segment)
                first = partial(self._first, segment, candidates, constants, layout, options)
                pending[name] = self.crew.start(first)
        return pending

    def finish(
        self, planned: Planned, pending: Pending, tell: Callable[[int, int], None]
    ) -> Compilation:
        """Wait for every segment, in order.

        Args:
            tell: is called with (done, total).

        Raises:
            CompileError: the last backend's, for the first segment that none compiles.
        """
        done = Compilation()
        for count, (name, segment) in enumerate(planned.segments.items()):
            tell(count, len(planned.segments))
            if isinstance(segment, HostCall):
                compiled = self.compilers["host"].compile_host(segment.op, segment.options)
                done.artifacts[name] = self._artifact("host", compiled)
                continue
            backend, compiled, failures = pending[name]()
            done.artifacts[name] = self._artifact(backend, compiled)
            if backend != segment.backend:
                done.backends[name] = backend
            notes = {"failures": failures, **_worth_knowing(compiled.report)}
            if any(notes.values()):
                done.report[name] = notes
        return done

    def _first(
        self,
        segment: Segment,
        candidates: Sequence[str],
        constants: Mapping[str, torch.Tensor],
        layout: Layout,
        options: CompileOptions,
    ) -> First:
        failures: dict[str, str] = {}
        for backend in candidates:
            own = replace(segment, backend=backend)
            try:
                compiled = compile_segment(
                    self._compiler(backend),
                    own,
                    constants,
                    layout,
                    options,
                    self.target,
                    self.cache,
                    self.crew.run,
                )
            except CompileError as error:
                if backend == candidates[-1]:
                    raise
                failures[backend] = error.what
                continue
            return backend, compiled, failures
        raise AssertionError(segment.name)

    def _candidates(self, segment: Segment) -> list[str]:
        """The plan's backend, then those of the target that take all nodes and are installed."""
        others = [
            name
            for name in self.target.backends
            if name not in (segment.backend, "host")
            and name in self.judges
            and not find_backend(name).missing_to_build()
            and not find_backend(name).missing()
            and self._takes(name, segment)
        ]
        return [segment.backend, *others]

    def _takes(self, backend: str, segment: Segment) -> bool:
        ops = [n for n in segment.graph.nodes if is_op(n)]
        verdicts = (self.judges[backend].verdict(node, self.target) for node in ops)
        return not any(isinstance(verdict, Rejected) for verdict in verdicts)

    def _compiler(self, backend: str) -> Any:
        if backend not in self.compilers:
            self.compilers[backend] = find_backend(backend).make_compiler()
        return self.compilers[backend]

    def _artifact(self, backend: str, compiled: Compiled) -> Artifact:
        graph: str | None = None
        if compiled.graph is not None:
            kind = compiled.media_type or _GRAPH_TYPES.get(backend, _ONNX_TYPE)
            graph = self.writer.add_file(compiled.graph, kind).digest
            compiled.graph.unlink()
        weights = compiled.weights
        if compiled.constants is not None:
            weights = (*weights, self.writer.add_file(compiled.constants, _CONSTANTS_TYPE).digest)
        return Artifact(backend, graph, weights, compiled.options)


def _worth_knowing(report: Mapping[str, Any]) -> dict[str, Any]:
    """The steps of a compiler that had to try again."""
    steps = report.get("steps", ())
    return {"steps": list(steps)} if len(steps) > 1 else {}


def moved(prepared: Prepared, backends: Mapping[str, str]) -> Prepared:
    """The same with other backends for some segments."""
    if not backends:
        return prepared
    planned = prepared.planned
    segments = {
        name: replace(segment, backend=backends[name]) if name in backends else segment
        for name, segment in planned.segments.items()
    }
    planned = replace(planned, segments=segments, plan=_moved(planned.plan, backends))
    cases = tuple(replace(c, plan=_moved(c.plan, backends)) for c in prepared.cases)
    return replace(prepared, planned=planned, cases=cases)


def _moved(plan: Plan, backends: Mapping[str, str]) -> Plan:
    infos = {
        name: replace(info, backend=backends.get(name, info.backend))
        for name, info in plan.segments.items()
    }
    return replace(plan, segments=infos)
