"""What the page draws: segments with their nodes and verdicts, and the values between steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from partitioner.buffers.timeline import Moment, timeline, written
from partitioner.capture.sources import portable
from partitioner.passes.costs import operations
from partitioner.passes.ops import op_name
from partitioner.plan import Call, Plan
from partitioner.planning.borders import nodes_of_segments
from partitioner.planning.cost import bounds, work_of
from partitioner.planning.graphs import placeholders, results_of
from partitioner.planning.segments import Segment
from partitioner.planning.tables import HostCall
from partitioner.prepared import Prepared
from partitioner.program import is_getitem
from partitioner.report.layout import NODE_HEIGHT, NODE_WIDTH, lay_out
from partitioner.targets import Target

__all__ = ["draw"]

#: Characters of an op's arguments that are shown.
_ARGUMENTS = 160


class _Table:
    """Texts and other values that are stored once."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[str, int] = {}

    def add(self, item: Any) -> int:
        key = repr(item)
        if key not in self._places:
            self._places[key] = len(self.items)
            self.items.append(item)
        return self._places[key]


def draw(prepared: Prepared) -> dict[str, Any]:
    """Plain data for the page.

    Returns:
        ``texts`` and ``verdicts`` are tables that nodes refer to by index; ``segments`` has the
        drawing of each; ``steps`` the plan with the values that go between steps.
    """
    planned, texts, verdicts = prepared.planned, _Table(), _Table()
    originals = nodes_of_segments(planned)
    segments = {
        name: _SegmentDrawing(prepared, segment, originals[name], texts, verdicts).draw()
        for name, segment in planned.segments.items()
        if not isinstance(segment, HostCall)
    }
    plan = planned.plan
    given = {value: name for name, value in plan.inputs.items()}
    drawn = [draw.value for group in plan.draws for draw in group.draws]
    return {
        "node": [NODE_WIDTH, NODE_HEIGHT],
        "texts": texts.items,
        "verdicts": verdicts.items,
        "segments": segments,
        "hosts": {
            name: {"op": segment.op, "options": repr(segment.options)}
            for name, segment in planned.segments.items()
            if isinstance(segment, HostCall)
        },
        "steps": _scope(
            plan,
            timeline(plan.steps),
            {**given, **dict.fromkeys(drawn, "random numbers")},
            {value: name for name, value in plan.outputs.items()},
        ),
    }


# --- segments -----------------------------------------------------------------------------------


