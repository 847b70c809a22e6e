"""Whether a plan computes what its program computes.

Program and plan are both run on terms instead of tensors. A term is a number that stands for an
expression: an input, a constant, or an op applied to terms; equal expressions are the same number.
The plan is right if its outputs are the program's terms, and if it evaluates every term as often,
and on the backend, as the program and its placement say: no node is left out, none is done twice.

A loop's body is run once, on terms that stand for "carried value i" and "row of slice j" at its
depth of nesting. A loop is then the expression of its trips, initial values, slices and next
values; invariants are part of the next values, since the body reads them directly.

Terms are made for a program in time that is linear in the nodes that a run gets to, where a body
counts once and a sub-graph as often as it is called.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import fx

from partitioner.plan import Call, Loop, Step
from partitioner.program import Program, call, host, loop

if TYPE_CHECKING:
    from partitioner.planning.planned import Planned

__all__ = ["difference"]

#: How often each (backend, term) is evaluated.
_Work = Counter[tuple[str, int]]


def difference(program: Program, planned: Planned) -> str | None:
    """What the plan does otherwise than the program, or None."""
    terms = _Terms()
    wanted = _ProgramRun(terms, program, planned.placement.backends)
    given = _PlanRun(terms, program, planned)
    expected, actual = wanted.run(), given.run()
    if list(expected) != list(actual):
        return f"its outputs are {list(actual)}, not {list(expected)}"
    for (backend, term), times in (wanted.work - given.work).items():
        return f"{terms.text(term)} on {backend!r} is run {times} times too few"
    for (backend, term), times in (given.work - wanted.work).items():
        return f"{terms.text(term)} on {backend!r} is run {times} times too often"
    for name, term in expected.items():
        if actual[name] != term:
            return (
                f"its output {name!r} is {terms.text(actual[name])}, not {terms.text(term)}, or "
                "has other operands"
            )
    return None


class _Terms:
    """Expressions by number."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._sources: dict[int, str] = {}

    def of(self, *expression: Any, source: str = "") -> int:
        """The number of an expression: a head, then whatever tells it from others."""
        number = self._numbers.setdefault(expression, len(self._numbers))
        if source:
            self._sources.setdefault(number, source)
        return number

    def text(self, number: int) -> str:
        """An expression's head and where it stands in the user's code."""
        head = next(e for e, n in self._numbers.items() if n == number)
        named = " ".join(str(part) for part in head[:2])
        source = self._sources.get(number)
        return f"{named!r} ({source})" if source else f"{named!r}"

    def aten(self, node: fx.Node, env: Mapping[fx.Node, Any]) -> int:
        """An aten op on the terms of its operands."""
        arguments = _frozen((node.args, dict(node.kwargs)), env)
        return self.of("op", str(node.target), arguments, source=node.meta.get("source", ""))

    def host(self, name: str, options: Mapping[str, Any], operands: Iterable[int]) -> int:
        """A host op."""
        return self.of("host op", name, repr(sorted(options.items())), tuple(operands))

    def loop_core(
        self, trips: int, inits: Sequence[int], sources: Sequence[int], following: Sequence[int]
    ) -> int:
        """A loop, whatever is taken of its results."""
        return self.of("loop", trips, tuple(inits), tuple(sources), tuple(following))

    def loop_inside(self, depth: int, carries: int, slices: int) -> list[int]:
        """What a body reads of its own loop."""
        carried = [self.of("carried", (depth, i)) for i in range(carries)]
        return carried + [self.of("row", (depth, i)) for i in range(slices)]


def _frozen(value: Any, env: Mapping[fx.Node, Any]) -> Any:
    """Arguments as something that can be compared: 1, 1.0 and True differ, as do 0.0 and -0.0."""
    if isinstance(value, fx.Node):
        return ("term", env[value])
    if isinstance(value, tuple | list):
        return tuple(_frozen(item, env) for item in cast("Sequence[Any]", value))
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return tuple((key, _frozen(item, env)) for key, item in sorted(pairs))
    return (type(value).__name__, repr(value))


# --- the program --------------------------------------------------------------------------------


