"""From program to plan: values get ids, parts of graphs become calls, loops keep their shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from torch import fx

from partitioner.plan import Call, Carry, Draw, DrawGroup, Loop, Plan, Slice, Stacked, Step
from partitioner.planning.graphs import items_of, placeholders, results_of
from partitioner.planning.placement import Placement, place
from partitioner.planning.planned import Planned
from partitioner.planning.scale import Scale
from partitioner.planning.segments import Part, cut_graph
from partitioner.planning.tables import Names, Segments, Values
from partitioner.planning.validate import validate_plan
from partitioner.planning.verdicts import Judge
from partitioner.program import Program, TensorType, call, loop, node_type, operands
from partitioner.targets import Target

__all__ = ["make_plan"]


def make_plan(
    program: Program,
    target: Target,
    judges: Mapping[str, Judge],
    scale: Scale | None = None,
) -> Planned:
    """Place, cut and order a program, and prove that the plan computes what the program does.

    What no output depends on is left out. A sub-graph is cut once: all that call it share its
    segments, and so do parts that are equal by chance.

    Args:
        judges: backend name -> what gives its verdicts.
        scale: factors on estimated seconds, from measurements.

    Raises:
        PlacementError: a node that no backend of the target takes.
        ProgramError: the plan is wrong, which is a defect of the planner.
    """
    placement = place(program, target, judges, scale)
    planned = _Planner(program, placement, target).run()
    validate_plan(program, planned, target, judges)
    return planned


@dataclass
class _Site:
    """One place at which a graph is run: what its values are called there.

    Attributes:
        prefix: of the ids of values that are written here.
        env: node -> value id.
        in_loop: whether the graph is the body of a loop.
    """

    prefix: str
    env: dict[fx.Node, str] = field(default_factory=dict[fx.Node, str])
    in_loop: bool = False


class _Planner:
    def __init__(self, program: Program, placement: Placement, target: Target) -> None:
        self.target = target
        self.program = program
        self.placement = placement
        self.values = Values()
        self.segments = Segments()
        self.cuts: dict[fx.Graph, list[Part | fx.Node]] = {}
        self.names: dict[Part, str] = {}
        self.loop_names = Names("_")
        self.loops: dict[str, str] = {}
        self.splits: dict[str, str] = {}
        self.origins: dict[fx.Node, str] = {}

    def run(self) -> Planned:
        site = _Site("")
        given: dict[str, str] = {}
        for node in placeholders(self.program.main):
            site.env[node] = self._write(site, node)
            given[cast(str, node.target)] = site.env[node]
        steps = self._steps(self.program.main, site)
        results = results_of(self.program.main)
        plan = Plan(
            inputs={s.name: given[s.name] for s in self.program.inputs if s.used},
            draws=self._draws(given),
            steps=tuple(steps),
            outputs={
                name: self._read(site, node)
                for name, node in zip(self.program.outputs, results, strict=True)
            },
            values=self.values.specs,
            constants=tuple(self.values.constants),
            segments=self.segments.infos,
        )
        return Planned(
            plan,
            self.segments.made,
            self.values.constants,
            self.placement,
            self.loops,
            self.splits,
            self.origins,
        )

    def _draws(self, given: Mapping[str, str]) -> tuple[DrawGroup, ...]:
        return tuple(
            DrawGroup(
                sequence.repeat,
                tuple(
                    Draw(given[d.placeholder], d.distribution, d.args, d.row, d.stream)
                    for d in sequence.draws
                ),
            )
            for sequence in self.program.draws
        )

    # --- values ---------------------------------------------------------------------------------

    def _write(self, site: _Site, node: fx.Node) -> str:
        """A new id for a node's value."""
        site.env[node] = self.values.new(f"{site.prefix}{node.name}", node_type(node))
        return site.env[node]

    def _read(self, site: _Site, node: fx.Node) -> str:
        """The id of a node's value: written before, or a constant."""
        if node.op == "get_attr":
            return self.values.constant(cast(str, node.target), node_type(node))
        return site.env[node]

    # --- steps ----------------------------------------------------------------------------------

    def _steps(self, graph: fx.Graph, site: _Site) -> list[Step]:
        """The steps of a graph whose inputs have ids in ``site``."""
        if graph not in self.cuts:
            self.cuts[graph] = cut_graph(
                graph, self.placement, self.program.held, self.target.limits
            )
        steps: list[Step] = []
        for part in self.cuts[graph]:
            if isinstance(part, Part):
                steps += self._segment(part, site)
            elif part.target is loop:
                steps.append(self._loop(part, site))
            elif part.target is call:
                steps += self._call(part, site)
            else:
                steps.append(self._host(part, site))
        return steps

    def _segment(self, part: Part, site: _Site) -> list[Step]:
        if part not in self.names:
            name = self.names[part] = self.segments.of_part(part, in_loop=site.in_loop)
            self.origins.update(dict.fromkeys(part.nodes, name))
            if part.split:
                self.splits.setdefault(name, part.split)
        inputs = tuple(self._read(site, node) for node in part.inputs)
        outputs = tuple(self._write(site, node) for node in part.outputs)
        return [Call(self.names[part], inputs, outputs)]

    def _host(self, node: fx.Node, site: _Site) -> Call:
        inputs = tuple(self._read(site, n) for n in operands(node))
        specs = [self.values.specs[value] for value in inputs]
        name = self.origins[node] = self.segments.of_host(node, specs, self.program)
        items, outputs = items_of(node), list[str]()
        types = cast("tuple[TensorType, ...]", node.meta["type"])
        labels = self.program.host_ops[cast(str, node.args[0])].outputs
        for index, (label, type_) in enumerate(zip(labels, types, strict=True)):
            outputs.append(self.values.new(f"{site.prefix}{node.name}.{label}", type_))
            site.env.update(dict.fromkeys(items.get(index, ()), outputs[-1]))
        return Call(name, inputs, tuple(outputs))

    def _call(self, node: fx.Node, site: _Site) -> list[Step]:
        """A sub-graph's steps. Its inputs and results are the caller's values, not copies."""
        graph = self.program.graphs[cast(str, node.args[0])]
        inner = _Site(f"{site.prefix}{node.name}.")
        for placeholder, given in zip(placeholders(graph), operands(node), strict=True):
            inner.env[placeholder] = self._read(site, given)
        steps = self._steps(graph, inner)
        results = results_of(graph)
        for index, items in items_of(node).items():
            site.env.update(dict.fromkeys(items, self._read(inner, results[index])))
        return steps

    def _loop(self, node: fx.Node, site: _Site) -> Loop:
        graph, given, trips, carries, slices = cast(
            "tuple[str, tuple[fx.Node, ...], int, int, int]", node.args
        )
        name = self.loop_names.unique(graph)
        self.loops[name] = graph
        inner = _Site(f"{site.prefix}{name}.", in_loop=True)
        body = self.program.graphs[graph]
        outside = [self._read(site, n) for n in given]
        inside: list[str] = []
        for index, placeholder in enumerate(placeholders(body)):
            if index < carries + slices:
                inside.append(self._write(inner, placeholder))
            else:
                # An invariant is the outer value itself.
                inner.env[placeholder] = outside[index]
        steps = self._steps(body, inner)
        following = [self._read(inner, n) for n in results_of(body)]
        results = self._loop_results(node, f"{site.prefix}{name}.", site)
        return Loop(
            name=name,
            trips=trips,
            carries=tuple(
                Carry(outside[i], inside[i], following[i], results.get(i)) for i in range(carries)
            ),
            slices=tuple(Slice(outside[i], inside[i]) for i in range(carries, carries + slices)),
            stacked=tuple(
                Stacked(following[i], results[i])
                for i in range(carries, len(following))
                if i in results
            ),
            body=tuple(steps),
        )

    def _loop_results(self, node: fx.Node, prefix: str, site: _Site) -> dict[int, str]:
        """Ids of the results that something takes, by index."""
        ids: dict[int, str] = {}
        for index, items in sorted(items_of(node).items()):
            ids[index] = self.values.new(f"{prefix}{items[0].name}", node_type(items[0]))
            site.env.update(dict.fromkeys(items, ids[index]))
        return ids
