"""Whether a plan can be run: every value is written once, before it is read, and of one type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from partitioner.artifacts.faults import damaged, shown
from partitioner.artifacts.names import MAX_TRIPS, check_id, check_label, check_spec, check_text
from partitioner.buffers.usage import RULES, MemoryUse, measure
from partitioner.plan import Call, DrawGroup, Loop, Plan, SegmentInfo, Step
from partitioner.specs import TensorSpec

__all__ = ["check_memory", "validate_plan"]

#: Longest line of the user's source that a segment quotes.
_MAX_SOURCE = 4096


def validate_plan(plan: Plan) -> None:
    """Check a plan by walking it as the runtime will.

    Raises:
        BundleError: says which value or step, and what is wrong with it.
    """
    for name, spec in plan.values.items():
        check_id(name, "a value")
        check_spec(spec, f"value {name!r}")
    for name, segment in plan.segments.items():
        _check_segment(name, segment)
    scope = _Scope(plan.values)
    scope.write(plan.inputs.values(), "the inputs")
    scope.write(plan.constants, "the constants")
    for group in plan.draws:
        _check_draws(plan, group, scope)
    for step in plan.steps:
        _check_step(plan, step, scope)
    scope.read(plan.outputs.values(), "the outputs")


def check_memory(plan: Plan, memory: MemoryUse, what: str) -> None:
    """Refuse figures that are not those of the plan, which has been validated.

    Figures by the rules of another version cannot be made again here; nothing relies on them.

    Raises:
        BundleError: a figure is wrong.
    """
    if memory.rules != RULES:
        return
    found = measure(plan)
    if found != memory:
        raise damaged(
            f"{what} is said to take {memory.peak} bytes a run, {memory.arena} of them in its "
            f"arena; its plan takes {found.peak} and {found.arena}, or differs in other figures"
        )


class _Scope:
    """Which values are written, and which of them can be seen.

    Ids are unique in the whole plan, so what the body of a loop wrote stays taken when it can no
    longer be seen.
    """

    def __init__(self, values: dict[str, TensorSpec]) -> None:
        self.values = values
        self.visible: set[str] = set()
        self.taken: set[str] = set()
        self.log: list[str] = []

    def write(self, ids: Iterable[str], who: str) -> None:
        for value in ids:
            if value not in self.values:
                raise damaged(f"{who} write(s) {shown(value)}, which has no type")
            if value in self.taken:
                raise damaged(f"{who} write(s) {value!r}, which is written already")
            self.taken.add(value)
            self.visible.add(value)
            self.log.append(value)

    def read(self, ids: Iterable[str], who: str) -> None:
        for value in ids:
            if value not in self.visible:
                raise damaged(f"{who} read(s) {shown(value)}, which is not written before")

    def enter(self) -> int:
        return len(self.log)

    def leave(self, mark: int) -> None:
        self.visible.difference_update(self.log[mark:])
        del self.log[mark:]


def _check_segment(name: str, info: SegmentInfo) -> None:
    check_id(name, "a segment")
    if info.name != name:
        raise damaged(f"segment {name!r} is called {shown(info.name)} in its own entry")
    what = f"segment {name!r}"
    if info.nodes < 0:
        raise damaged(f"{what} has {info.nodes} nodes")
    for text in (*info.stages, *info.sources):
        check_text(text, f"a source of {what}", _MAX_SOURCE)
    for tensors in (info.inputs, info.outputs):
        for tensor, count in Counter(tensor for tensor, _ in tensors).items():
            check_label(tensor, f"a tensor of {what}")
            if count > 1:
                raise damaged(f"{what} has two tensors {tensor!r}")
        for tensor, spec in tensors:
            check_spec(spec, f"{what}, tensor {tensor!r}")


def _check_draws(plan: Plan, group: DrawGroup, scope: _Scope) -> None:
    if not 1 <= group.repeat <= MAX_TRIPS:
        raise damaged(f"draws are repeated {group.repeat} times; 1 to {MAX_TRIPS} are allowed")
    scope.write([draw.value for draw in group.draws], "draws")
    for draw in group.draws:
        shape = plan.values[draw.value].shape
        if draw.stream < 0:
            raise damaged(f"the draw {draw.value!r} is of stream {draw.stream}")
        if not all(isinstance(dim, int) for dim in shape):
            raise damaged(f"the draw {draw.value!r} has no fixed shape")
        if draw.row and not _has_rows(plan.values[draw.value], group.repeat):
            raise damaged(f"the draw {draw.value!r} does not have {group.repeat} rows")
        if not draw.row and group.repeat != 1:
            raise damaged(f"the draw {draw.value!r} is repeated, but not row by row")


def _check_step(plan: Plan, step: Step, scope: _Scope) -> None:
    if isinstance(step, Call):
        _check_call(plan, step, scope)
    else:
        _check_loop(plan, step, scope)


def _check_call(plan: Plan, step: Call, scope: _Scope) -> None:
    segment = plan.segments.get(step.segment)
    if segment is None:
        raise damaged(f"the plan calls the segment {shown(step.segment)}, which it does not have")
    what = f"the call of {step.segment!r}"
    scope.read(step.inputs, what)
    scope.write(step.outputs, what)
    _check_tensors(plan, step.inputs, segment.inputs, what)
    _check_tensors(plan, step.outputs, segment.outputs, what)


def _check_tensors(
    plan: Plan,
    values: tuple[str, ...],
    tensors: tuple[tuple[str, TensorSpec], ...],
    what: str,
) -> None:
    if len(values) != len(tensors):
        raise damaged(f"{what} has {len(values)} values for {len(tensors)} tensors")
    for value, (name, spec) in zip(values, tensors, strict=True):
        if plan.values[value] != spec:
            raise damaged(
                f"{what}: tensor {name!r} is {spec}, but value {value!r} is {plan.values[value]}"
            )


def _check_loop(plan: Plan, step: Loop, scope: _Scope) -> None:
    check_id(step.name, "a loop")
    what = f"the loop {step.name!r}"
    if not 1 <= step.trips <= MAX_TRIPS:
        raise damaged(f"{what} makes {step.trips} trips; 1 to {MAX_TRIPS} are allowed")
    scope.read([carry.init for carry in step.carries], what)
    scope.read([part.source for part in step.slices], what)
    mark = scope.enter()
    scope.write([carry.inner for carry in step.carries], what)
    scope.write([part.inner for part in step.slices], what)
    for inner in step.body:
        _check_step(plan, inner, scope)
    scope.read([carry.next for carry in step.carries], what)
    scope.read([part.inner for part in step.stacked], what)
    scope.leave(mark)
    scope.write([c.final for c in step.carries if c.final is not None], what)
    scope.write([part.result for part in step.stacked], what)
    _check_loop_types(plan, step, what)


def _check_loop_types(plan: Plan, step: Loop, what: str) -> None:
    values = plan.values
    for carry in step.carries:
        same = {values[carry.init], values[carry.inner], values[carry.next]}
        if carry.final is not None:
            same.add(values[carry.final])
        if len(same) != 1:
            raise damaged(f"{what} carries {carry.inner!r}, whose type changes on the way")
    for part in step.slices:
        whole, row = values[part.source], values[part.inner]
        fits = _has_rows(whole, step.trips) and TensorSpec(whole.dtype, whole.shape[1:]) == row
        if not fits:
            raise damaged(f"{what}: {part.source!r} is {whole}, not {step.trips} rows of {row}")
    for part in step.stacked:
        row = values[part.inner]
        wanted = TensorSpec(row.dtype, (step.trips, *row.shape))
        if values[part.result] != wanted:
            raise damaged(f"{what}: {part.result!r} is {values[part.result]}, not {wanted}")


def _has_rows(spec: TensorSpec, count: int) -> bool:
    rows = spec.shape[0] if spec.shape else None
    return isinstance(rows, int) and rows >= count
