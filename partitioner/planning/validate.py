"""An independent check of a plan against its program.

It shares no code with the planner, but for the estimate of what a segment takes up, which limits
are defined by. First it looks at the plan alone: every value is written once,
before it is read, and is of the type that its readers and writers declare; every segment is a graph
that can be run. Since a segment runs as a whole and reads only what was written before, this also
shows that segments are convex and their order acyclic. Then
:mod:`partitioner.planning.equivalence` shows that the plan computes what the program computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, cast

from torch import fx

from partitioner.backends.base import Rejected
from partitioner.errors import ProgramError
from partitioner.plan import Call, Loop, Plan, SegmentInfo, Step
from partitioner.planning.equivalence import difference
from partitioner.planning.limits import excess_of
from partitioner.program import STRUCTURAL, Program, TensorType, is_getitem
from partitioner.specs import TensorSpec

if TYPE_CHECKING:
    from partitioner.planning.planned import Planned
    from partitioner.planning.verdicts import Judge
    from partitioner.targets import Target

__all__ = ["validate_plan"]


def validate_plan(
    program: Program, planned: Planned, target: Target, judges: Mapping[str, Judge]
) -> None:
    """Prove that a plan is sound, does what its program does, and honours the verdicts.

    Args:
        judges: by backend name; they are asked again about every node, where it has been put.

    Raises:
        ProgramError: says what is wrong with the plan.
    """
    plan = planned.plan
    _require(
        plan.segments.keys() == planned.segments.keys(),
        "segments and their descriptions are not the same",
    )
    for name, info in plan.segments.items():
        _check_segment(name, info, planned.segments[name], program)
        _check_verdicts(name, planned.segments[name], target, judges)
    _check_inputs(program, plan)
    _check_constants(program, planned)
    _check_draws(program, plan)
    _Flow(plan).check()
    fault = difference(program, planned)
    _require(fault is None, fault or "")


def _fail(what: str) -> NoReturn:
    raise ProgramError(
        f"the plan is wrong: {what}",
        advice="this is a defect of the planner; please report it with the model",
    )


def _require(condition: bool, what: str) -> None:
    if not condition:
        _fail(what)


# --- values -------------------------------------------------------------------------------------


class _Flow:
    """Follows the plan's steps: what has been written, and what can be seen from here."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.written: dict[str, None] = {}
        self.visible: set[str] = set()

    def check(self) -> None:
        plan = self.plan
        self.write(plan.inputs.values(), "the input")
        self.write(plan.constants, "the constants")
        self.write((d.value for g in plan.draws for d in g.draws), "a draw")
        self.steps(plan.steps)
        self.read(plan.outputs.values(), "an output")
        unused = plan.values.keys() - self.written.keys()
        _require(not unused, f"the values {sorted(unused)[:5]} are never written")

    def write(self, values: Iterable[str], who: str) -> None:
        for value in values:
            _require(value in self.plan.values, f"{who} writes {value!r}, which has no type")
            _require(value not in self.written, f"{who} writes {value!r} a second time")
            self.written[value] = None
            self.visible.add(value)

    def read(self, values: Iterable[str], who: str) -> None:
        for value in values:
            _require(value in self.visible, f"{who} reads {value!r} before it is written")

    def steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Call):
                self.call(step)
            else:
                self.loop(step)

    def call(self, step: Call) -> None:
        who = f"segment {step.segment!r}"
        info = self.plan.segments.get(step.segment)
        if info is None:
            _fail(f"{who} is called, but there is none of this name")
        self.read(step.inputs, who)
        self.write(step.outputs, who)
        given = [self.plan.values[value] for value in (*step.inputs, *step.outputs)]
        wanted = [spec for _, spec in (*info.inputs, *info.outputs)]
        fits = len(step.inputs) == len(info.inputs) and given == wanted
        _require(fits, f"{who} is called with {_texts(given)}, but declares {_texts(wanted)}")

    def loop(self, step: Loop) -> None:
        who = f"loop {step.name!r}"
        _require(step.trips >= 1, f"{who} makes {step.trips} trips")
        self.read((c.init for c in step.carries), who)
        self.read((s.source for s in step.slices), who)
        before = len(self.written)
        self.write((c.inner for c in step.carries), who)
        self.write((s.inner for s in step.slices), who)
        self.steps(step.body)
        self.read((c.next for c in step.carries), who)
        self.read((s.inner for s in step.stacked), who)
        # What is written inside cannot be seen from outside.
        inside = islice(reversed(self.written), len(self.written) - before)
        self.visible.difference_update(inside)
        self.write((c.final for c in step.carries if c.final is not None), who)
        self.write((s.result for s in step.stacked), who)
        self.loop_types(step, who)

    def loop_types(self, step: Loop, who: str) -> None:
        values = self.plan.values
        for carry in step.carries:
            same = {values[v] for v in (carry.init, carry.inner, carry.next, carry.final) if v}
            _require(len(same) == 1, f"{who} carries values of different types: {_texts(same)}")
        rows = [(s.source, s.inner, False) for s in step.slices]
        rows += [(s.result, s.inner, True) for s in step.stacked]
        for whole, row, exact in rows:
            count = values[whole].shape[0] if values[whole].shape else None
            known = count if isinstance(count, int) and not exact else 0
            wanted = TensorSpec(values[row].dtype, (max(step.trips, known), *values[row].shape))
            _require(
                values[whole] == wanted,
                f"{who} has {step.trips} rows {row!r} in {whole!r}, which is {values[whole]}",
            )