class _SegmentDrawing:
    """Draws one segment: its inputs, ops and outputs are nodes; an op's items belong to the op."""

    def __init__(
        self,
        prepared: Prepared,
        segment: Segment,
        originals: Sequence[fx.Node],
        texts: _Table,
        verdicts: _Table,
    ) -> None:
        self.prepared = prepared
        self.segment = segment
        self.originals = originals
        self.texts = texts
        self.verdicts = verdicts

    def draw(self) -> dict[str, Any]:
        graph = self.segment.graph
        ops = [n for n in graph.nodes if n.op == "call_function" and not is_getitem(n)]
        inputs, results = placeholders(graph), results_of(graph)
        drawn = [*inputs, *ops]
        index = {node: i for i, node in enumerate(drawn)}
        edges = dict.fromkeys(
            (index[made], index[node])
            for node in ops
            for made in map(_source, node.all_input_nodes)
            if made in index
        )
        ends = {(index[_source(r)], len(drawn) + i): None for i, r in enumerate(results)}
        edges.update(ends)
        found = lay_out(len(drawn) + len(results), list(edges))
        nodes = [self._port(node, "in") for node in inputs]
        # A part of the program that is equal to another has the same ops in the same order.
        nodes += [self._op(*pair) for pair in zip(ops, self.originals, strict=False)]
        nodes += [self._port(node, "out") for node in results]
        for node, (x, y) in zip(nodes, found.places, strict=True):
            node["x"], node["y"] = x, y
        return {
            "width": found.width,
            "height": found.height,
            "nodes": nodes,
            "edges": [
                [start, end, *(c for point in bends for c in point)]
                for (start, end), bends in zip(edges, found.bends, strict=True)
            ],
        }

    def _port(self, node: fx.Node, kind: str) -> dict[str, Any]:
        return {"k": kind, "n": node.name, "t": self.texts.add(_types(node))}

    def _op(self, node: fx.Node, original: fx.Node) -> dict[str, Any]:
        target, backend = self.prepared.target, self.segment.backend
        return {
            "k": "op",
            "n": original.name,
            "o": self.texts.add(op_name(node)),
            "t": self.texts.add(_types(node)),
            "s": self.texts.add(portable(str(node.meta.get("source", "")))),
            "g": self.texts.add(str(node.meta.get("stage", ""))),
            "a": self.texts.add(_arguments(node)),
            "i": self.texts.add(", ".join(_types(n) for n in node.all_input_nodes)),
            "w": [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"],
            "f": operations(node),
            **_seconds(node, target, backend),
            "v": self.verdicts.add(self._verdicts(original)),
        }

    def _verdicts(self, node: fx.Node) -> list[list[str]]:
        """Backend, code (empty if it takes the node), message, advice."""
        placement, found = self.prepared.planned.placement, list[list[str]]()
        rejections = placement.rejections.get(node, {})
        for name in self.prepared.target.backends:
            if name in rejections:
                rejected = rejections[name]
                found.append([name, rejected.code, rejected.message, rejected.advice])
            elif name in placement.verdicts.takers.get(node, ()):
                found.append([name, "", "", ""])
        return found


def _seconds(node: fx.Node, target: Target, backend: str) -> dict[str, float]:
    """Of arithmetic and of memory traffic, in nanoseconds."""
    if not target.devices:
        return {}
    arithmetic, traffic = bounds(work_of(node), target.device_of(backend))
    return {"c": round(arithmetic * 1e9, 3), "m": round(traffic * 1e9, 3)}


def _source(node: fx.Node) -> fx.Node:
    while is_getitem(node):
        node = node.all_input_nodes[0]
    return node


def _types(node: fx.Node) -> str:
    type_ = node.meta["type"]
    parts = type_ if isinstance(type_, tuple) else (type_,)
    return ", ".join("-" if part is None else str(part.spec) for part in parts)


def _arguments(node: fx.Node) -> str:
    """Arguments as they would be written, with names for tensors."""
    words = [str(argument) for argument in node.args]
    words += [f"{name}={value}" for name, value in node.kwargs.items()]
    text = ", ".join(words)
    return text if len(text) <= _ARGUMENTS else f"{text[: _ARGUMENTS - 3]}..."


# --- steps --------------------------------------------------------------------------------------


def _scope(
    plan: Plan, moments: Sequence[Moment], given: Mapping[str, str], wanted: Mapping[str, str]
) -> dict[str, Any]:
    """One level of the plan.

    Args:
        given: what comes in from above: value -> what it is called there.
        wanted: what goes out, likewise.

    Returns:
        ``links``: from, to (indices of steps; -1 for what comes in, the number of steps for what
        goes out), and value ids with their types.
    """
    makers: dict[str, int] = dict.fromkeys(given, -1)
    links: dict[tuple[int, int], dict[str, str]] = {}

    def link(value: str, end: int) -> None:
        if value in makers:
            links.setdefault((makers[value], end), {})[value] = str(plan.values[value])

    for number, moment in enumerate(moments):
        for value in moment.reads:
            link(value, number)
        makers.update(dict.fromkeys(written(moment.step), number))
    for value in wanted:
        link(value, len(moments))
    return {
        "given": [[value, name, str(plan.values[value])] for value, name in given.items()],
        "wanted": [[value, name, str(plan.values[value])] for value, name in wanted.items()],
        "steps": [_step(plan, moment) for moment in moments],
        "links": [[*ends, list(values.items())] for ends, values in links.items()],
    }


def _step(plan: Plan, moment: Moment) -> dict[str, Any]:
    step = moment.step
    if isinstance(step, Call):
        return {"segment": step.segment}
    given = {
        **{carry.inner: "carried" for carry in step.carries},
        **{part.inner: f"a row of {part.source}" for part in step.slices},
        **dict.fromkeys(moment.free, "the same in every trip"),
    }
    wanted = {
        **{part.inner: "collected" for part in step.stacked},
        **{carry.next: "carried" for carry in step.carries},
    }
    return {
        "loop": step.name,
        "trips": step.trips,
        "carries": [[c.inner, c.next, str(plan.values[c.inner])] for c in step.carries],
        "slices": [[p.source, p.inner, str(plan.values[p.inner])] for p in step.slices],
        "invariants": [[value, str(plan.values[value])] for value in moment.free],
        "stacked": [[p.result, p.inner, str(plan.values[p.result])] for p in step.stacked],
        "body": _scope(plan, moment.body, given, wanted),
    }
