"""A program's graph as a problem to solve: see :mod:`partitioner.planning.problem`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from torch import fx

from partitioner.planning.cost import node_bytes, node_seconds, work_of
from partitioner.planning.graphs import UNKNOWN_BYTES, maker, nbytes_of, placeholders, results_of
from partitioner.planning.problem import Problem, Rates, Value
from partitioner.planning.scale import Scale
from partitioner.program import Program, TensorType, call, is_getitem, loop, operands
from partitioner.targets import Device, Target

__all__ = ["ANYWHERE", "Posed", "Poser", "Sides", "rates_of"]

#: Device of whatever nobody has decided on.
ANYWHERE = -1

#: A backend that comes later in the target's order must be better by this much on the same device:
#: figures of most devices say nothing about which of their backends is better.
_PREFERENCE = 0.02


@dataclass(frozen=True)
class Sides:
    """Where the values of a graph that others run come from and go to, once it has been solved.

    Attributes:
        wanted: input -> devices that read it.
        homes: result -> the device that makes it; :data:`ANYWHERE` if no backend does.
    """

    wanted: tuple[tuple[int, ...], ...]
    homes: tuple[int, ...]


def rates_of(target: Target, backends: Sequence[str]) -> Rates:
    """What borders and calls cost on a target.

    Args:
        backends: in order of preference.
    """
    devices = target.devices or (_any_device(backends),)
    index = {name: i for i, d in enumerate(devices) for name in d.backends}
    host = next(i for i, d in enumerate(devices) if d.transfer_bandwidth is None)

    def way(start: int, end: int) -> tuple[float, float]:
        """Latency and seconds a byte; between two accelerators through the host."""
        ends = [devices[i] for i in (start, end) if i != host] if start != end else []
        bandwidths = [d.transfer_bandwidth for d in ends if d.transfer_bandwidth]
        return sum(d.transfer_s for d in ends), sum(1 / b for b in bandwidths)

    ways = [[way(a, b) for b in range(len(devices))] for a in range(len(devices))]
    return Rates(
        backends=tuple(backends),
        device=tuple(index[name] for name in backends),
        call_s=tuple(devices[index[name]].call_s.get(name, 0.0) for name in backends),
        read_s=tuple(1 / (d.bandwidth * d.efficiency) for d in devices),
        latency_s=tuple(tuple(latency for latency, _ in row) for row in ways),
        byte_s=tuple(tuple(per_byte for _, per_byte in row) for row in ways),
        host=host,
    )


def _any_device(backends: Sequence[str]) -> Device:
    """Stands for a target without figures, where nothing costs anything."""
    free = dict.fromkeys(backends, 0.0)
    inf = float("inf")
    return Device("cpu", tuple(backends), 1, 1, 0, inf, {"float32": inf}, inf, free)


@dataclass(frozen=True)
class Posed:
    """A graph and its problem.

    Attributes:
        ops: the nodes that are the problem's ops, in order.
        places: node -> index of its value among the problem's values.
    """

    problem: Problem
    ops: list[fx.Node]
    places: dict[fx.Node, int]


class Poser:
    """Poses the graphs of one program, inner ones first.

    Args:
        takers: aten node -> backends that take it.
        rates: of the target.
        scale: measurements instead of estimates.
    """

    def __init__(
        self,
        program: Program,
        target: Target,
        rates: Rates,
        takers: Mapping[fx.Node, Sequence[str]],
        scale: Scale,
    ) -> None:
        self.program = program
        self.rates = rates
        self.takers = takers
        self.pricing = _Pricing(target, rates, scale)
        self.solved: dict[str, Sides] = {}
        self.loops = {
            cast(str, node.args[0]): cast("tuple[int, int, int]", node.args[2:5])
            for _, graph in program.all_graphs()
            for node in graph.nodes
            if node.target is loop
        }

    def pose(self, name: str, live: Sequence[fx.Node]) -> Posed:
        """The problem of the graph of that name; those that it runs have been solved.

        Args:
            live: its nodes that are needed, in order.
        """
        graph = self.program.main if name == "main" else self.program.graphs[name]
        posing = _Posing(graph, self.rates, self.solved)
        for node in live:
            if is_getitem(node):
                posing.add_item(node)
            else:
                takers = self.takers.get(node)
                posing.add_op(node, self.pricing.seconds(name, node, takers) if takers else ())
        return posing.finish(name == "main", self.loops.get(name))

    def solve(self, name: str, posed: Posed, owners: Sequence[int]) -> None:
        """Remember who has which op of a graph, for those that run it."""
        graph = self.program.graphs[name]
        values, device = posed.problem.values, self.rates.device
        wanted: list[tuple[int, ...]] = []
        for node in placeholders(graph):
            value = values[posed.places[node]] if node in posed.places else None
            readers = () if value is None else (*value.readers, *value.later)
            devices = [device[owners[r]] for r in readers if owners[r] >= 0]
            wanted.append(tuple(dict.fromkeys([*devices, *(value.wanted if value else ())])))
        homes: list[int] = []
        for node in results_of(graph):
            value = values[posed.places[node]] if node in posed.places else None
            owner = owners[value.maker] if value is not None and value.maker >= 0 else -1
            homes.append(device[owner] if owner >= 0 else value.home if value else ANYWHERE)
        self.solved[name] = Sides(tuple(wanted), tuple(homes))


@dataclass
class _Pricing:
    target: Target
    rates: Rates
    scale: Scale

    def seconds(self, graph: str, node: fx.Node, takers: Sequence[str]) -> tuple[float, ...]:
        work = work_of(node)
        row: list[float] = []
        for rank, backend in enumerate(self.rates.backends):
            if backend not in takers:
                row.append(float("inf"))
                continue
            if not self.target.devices:
                row.append(0.0)
                continue
            device = self.target.devices[self.rates.device[rank]]
            measured = self.scale.of(graph, node.name, backend)
            usual = device.time_factor.get(backend, 1.0) * (1 + _PREFERENCE * rank)
            factor = usual if measured is None else measured
            row.append(node_seconds(work, device) * factor)
        return tuple(row)


@dataclass
class _Draft:
    """A value whose readers are being found."""

    maker: int
    nbytes: int
    readers: dict[int, None] = field(default_factory=dict[int, None])
    later: dict[int, None] = field(default_factory=dict[int, None])
    home: int = ANYWHERE
    wanted: dict[int, None] = field(default_factory=dict[int, None])
    share: float = 1.0
    held: int | None = None

    def done(self) -> Value:
        return Value(
            self.maker,
            self.nbytes,
            tuple(self.readers),
            tuple(r for r in self.later if r not in self.readers),
            self.home,
            tuple(self.wanted),
            self.share,
            self.held,
        )


class _Posing:
    """Collects the ops and values of one graph."""

    def __init__(self, graph: fx.Graph, rates: Rates, solved: Mapping[str, Sides]) -> None:
        self.graph = graph
        self.rates = rates
        self.solved = solved
        self.ops: list[fx.Node] = []
        self.index: dict[fx.Node, int] = {}
        self.seconds: list[tuple[float, ...]] = []
        self.reads: list[list[int]] = []
        self.makes: list[list[int]] = []
        self.drafts: list[_Draft] = []
        self.places: dict[fx.Node, int] = {}
        self.free: set[int] = set()
        for node in placeholders(graph):
            self._value(node, -1)

    def add_op(self, node: fx.Node, seconds: tuple[float, ...]) -> None:
        op = self.index[node] = len(self.ops)
        self.ops.append(node)
        self.seconds.append(seconds)
        self.reads.append([])
        self.makes.append([])
        fixed = bool(seconds)
        for operand in node.all_input_nodes:
            if operand.op == "get_attr":
                continue
            value = self.places[operand]
            draft = self.drafts[value]
            fixed = fixed and value in self.free
            draft.readers[op] = None
            if draft.maker >= 0:
                self.reads[op].append(value)
        if node.target in (call, loop):
            self._operands_of_graph(node)
        elif not seconds:
            for operand in node.all_input_nodes:
                self._want(operand, self.rates.host)
        if isinstance(node.meta["type"], TensorType):
            self._made(node, op, fixed)
        elif fixed:
            # Its items are free where it is.
            self.free.add(-1 - op)

    def add_item(self, node: fx.Node) -> None:
        source = cast(fx.Node, maker(node))
        op = self.index[source]
        self._made(node, op, -1 - op in self.free)
        if self.seconds[op]:
            return
        draft = self.drafts[self.places[node]]
        draft.home = self.rates.host
        if source.target in (call, loop):
            homes = self.solved[cast(str, source.args[0])].homes
            number = cast(int, node.args[1])
            carried = source.target is call or number < cast(int, source.args[3])
            # What a loop collects is collected in the host's memory.
            draft.home = homes[number] if carried else self.rates.host

    def _made(self, node: fx.Node, op: int, free: bool) -> None:
        value = self._value(node, op)
        self.makes[op].append(value)
        if free:
            self.free.add(value)

    def _value(self, node: fx.Node, op: int) -> int:
        self.places[node] = len(self.drafts)
        held = nbytes_of(node)
        unknown = held >= UNKNOWN_BYTES
        self.drafts.append(_Draft(op, node_bytes(node), held=held if unknown else None))
        return self.places[node]

    def _want(self, node: fx.Node, device: int) -> None:
        if node in self.places and device >= 0:
            self.drafts[self.places[node]].wanted[device] = None

    def _operands_of_graph(self, node: fx.Node) -> None:
        wanted = self.solved[cast(str, node.args[0])].wanted
        for operand, devices in zip(operands(node), wanted, strict=True):
            for device in devices:
                self._want(operand, device)

    def finish(self, is_main: bool, loop_of: tuple[int, int, int] | None) -> Posed:
        """The problem, once all ops are in.

        Args:
            loop_of: trips, carries and slices, if the graph is a loop's body.
        """
        results, given = results_of(self.graph), placeholders(self.graph)
        if is_main:
            for node in given:
                self.drafts[self.places[node]].home = self.rates.host
            for node in results:
                self._want(node, self.rates.host)
        elif loop_of is not None:
            self._body(given, results, *loop_of)
        drafts = self.drafts
        kept = [v for v, d in enumerate(drafts) if d.maker >= 0 or d.readers]
        number = {value: i for i, value in enumerate(kept)}
        places = {n: number[v] for n, v in self.places.items() if v in number}
        problem = Problem(
            self.rates,
            self.seconds,
            [drafts[v].done() for v in kept],
            [[number[v] for v in row] for row in self.reads],
            [[number[v] for v in row] for row in self.makes],
            frozenset(number[v] for v in self.free if v >= 0),
            frozenset(places[n] for n in results if n in places),
        )
        return Posed(problem, self.ops, places)

    def _body(
        self,
        given: Sequence[fx.Node],
        results: Sequence[fx.Node],
        trips: int,
        carries: int,
        slices: int,
    ) -> None:
        """A loop: carried values stay where they are, rows come from the host."""
        for index, node in enumerate(given):
            draft = self.drafts[self.places[node]]
            if index < carries:
                following = results[index]
                if following in self.places and self.drafts[self.places[following]].maker >= 0:
                    self.drafts[self.places[following]].later.update(draft.readers)
            elif index < carries + slices:
                draft.home = self.rates.host
            else:
                # Where an invariant lies the caller knows; it is brought once a loop.
                draft.home = self.rates.host
                draft.share = 1 / trips
        for node in results[carries:]:
            self._want(node, self.rates.host)
