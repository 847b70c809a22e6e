"""A bucket for a range of batch sizes at one of them: what a build checks besides the most rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt
from torch import fx

from partitioner.artifacts.manifest import Batch
from partitioner.backends import find_backend
from partitioner.batching import Bucket, with_rows
from partitioner.cases import Case
from partitioner.errors import UsageError
from partitioner.plan import Plan
from partitioner.plan_rows import batch_at, narrowed, plan_at
from partitioner.planning.planned import Planned
from partitioner.planning.segments import Segment
from partitioner.prepared import Prepared
from partitioner.program import TensorType, copy_graph
from partitioner.rowcounts import at_rows

__all__ = ["bucket_at", "check_backends", "named_by_row", "prepared_at"]

Array = npt.NDArray[Any]


def check_backends(planned: Planned) -> None:
    """Refuse a plan for a range that has segments of backends that need to know all sizes.

    Raises:
        UsageError: names the segment and its source lines.
    """
    if not planned.growth:
        return
    for info in planned.plan.segments.values():
        if not find_backend(info.backend).ranges:
            raise UsageError(
                f"the backend {info.backend!r} compiles for one batch size (dynamic-shape), and "
                f"takes the segment {info.name!r}",
                where="; ".join(info.sources) or None,
                advice="build a bucket for each size: --batch 1,4; or for a target with other "
                "backends",
            )


def bucket_at(bucket: Bucket, batch: Batch, rows: int) -> Bucket:
    """The bucket with example inputs of so many rows, of those that it serves."""
    inputs = with_rows(bucket.example_inputs, batch.inputs, rows)
    return replace(bucket, example_inputs=inputs, batch=batch_at(batch, rows), span=None, more=())


def prepared_at(prepared: Prepared, batch: Batch, rows: int) -> Prepared:
    """Plan, segments and tables with so many rows."""
    planned = prepared.planned
    segments = {
        name: replace(segment, graph=_graph_at(segment.graph, rows))
        if isinstance(segment, Segment)
        else segment
        for name, segment in planned.segments.items()
    }

    def case_at(case: Case) -> Case:
        none = (0,)
        fewer = batch.rows - rows
        tensors = {
            value: narrowed(tensor, batch.growth.get(value, none), fewer)
            for value, tensor in case.tensors.items()
        }
        return replace(case, plan=_plan(case.plan), tensors=tensors)

    def _plan(plan: Plan) -> Plan:
        return plan_at(plan, batch, rows)

    return replace(
        prepared,
        planned=replace(planned, plan=_plan(planned.plan), segments=segments, growth={}),
        cases=tuple(map(case_at, prepared.cases)),
        rows=rows,
    )


def named_by_row(outputs: dict[str, Array], batch: Batch) -> dict[str, Array]:
    """Outputs of the eager pipeline; of one row, what is listed gets its number, as in the plan."""
    return {f"{n}.0" if n in batch.listed else n: array for n, array in outputs.items()}


def _graph_at(graph: fx.Graph, rows: int) -> fx.Graph:
    copied = copy_graph(graph)
    for node in copied.nodes:
        node.args, node.kwargs = at_rows(node.args, rows), at_rows(dict(node.kwargs), rows)
        if "type" in node.meta:
            node.meta["type"] = _type_at(node.meta["type"], rows)
    return copied


def _type_at(type_: Any, rows: int) -> Any:
    if isinstance(type_, tuple):
        return tuple(_type_at(one, rows) for one in type_)
    if isinstance(type_, TensorType):
        return TensorType(at_rows(type_.shape, rows), type_.dtype)
    return type_
