"""Why a plan is cut where it is: a reason for the border between each step and the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import fx

from partitioner.backends.base import Rejected
from partitioner.buffers.timeline import written
from partitioner.passes.ops import op_name
from partitioner.plan import Loop, Plan, Step
from partitioner.planning.cost import node_seconds, work_of
from partitioner.planning.planned import Planned
from partitioner.planning.tables import HostCall
from partitioner.program import Program, is_getitem
from partitioner.specs import fixed_nbytes
from partitioner.targets import Target

__all__ = ["Border", "Kind", "explain_borders", "nodes_of_segments"]

#: ``rejected``: a node of one side is not taken by the backend of the other; ``cheaper``: it is,
#: but is placed better; ``loop``: one side runs several times; ``host-op``: one side is NumPy code;
#: ``shared``: one side is a sub-graph that is called from several places and compiled once;
#: ``limit``: together they are over a limit of their backend; ``order``: the two sides do not wait
#: for the same things.
Kind = Literal["rejected", "cheaper", "loop", "host-op", "shared", "limit", "order"]


@dataclass(frozen=True)
class Border:
    """Between two steps that follow one another.

    Attributes:
        before, after: names of segments or loops.
        reason: for people.
        nbytes: what the later step reads of the earlier one, as far as sizes are known.
        node: of a rejection, the first node that is rejected.
        source: its line.
        backend: that rejects it.
        code, message: of the rejection.
        nodes: how many nodes of the same side that backend rejects.
    """

    before: str
    after: str
    kind: Kind
    reason: str
    nbytes: int
    node: str = ""
    source: str = ""
    backend: str = ""
    code: str = ""
    message: str = ""
    nodes: int = 0


def explain_borders(planned: Planned, program: Program, target: Target) -> tuple[Border, ...]:
    """The borders of a plan, in its order; those within a loop after the one before it."""
    explaining = _Explaining(planned, program, target, nodes_of_segments(planned))
    return tuple(explaining.borders(planned.plan.steps))


def nodes_of_segments(planned: Planned) -> dict[str, list[fx.Node]]:
    """The ops that each segment stands for, in the program's order; of host ops their one node.

    Parts of a program that are equal share a segment, which then stands for the nodes of them all.
    """
    nodes: dict[str, list[fx.Node]] = {name: [] for name in planned.segments}
    for node, segment in planned.origins.items():
        if not is_getitem(node):
            nodes[segment].append(node)
    return nodes


@dataclass(frozen=True)
class _Explaining:
    planned: Planned
    program: Program
    target: Target
    nodes: Mapping[str, Sequence[fx.Node]]

    def borders(self, steps: Sequence[Step]) -> Iterator[Border]:
        for step, following in [*pairwise(steps), *((step, None) for step in steps[-1:])]:
            if isinstance(step, Loop):
                yield from self.borders(step.body)
            if following is not None:
                yield self.between(step, following)

    def between(self, before: Step, after: Step) -> Border:
        names, nbytes = (_name(before), _name(after)), _bytes(self.planned.plan, before, after)
        for step in (before, after):
            if isinstance(step, Loop):
                return Border(*names, "loop", _loop_reason(step), nbytes)
        for name in names:
            segment = self.planned.segments[name]
            if isinstance(segment, HostCall):
                reason = f"{segment.op} is a host op: NumPy code that runs beside the backends"
                return Border(*names, "host-op", reason, nbytes)
        backends = tuple(self.planned.plan.segments[name].backend for name in names)
        if backends[0] != backends[1]:
            return self.between_backends(names, backends, nbytes)
        if names[1] in self.planned.splits:
            reason = f"one segment of both would be over a limit: {self.planned.splits[names[1]]}"
            return Border(*names, "limit", reason, nbytes)
        graphs = [{self.graph_name(n) for n in self.nodes[name]} for name in names]
        if graphs[0] != graphs[1]:
            shared = sorted((graphs[0] | graphs[1]) - {"main"}) or ["main"]
            reason = f"{', '.join(shared)} is run from several places and compiled once"
            return Border(*names, "shared", reason, nbytes)
        return Border(*names, "order", self.order_reason(before, after), nbytes)

    def between_backends(
        self, names: tuple[str, str], backends: tuple[str, ...], nbytes: int
    ) -> Border:
        """The side with the less preferred backend is there for a reason."""
        ranks = [self.target.backends.index(backend) for backend in backends]
        low, high = (0, 1) if ranks[0] > ranks[1] else (1, 0)
        for side, refusing in ((low, backends[high]), (high, backends[low])):
            refused = self.refused(names[side], refusing)
            if refused and (side == low or not self.could_all(names[low], refusing)):
                return _rejection(names, refusing, refused, nbytes)
        reason = self.price_reason(names[low], backends[low], backends[high])
        return Border(*names, "cheaper", reason, nbytes)

    def could_all(self, name: str, backend: str) -> bool:
        takers = self.planned.placement.verdicts.takers
        return all(backend in takers.get(node, ()) for node in self.nodes[name])

    def refused(self, name: str, backend: str) -> list[tuple[fx.Node, Rejected]]:
        rejections = self.planned.placement.rejections
        found = [(node, rejections.get(node, {}).get(backend)) for node in self.nodes[name]]
        return [(node, rejected) for node, rejected in found if rejected is not None]

    def price_reason(self, name: str, backend: str, other: str) -> str:
        count = len(self.nodes[name])
        start = f"{other} could take {'its node' if count == 1 else f'all {count} nodes'} of {name}"
        if not self.target.devices:
            return f"{start}, but comes later in the target's order"
        seconds = {one: self.seconds(name, one) for one in (backend, other)}
        told = ", ".join(f"{value * 1e6:.3g} us on {one}" for one, value in seconds.items())
        return f"{start}, but with calls and borders it is cheaper here; its ops take {told}"

    def seconds(self, name: str, backend: str) -> float:
        device = self.target.device_of(backend)
        return sum(node_seconds(work_of(node), device) for node in self.nodes[name])

    def graph_name(self, node: fx.Node) -> str:
        return next(name for name, graph in self.program.all_graphs() if graph is node.graph)

    def order_reason(self, before: Step, after: Step) -> str:
        """Two segments of one backend and graph that are not one."""
        makers = dict(self.makers(self.planned.plan.steps))
        waits = [makers[v] for v in _reads(after) if v in makers and makers[v] != _name(before)]
        if waits:
            others = ", ".join(dict.fromkeys(waits))
            return f"{_name(after)} waits for {others}, too, and {_name(before)} does not"
        return f"{_name(before)} is needed earlier than {_name(after)}, by what runs elsewhere"

    def makers(self, steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
        for step in steps:
            yield from ((value, _name(step)) for value in written(step))
            if isinstance(step, Loop):
                yield from self.makers(step.body)


def _rejection(
    names: tuple[str, str], backend: str, refused: Sequence[tuple[fx.Node, Rejected]], nbytes: int
) -> Border:
    node, rejected = refused[0]
    source = str(node.meta.get("source", ""))
    more = f", and {len(refused) - 1} more nodes" if len(refused) > 1 else ""
    reason = f"{backend} rejects {op_name(node)}{more}: {rejected.code}: {rejected.message}"
    return Border(
        *names,
        "rejected",
        reason,
        nbytes,
        node.name,
        source,
        backend,
        rejected.code,
        rejected.message,
        len(refused),
    )


def _loop_reason(loop: Loop) -> str:
    return f"{loop.name} runs {loop.trips} times; what is in it is compiled once"


def _name(step: Step) -> str:
    return step.name if isinstance(step, Loop) else step.segment


def _reads(step: Step) -> list[str]:
    return [] if isinstance(step, Loop) else list(dict.fromkeys(step.inputs))


def _bytes(plan: Plan, before: Step, after: Step) -> int:
    made = set(written(before))
    return sum(fixed_nbytes(plan.values[v]) or 0 for v in _all_reads(after) if v in made)


def _all_reads(step: Step) -> set[str]:
    """What a step reads from outside, and what its body does."""
    if not isinstance(step, Loop):
        return set(step.inputs)
    outer = {c.init for c in step.carries} | {s.source for s in step.slices}
    return outer.union(*(_all_reads(inner) for inner in step.body))