def _texts(specs: Iterable[TensorSpec]) -> list[str]:
    return [str(spec) for spec in specs]


def _check_inputs(program: Program, plan: Plan) -> None:
    specs = {spec.name: spec.tensor for spec in program.inputs if spec.used}
    _require(
        plan.inputs.keys() == specs.keys(),
        f"it takes the inputs {sorted(plan.inputs)}, not {sorted(specs)}",
    )
    for name, value in plan.inputs.items():
        given = plan.values.get(value)
        _require(
            given == specs[name], f"the input {name!r} is {specs[name]}, but its value {given}"
        )


def _check_constants(program: Program, planned: Planned) -> None:
    plan = planned.plan
    _require(
        set(plan.constants) == planned.constants.keys()
        and len(plan.constants) == len(planned.constants),
        "the plan's constants are not those that have a name",
    )
    for value, name in planned.constants.items():
        tensor = program.constants.get(name)
        fits = tensor is not None and TensorType.of(tensor).spec == plan.values.get(value)
        _require(fits, f"the constant {value!r} is not the program's {name!r}")


def _check_draws(program: Program, plan: Plan) -> None:
    wanted = [
        (s.repeat, [(d.distribution, d.args, d.row, d.stream) for d in s.draws])
        for s in program.draws
    ]
    given = [
        (g.repeat, [(d.distribution, d.args, d.row, d.stream) for d in g.draws]) for g in plan.draws
    ]
    _require(wanted == given, f"the program draws {wanted}, but the plan {given}")


# --- segments -----------------------------------------------------------------------------------


def _check_segment(name: str, info: SegmentInfo, segment: Any, program: Program) -> None:
    _require(info.name == name, f"segment {name!r} is described under the name {info.name!r}")
    if not hasattr(segment, "graph"):
        _check_host(name, info, segment, program)
        return
    _require(
        (segment.name, segment.backend) == (name, info.backend),
        f"segment {name!r} of {info.backend!r} is made as {segment.name!r} of {segment.backend!r}",
    )
    given, results = _check_graph(name, segment.graph, program)
    sides = (
        ("inputs", given, segment.inputs, info.inputs),
        ("outputs", results, segment.outputs, info.outputs),
    )
    for side, nodes, names, declared in sides:
        made = [(n, _spec(node)) for n, node in zip(names, nodes, strict=False)]
        fits = len(nodes) == len(names) and made == list(declared)
        _require(fits, f"segment {name!r} declares other {side} than its graph has")
        _require(len(set(names)) == len(names), f"segment {name!r} has {side} of the same name")


def _check_verdicts(name: str, segment: Any, target: Target, judges: Mapping[str, Judge]) -> None:
    """Every node is on a backend of the target that takes it, and all of them are not too many."""
    if not hasattr(segment, "graph"):
        return
    fits = segment.backend in target.backends and segment.backend in judges
    _require(fits, f"segment {name!r} is for {segment.backend!r}, which the target does not have")
    judge = judges[segment.backend]
    nodes = [n for n in segment.graph.nodes if n.op == "call_function"]
    ops = [n for n in nodes if not is_getitem(n)]
    for node in ops:
        verdict = judge.verdict(node, target)
        if isinstance(verdict, Rejected):
            _fail(
                f"segment {name!r} holds {node.name!r}, which {segment.backend!r} rejects "
                f"({verdict.code}: {verdict.message})"
            )
    excess = excess_of(nodes, target.limits.get(segment.backend))
    _require(
        excess is None or len(ops) == 1,
        f"segment {name!r} is larger than {segment.backend!r} allows ({excess})",
    )


def _check_host(name: str, info: SegmentInfo, segment: Any, program: Program) -> None:
    op = program.host_ops.get(segment.op)
    _require(
        op is not None and info.backend == "host",
        f"segment {name!r} runs the host op {segment.op!r}, which the program does not have",
    )
    _require(
        op is not None and [n for n, _ in info.outputs] == list(op.outputs),
        f"segment {name!r} declares other outputs than the host op {segment.op!r} has",
    )


def _check_graph(
    name: str, graph: fx.Graph, program: Program
) -> tuple[list[fx.Node], tuple[fx.Node, ...]]:
    """A graph that runs by itself; its inputs and results."""
    given: list[fx.Node] = []
    results: tuple[fx.Node, ...] = ()
    seen: set[fx.Node] = set()
    for node in graph.nodes:
        _require(
            seen.issuperset(node.all_input_nodes),
            f"segment {name!r} uses an operand of {node.name!r} before it is defined",
        )
        seen.add(node)
        if node.op == "placeholder":
            given.append(node)
        elif node.op == "output":
            results = cast("tuple[fx.Node, ...]", node.args[0])
        elif node.op == "get_attr":
            known = node.target in program.constants
            _require(known, f"segment {name!r} reads the unknown constant {node.target!r}")
        else:
            fits = node.op == "call_function" and node.target not in STRUCTURAL
            _require(fits, f"segment {name!r} holds {node.name!r}, which is no tensor op")
    return given, results


def _spec(node: fx.Node) -> TensorSpec | None:
    type_ = node.meta.get("type")
    return type_.spec if isinstance(type_, TensorType) else None
