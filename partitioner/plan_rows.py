"""A plan that was made for a range of batch sizes, at one of them.

The plan has the sizes of the most rows; with fewer, values shrink by what they grow with each row,
outputs that are a row by themselves are left out, and so is what only they need. Build and runtime
share this, so that what is served is what was checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from partitioner.plan import Call, Loop, Plan, SegmentInfo, Step
from partitioner.specs import TensorSpec

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Batch

__all__ = ["batch_at", "kept_outputs", "narrowed", "plan_at", "reads_of"]


def batch_at(batch: Batch, rows: int) -> Batch:
    """What is a row of what, with so many rows of the range."""
    return replace(batch, rows=rows, least=None, growth={})


def plan_at(plan: Plan, batch: Batch, rows: int) -> Plan:
    """The plan with so many rows.

    Args:
        plan: for the most rows of the range.
        batch: that says how it grows.
    """
    if rows == batch.rows:
        return plan
    values = {v: _spec_at(plan.values[v], batch, v, rows) for v in plan.values}
    outputs = {name: plan.outputs[name] for name in kept_outputs(plan.outputs, batch, rows)}
    steps, _ = _needed(plan.steps, set(outputs.values()))
    segments = dict(plan.segments)
    for call in _calls(steps):
        info = segments[call.segment]
        segments[call.segment] = SegmentInfo(
            info.name,
            info.backend,
            _tensors(info.inputs, call.inputs, values),
            _tensors(info.outputs, call.outputs, values),
            info.stages,
            info.nodes,
            info.sources,
        )
    return replace(plan, values=values, outputs=outputs, steps=steps, segments=segments)


def kept_outputs(names: Sequence[str] | dict[str, Any], batch: Batch, rows: int) -> list[str]:
    """The outputs that there are with so many rows."""
    return [name for name in names if _row_of(name, batch) < rows]


def narrowed(array: Any, growth: Sequence[int], fewer: int) -> Any:
    """A constant of the range, an array or tensor, with so many rows fewer than the most."""
    if not any(growth):
        return array
    sizes = zip(array.shape, growth, strict=True)
    return array[tuple(slice(0, size - grows * fewer) for size, grows in sizes)]


def reads_of(steps: Sequence[Step]) -> set[str]:
    """All values that steps read, those of their own among them."""
    found: set[str] = set()
    for step in steps:
        if isinstance(step, Call):
            found.update(step.inputs)
            continue
        found.update(carry.init for carry in step.carries)
        found.update(carry.next for carry in step.carries)
        found.update(part.source for part in step.slices)
        found.update(part.inner for part in step.stacked)
        found |= reads_of(step.body)
    return found


def _row_of(name: str, batch: Batch) -> int:
    """Which row an output is by itself; 0 for one with all rows."""
    head, _, tail = name.rpartition(".")
    return int(tail) if tail.isdigit() and head in batch.listed else 0


def _spec_at(spec: TensorSpec, batch: Batch, value: str, rows: int) -> TensorSpec:
    growth = batch.growth.get(value)
    if growth is None:
        return spec
    fewer, shape = batch.rows - rows, cast("tuple[int, ...]", spec.shape)
    dims = (size - grows * fewer for size, grows in zip(shape, growth, strict=True))
    return TensorSpec(spec.dtype, tuple(dims))


def _tensors(
    tensors: Sequence[tuple[str, TensorSpec]], ids: Sequence[str], values: dict[str, TensorSpec]
) -> tuple[tuple[str, TensorSpec], ...]:
    return tuple((name, values[value]) for (name, _), value in zip(tensors, ids, strict=True))


def _calls(steps: Sequence[Step]) -> Iterator[Call]:
    for step in steps:
        if isinstance(step, Call):
            yield step
        else:
            yield from _calls(step.body)


def _needed(steps: Sequence[Step], needed: set[str]) -> tuple[tuple[Step, ...], set[str]]:
    """The steps that give what is needed, and all that they need. Loops are kept whole."""
    kept: list[Step] = []
    for step in reversed(steps):
        if needed.isdisjoint(_writes(step)):
            continue
        kept.append(step)
        needed = needed | reads_of([step])
    return tuple(reversed(kept)), needed


def _writes(step: Step) -> set[str]:
    if isinstance(step, Loop):
        finals = (carry.final for carry in step.carries if carry.final is not None)
        return {*finals, *(part.result for part in step.stacked)}
    return set(step.outputs)
