"""A plan as one document of plain data: what ``partition plan --json`` prints.

Its form is described in ``docs/plan.md``. Keys are only added within one :data:`VERSION`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from partitioner.capture.sources import portable
from partitioner.passes.costs import program_cost
from partitioner.plan import Loop, Plan, Step
from partitioner.planning.borders import Border, explain_borders
from partitioner.planning.estimate import PlanEstimate, estimate_plan
from partitioner.planning.fallbacks import find_fallbacks, preferred_backend
from partitioner.planning.planned import Planned
from partitioner.prepared import Prepared
from partitioner.program import Program
from partitioner.report.formats import FORMAT, VERSION
from partitioner.report.groups import node_groups
from partitioner.targets.available import missing_backends

__all__ = ["describe", "describe_several"]


def describe(prepared: Prepared) -> dict[str, Any]:
    """One plan on its target."""
    planned, program, target = prepared.planned, prepared.program, prepared.target
    plan, captured = planned.plan, prepared.captured
    estimate = estimate_plan(planned, program, target, prepared.scale)
    borders = {
        (b.before, b.after): replace(b, source=portable(b.source))
        for b in explain_borders(planned, program, target)
    }
    fallbacks = [
        replace(f, source=portable(f.source))
        for f in find_fallbacks(planned, program, target, estimate)
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "target": target.name,
        "instance": target.instance,
        "rows": prepared.rows,
        "backends": list(target.backends),
        "preferred": preferred_backend(planned, target),
        "inputs": {name: str(plan.values[value]) for name, value in plan.inputs.items()},
        "outputs": {name: str(plan.values[value]) for name, value in plan.outputs.items()},
        "cost": asdict(program_cost(program)),
        "plan": list(_steps(plan, plan.steps, borders)),
        "segments": _segments(planned, program, estimate),
        "fallbacks": [asdict(fallback) for fallback in fallbacks],
        "estimate": None if estimate is None else _estimate(estimate),
        "loops": [{**asdict(loop), "source": portable(loop.source)} for loop in captured.loops],
        "warnings": [
            *captured.warnings,
            *(
                f"the backend {name!r} is not installed: others are planned for its part"
                for name in missing_backends(target)
            ),
        ],
        "pipeline": prepared.passes,
        "passes": [asdict(record) for record in prepared.records],
    }


def describe_several(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plans of one pipeline for several targets, in one document."""
    return {"format": FORMAT, "version": VERSION, "plans": list(documents)}


# --- steps --------------------------------------------------------------------------------------


def _steps(
    plan: Plan, steps: Sequence[Step], borders: Mapping[tuple[str, str], Border]
) -> Iterator[dict[str, Any]]:
    before = ""
    for step in steps:
        name = step.name if isinstance(step, Loop) else step.segment
        border = borders.get((before, name))
        before = name
        yield {
            **(_loop(plan, step, borders) if isinstance(step, Loop) else {"segment": name}),
            # Why this step is not one with the step before it.
            "border": None if border is None else asdict(border),
        }


def _loop(plan: Plan, step: Loop, borders: Mapping[tuple[str, str], Border]) -> dict[str, Any]:
    return {
        "loop": step.name,
        "trips": step.trips,
        "carries": [str(plan.values[carry.inner]) for carry in step.carries],
        "steps": list(_steps(plan, step.body, borders)),
    }


# --- segments -----------------------------------------------------------------------------------


def _segments(
    planned: Planned, program: Program, estimate: PlanEstimate | None
) -> dict[str, dict[str, Any]]:
    groups = node_groups(planned)
    figures = {} if estimate is None else {s.name: s for s in estimate.segments}
    found: dict[str, dict[str, Any]] = {}
    for name, info in planned.plan.segments.items():
        own = figures.get(name)
        found[name] = {
            "backend": info.backend,
            "device": None if own is None else own.device,
            "nodes": info.nodes,
            **_work(planned, program, name),
            "stages": list(info.stages),
            "sources": [portable(source) for source in info.sources],
            "inputs": [[label, str(spec)] for label, spec in info.inputs],
            "outputs": [[label, str(spec)] for label, spec in info.outputs],
            "split": planned.splits.get(name, ""),
            "holds": groups[name],
            "estimate": None
            if own is None
            else {
                "calls": own.calls,
                "seconds": own.seconds,
                "compute_s": own.compute_s,
                "memory_s": own.memory_s,
                "call_s": own.call_s,
            },
        }
    return found


def _work(planned: Planned, program: Program, name: str) -> dict[str, int]:
    """Operations, weights and instructions of one call; they need no figures of a target."""
    from partitioner.passes.costs import operations
    from partitioner.planning.cost import instructions

    graph = getattr(planned.segments[name], "graph", None)
    nodes = [] if graph is None else list(graph.nodes)
    read = {node.target for node in nodes if node.op == "get_attr"}
    return {
        "operations": sum(map(operations, nodes)),
        "weight_bytes": sum(program.constants[str(target)].nbytes for target in read),
        "instructions": sum(map(instructions, (n for n in nodes if "type" in n.meta))),
    }


# --- the estimate -------------------------------------------------------------------------------


def _estimate(estimate: PlanEstimate) -> dict[str, Any]:
    price = estimate.price
    return {
        "instance": estimate.instance,
        "seconds": estimate.seconds,
        "requests_s": estimate.requests_s,
        "bottleneck": estimate.bottleneck,
        "price": None if price is None else asdict(price),
        "no_price": estimate.no_price,
        "devices": [
            {
                "name": device.name,
                "backends": list(device.backends),
                "copies": device.copies,
                "busy_s": device.busy_s,
                "memory": {**asdict(device.memory), "total": device.memory.total},
                "memory_bytes": device.memory_bytes,
                "fits": device.fits,
            }
            for device in estimate.devices
        ],
        "transfers": [
            {**asdict(transfer.crossing), "seconds": transfer.seconds}
            for transfer in estimate.transfers
        ],
        "unknown": list(estimate.unknown),
    }