class _ProgramRun:
    """Runs a program on terms."""

    def __init__(self, terms: _Terms, program: Program, backends: Mapping[fx.Node, str]) -> None:
        self.terms, self.program, self.backends = terms, program, backends
        self.work: _Work = Counter()
        self._needed: dict[fx.Graph, set[fx.Node]] = {}

    def run(self) -> dict[str, int]:
        graph = self.program.main
        names = [cast(str, n.target) for n in graph.nodes if n.op == "placeholder"]
        given = [self.terms.of("input", name) for name in names]
        results = self._graph(graph, given, 0, 1)
        return dict(zip(self.program.outputs, results, strict=True))

    def _graph(self, graph: fx.Graph, given: Sequence[int], depth: int, times: int) -> list[int]:
        if graph not in self._needed:
            self._needed[graph] = _ancestors(graph)
        needed, feed = self._needed[graph], iter(given)
        env: dict[fx.Node, Any] = {}
        for node in graph.nodes:
            if node.op == "placeholder":
                env[node] = next(feed)
            elif node.op == "output":
                return [env[n] for n in cast("tuple[fx.Node, ...]", node.args[0])]
            elif node in needed:
                env[node] = self._node(node, env, depth, times)
        raise AssertionError("a graph without output")

    def _node(self, node: fx.Node, env: Mapping[fx.Node, Any], depth: int, times: int) -> Any:
        if node.op == "get_attr":
            return self.terms.of("constant", node.target)
        if node.target is operator.getitem:
            return _item(self.terms, env, node)
        if node.target is call:
            name, operands = cast("tuple[str, tuple[fx.Node, ...]]", node.args)
            return self._graph(self.program.graphs[name], [env[n] for n in operands], depth, times)
        if node.target is loop:
            return self._loop(node, env, depth, times)
        if node.target is host:
            name, operands, options = cast("tuple[str, tuple[fx.Node, ...], Any]", node.args)
            term = self.terms.host(name, options, (env[n] for n in operands))
            self.work["host", term] += times
            return term
        term = self.terms.aten(node, env)
        self.work[self.backends.get(node, "no backend"), term] += times
        return term

    def _loop(self, node: fx.Node, env: Mapping[fx.Node, Any], depth: int, times: int) -> list[int]:
        name, operands, trips, carries, slices = cast(
            "tuple[str, tuple[fx.Node, ...], int, int, int]", node.args
        )
        outside = [cast(int, env[n]) for n in operands]
        inside = self.terms.loop_inside(depth, carries, slices)
        moving = carries + slices
        body = self.program.graphs[name]
        results = self._graph(body, [*inside, *outside[moving:]], depth + 1, times * trips)
        core = self.terms.loop_core(
            trips, outside[:carries], outside[carries:moving], results[:carries]
        )
        final = [self.terms.of("final", i, core) for i in range(carries)]
        return final + [self.terms.of("stacked", core, term) for term in results[carries:]]


def _ancestors(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that a graph's results depend on."""
    found: set[fx.Node] = set()
    open_ = [n for node in graph.nodes if node.op == "output" for n in node.all_input_nodes]
    while open_:
        node = open_.pop()
        if node not in found:
            found.add(node)
            open_ += node.all_input_nodes
    return found


def _item(terms: _Terms, env: Mapping[fx.Node, Any], node: fx.Node) -> int:
    source, index = env[cast(fx.Node, node.args[0])], cast(int, node.args[1])
    if isinstance(source, list):
        return cast("list[int]", source)[index]
    return terms.of("item", index, source)


# --- the plan -----------------------------------------------------------------------------------


class _PlanRun:
    """Runs a plan on terms."""

    def __init__(self, terms: _Terms, program: Program, planned: Planned) -> None:
        self.terms, self.program, self.planned = terms, program, planned
        self.work: _Work = Counter()
        self.env: dict[str, int] = {}

    def run(self) -> dict[str, int]:
        plan = self.planned.plan
        for name, value in plan.inputs.items():
            self.env[value] = self.terms.of("input", name)
        for value, name in self.planned.constants.items():
            self.env[value] = self.terms.of("constant", name)
        for sequence, group in zip(self.program.draws, plan.draws, strict=True):
            for draw, own in zip(sequence.draws, group.draws, strict=True):
                self.env[own.value] = self.terms.of("input", draw.placeholder)
        self._steps(plan.steps, 0, 1)
        return {name: self.env[value] for name, value in plan.outputs.items()}

    def _steps(self, steps: Iterable[Step], depth: int, times: int) -> None:
        for step in steps:
            if isinstance(step, Loop):
                self._loop(step, depth, times)
            else:
                results = self._call(step, times)
                self.env.update(zip(step.outputs, results, strict=True))

    def _call(self, step: Call, times: int) -> list[int]:
        segment = cast(Any, self.planned.segments[step.segment])
        given = [self.env[value] for value in step.inputs]
        if hasattr(segment, "graph"):
            return self._graph(segment.graph, segment.backend, given, times)
        term = self.terms.host(segment.op, segment.options, given)
        self.work["host", term] += times
        return [self.terms.of("item", i, term) for i in range(len(step.outputs))]

    def _graph(self, graph: fx.Graph, backend: str, given: Sequence[int], times: int) -> list[int]:
        feed, env = iter(given), dict[fx.Node, Any]()
        for node in graph.nodes:
            if node.op == "placeholder":
                env[node] = next(feed)
            elif node.op == "output":
                return [env[n] for n in cast("tuple[fx.Node, ...]", node.args[0])]
            elif node.op == "get_attr":
                env[node] = self.terms.of("constant", node.target)
            elif node.target is operator.getitem:
                env[node] = _item(self.terms, env, node)
            else:
                env[node] = self.terms.aten(node, env)
                self.work[backend, env[node]] += times
        raise AssertionError("a graph without output")

    def _loop(self, step: Loop, depth: int, times: int) -> None:
        env, terms = self.env, self.terms
        inits = [env[c.init] for c in step.carries]
        sources = [env[s.source] for s in step.slices]
        inner = [part.inner for part in (*step.carries, *step.slices)]
        inside = terms.loop_inside(depth, len(inits), len(sources))
        env.update(zip(inner, inside, strict=True))
        self._steps(step.body, depth + 1, times * step.trips)
        core = terms.loop_core(step.trips, inits, sources, [env[c.next] for c in step.carries])
        for index, carry in enumerate(step.carries):
            if carry.final is not None:
                env[carry.final] = terms.of("final", index, core)
        for stacked in step.stacked:
            env[stacked.result] = terms.of("stacked", core, env[stacked.inner])
