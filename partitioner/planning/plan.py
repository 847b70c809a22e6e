"""From program to plan: values get ids, segments get calls, loops keep their shape."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import fx

from partitioner.plan import (
    Call,
    Carry,
    Draw,
    DrawGroup,
    Loop,
    Plan,
    SegmentInfo,
    Slice,
    Stacked,
    Step,
)
from partitioner.planning.placement import Placement, place
from partitioner.planning.segments import Cut, Segment, cut_graph
from partitioner.planning.validate import validate_plan
from partitioner.program import Program, TensorType, call, loop, node_type, operands
from partitioner.specs import TensorSpec
from partitioner.targets import Target

__all__ = ["HostCall", "Planned", "make_plan"]


@dataclass(frozen=True)
class HostCall:
    """A segment of the backend ``host``: a host op by name, with its options."""

    op: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """A plan with what it was made of.

    Attributes:
        segments: by name; a graph, or a host op.
        constants: value id -> name of the program's constant, for ``plan.constants``.
        placement: who takes which node, and who does not and why.
    """

    plan: Plan
    segments: dict[str, Segment | HostCall]
    constants: dict[str, str]
    placement: Placement


def make_plan(program: Program, target: Target, compilers: Mapping[str, Any]) -> Planned:
    """Place, cut and order a program.

    Args:
        compilers: backend name -> what gives its verdicts.

    Raises:
        PlacementError: a node that no backend of the target takes.
    """
    placement = place(program, target, compilers)
    planned = _Planner(program, placement).run()
    validate_plan(program, planned)
    return planned


@dataclass
class _Planner:
    program: Program
    placement: Placement
    values: dict[str, TensorSpec] = field(default_factory=dict[str, TensorSpec])
    segments: dict[str, Segment | HostCall] = field(
        default_factory=dict[str, "Segment | HostCall"]
    )
    infos: dict[str, SegmentInfo] = field(default_factory=dict[str, SegmentInfo])
    cuts: dict[str, Cut] = field(default_factory=dict[str, Cut])
    constants: dict[str, str] = field(default_factory=dict[str, str])
    ids: dict[str, str] = field(default_factory=dict[str, str])
    names: set[str] = field(default_factory=set[str])
    hosts: dict[Any, str] = field(default_factory=dict[Any, str])
    twins: dict[Any, str] = field(default_factory=dict[Any, str])

    def run(self) -> Planned:
        env: dict[fx.Node, str] = {}
        inputs: dict[str, str] = {}
        draws = {d.placeholder for s in self.program.draws for d in s.draws}
        drawn: dict[str, str] = {}
        for node in self.program.main.nodes:
            if node.op == "placeholder":
                env[node] = self._value(node.name, node_type(node).spec)
                name = cast(str, node.target)
                (drawn if name in draws else inputs)[name] = env[node]
        steps = self._graph("main", self.program.main, env)
        results = cast("tuple[fx.Node, ...]", self.program.main.output_node().args[0])
        outputs = {
            name: self._resolve(env, node)
            for name, node in zip(self.program.outputs, results, strict=True)
        }
        plan = Plan(
            values=self.values,
            inputs={s.name: inputs[s.name] for s in self.program.inputs if s.used},
            constants=tuple(self.constants),
            draws=tuple(self._draws(drawn)),
            steps=tuple(steps),
            outputs=outputs,
            segments=self.infos,
        )
        return Planned(plan, self.segments, self.constants, self.placement)

    # --- values ---

    def _value(self, stem: str, spec: TensorSpec) -> str:
        name, count = re.sub(r"[^A-Za-z0-9_.]", "_", stem)[:120], 0
        unique = name
        while unique in self.values:
            count += 1
            unique = f"{name}.{count}"
        self.values[unique] = spec
        return unique

    def _resolve(self, env: dict[fx.Node, str], node: fx.Node) -> str:
        """The value id of a node: written by a step, or a constant."""
        if node not in env:
            env[node] = self._constant(cast(str, node.target), node_type(node).spec)
        return env[node]

    def _constant(self, name: str, spec: TensorSpec) -> str:
        if name not in self.ids:
            self.ids[name] = self._value(f"const.{name}", spec)
            self.constants[self.ids[name]] = name
        return self.ids[name]

    def _draws(self, drawn: Mapping[str, str]) -> list[DrawGroup]:
        return [
            DrawGroup(
                s.repeat,
                tuple(
                    Draw(drawn[d.placeholder], d.distribution, d.args, d.row, d.stream)
                    for d in s.draws
                ),
            )
            for s in self.program.draws
        ]

    # --- steps ---

    def _graph(self, name: str, graph: fx.Graph, env: dict[fx.Node, str]) -> list[Step]:
        """The steps of a graph whose placeholders have ids in ``env``."""
        if name not in self.cuts:
            self.cuts[name] = cut_graph(graph, self.placement.backends, self.names)
        cut = self.cuts[name]
        steps: list[Step] = []
        for item in cut.order:
            if isinstance(item, Segment):
                steps.append(self._segment_call(item, cut, env))
            elif item.target is loop:
                steps.append(self._loop(item, env))
            elif item.target is call:
                steps += self._inlined(item, env)
            else:
                steps.append(self._host_call(item, env))
        return steps

    def _segment_call(self, segment: Segment, cut: Cut, env: dict[fx.Node, str]) -> Call:
        name = self._registered(segment)
        inputs = tuple(self._resolve(env, n) for n in cut.inputs[segment.name])
        outputs: list[str] = []
        for node in cut.outputs[segment.name]:
            env[node] = self._value(node.name, node_type(node).spec)
            outputs.append(env[node])
        return Call(name, inputs, tuple(outputs))

    def _registered(self, segment: Segment) -> str:
        """The segment's name, or that of an equal one that there is already."""
        key = _canonical(segment)
        known = self.twins.setdefault(key, segment.name)
        if known == segment.name and known not in self.segments:
            self.segments[known] = segment
            self.infos[known] = SegmentInfo(
                name=known,
                backend=segment.backend,
                inputs=_named(segment.inputs, segment.input_types),
                outputs=_named(segment.outputs, segment.output_types),
                stages=segment.stages,
                nodes=sum(n.op == "call_function" for n in segment.graph.nodes),
                sources=segment.sources,
            )
        return known

    def _host_call(self, node: fx.Node, env: dict[fx.Node, str]) -> Call:
        name, _, options = cast("tuple[str, Any, dict[str, Any]]", node.args)
        inputs = tuple(self._resolve(env, n) for n in operands(node))
        op = self.program.host_ops[name]
        types = cast("tuple[TensorType, ...]", node.meta["type"])
        specs = [t.spec for t in types]
        key = (name, repr(options), tuple(self.values[v] for v in inputs))
        if key not in self.hosts:
            self.hosts[key] = self._host_segment(node, inputs, specs)
        items = {cast(int, u.args[1]): u for u in node.users if u.target is operator.getitem}
        outputs: list[str] = []
        for index, (label, spec) in enumerate(zip(op.outputs, specs, strict=True)):
            outputs.append(self._value(f"{node.name}.{label}", spec))
            if index in items:
                env[items[index]] = outputs[-1]
        return Call(self.hosts[key], inputs, tuple(outputs))

    def _host_segment(
        self, node: fx.Node, inputs: Sequence[str], specs: Sequence[TensorSpec]
    ) -> str:
        op_name, _, options = cast("tuple[str, Any, dict[str, Any]]", node.args)
        stem = re.sub(r"\W", "_", op_name.split(".")[-1])
        name, count = stem, 1
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        self.segments[name] = HostCall(op_name, dict(options))
        self.infos[name] = SegmentInfo(
            name=name,
            backend="host",
            inputs=tuple((f"input_{i}", self.values[v]) for i, v in enumerate(inputs)),
            outputs=tuple(zip(self.program.host_ops[op_name].outputs, specs, strict=True)),
            nodes=1,
            sources=tuple(s for s in [node.meta.get("source", "")] if s),
        )
        return name

    def _inlined(self, node: fx.Node, env: dict[fx.Node, str]) -> list[Step]:
        """The steps of a sub-graph at one call site; its segments are shared by all sites."""
        name = cast(str, node.args[0])
        body = self.program.graphs[name]
        inner: dict[fx.Node, str] = {}
        placeholders = [n for n in body.nodes if n.op == "placeholder"]
        for placeholder, given in zip(placeholders, operands(node), strict=True):
            inner[placeholder] = self._resolve(env, given)
        steps = self._graph(name, body, inner)
        results = cast("tuple[fx.Node, ...]", body.output_node().args[0])
        for item in node.users:
            env[item] = self._resolve(inner, results[cast(int, item.args[1])])
        return steps

    def _loop(self, node: fx.Node, env: dict[fx.Node, str]) -> Loop:
        name, given, trips, carries, slices = cast(
            "tuple[str, tuple[fx.Node, ...], int, int, int]", node.args
        )
        body = self.program.graphs[name]
        placeholders = [n for n in body.nodes if n.op == "placeholder"]
        ids = [self._resolve(env, n) for n in given]
        inner: dict[fx.Node, str] = {}
        for index, placeholder in enumerate(placeholders):
            moving = index < carries + slices
            stem = f"{name}.{placeholder.name}"
            inner[placeholder] = (
                self._value(stem, node_type(placeholder).spec) if moving else ids[index]
            )
        steps = self._graph(name, body, inner)
        results = cast("tuple[fx.Node, ...]", body.output_node().args[0])
        written = [self._resolve(inner, n) for n in results]
        items = {cast(int, u.args[1]): u for u in node.users}
        for index, item in items.items():
            env[item] = self._value(f"{name}.{item.name}", node_type(item).spec)
        return Loop(
            name=name,
            trips=trips,
            carries=tuple(
                Carry(
                    ids[i],
                    inner[placeholders[i]],
                    written[i],
                    env[items[i]] if i in items else None,
                )
                for i in range(carries)
            ),
            slices=tuple(
                Slice(ids[i], inner[placeholders[i]]) for i in range(carries, carries + slices)
            ),
            stacked=tuple(
                Stacked(written[i], env[items[i]]) for i in range(carries, len(results)) if i in items
            ),
            body=tuple(steps),
        )


def _named(
    names: Sequence[str], types: Sequence[TensorType]
) -> tuple[tuple[str, TensorSpec], ...]:
    return tuple((name, type_.spec) for name, type_ in zip(names, types, strict=True))


def _canonical(segment: Segment) -> str:
    """Equal for segments that do the same with the same constants."""
    numbers: dict[fx.Node, int] = {}
    lines: list[str] = [segment.backend]
    for node in segment.graph.nodes:
        args = fx.node.map_arg((node.args, node.kwargs), lambda n: f"%{numbers[n]}")
        target = "" if node.op == "placeholder" else str(node.target)
        lines.append(f"{node.op} {target} {args} {node.meta.get('type')}")
        numbers[node] = len(numbers)
    return "\n".join(lines)
