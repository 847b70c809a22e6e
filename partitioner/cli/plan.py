"""``partition plan``: what a build would make of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from partitioner.cli import probe_report
from partitioner.cli.common import emit, json_option
from partitioner.cli.models import capture_arguments, load, model_options, needs_torch
from partitioner.cli.tables import count_text, passes_table, size_text
from partitioner.plan import Call, Step

__all__ = ["command"]


@click.command("plan")
@click.argument("model")
@model_options
@click.option("--passes", "show_passes", is_flag=True, help="List what each pass did.")
@click.option("--pipeline", "passes", help="A pass pipeline instead of the default one.")
@click.option(
    "--probe", is_flag=True, help="Ask installed backends whether the support tables are right."
)
@json_option
def command(model: str, show_passes: bool, probe: bool, as_json: bool, **given: Any) -> None:
    """Capture MODEL, run the passes and print the plan; compile nothing.

    Operations count a multiplication or an addition as one; weights are what the segment reads.

    \b
      partition plan model.py
      partition plan model.py:make --set steps=20 --passes
      partition plan model.py --pipeline normalise,eliminate-dead --json
      partition plan model.py --probe
    """
    try:
        from partitioner.frontend import prepare
    except ImportError as error:
        raise needs_torch(error, "planning") from error
    loaded = load(model, given)
    prepared = prepare(loaded.pipeline, loaded.example_inputs, **capture_arguments(loaded, given))
    document = _document(prepared)
    if probe:
        document["probe"] = probe_report.document(prepared.program, prepared.target)
    emit(as_json, document, lambda: "\n".join(_lines(document, show_passes)))


# --- the document -------------------------------------------------------------------------------


def _document(prepared: Any) -> dict[str, Any]:
    from partitioner.passes.costs import program_cost
    from partitioner.targets.available import missing_backends

    plan, captured = prepared.planned.plan, prepared.captured
    return {
        "target": prepared.target.name,
        "inputs": {name: str(plan.values[value]) for name, value in plan.inputs.items()},
        "outputs": {name: str(plan.values[value]) for name, value in plan.outputs.items()},
        "cost": asdict(program_cost(prepared.program)),
        "plan": _steps(plan, plan.steps),
        "segments": {
            name: _segment(prepared, name, segment)
            for name, segment in prepared.planned.segments.items()
        },
        "loops": [asdict(loop) for loop in captured.loops],
        "warnings": [
            *captured.warnings,
            *(
                f"the backend {name!r} is not installed: others are planned for its part"
                for name in missing_backends(prepared.target)
            ),
        ],
        "passes": [asdict(record) for record in prepared.records],
    }


def _steps(plan: Any, steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    return [
        {"segment": step.segment}
        if isinstance(step, Call)
        else {
            "loop": step.name,
            "trips": step.trips,
            "carries": [str(plan.values[carry.inner]) for carry in step.carries],
            "steps": _steps(plan, step.body),
        }
        for step in steps
    ]


def _segment(prepared: Any, name: str, segment: Any) -> dict[str, Any]:
    from partitioner.passes.costs import operations

    info = prepared.planned.plan.segments[name]
    graph = getattr(segment, "graph", None)
    nodes = [] if graph is None else list(graph.nodes)
    read = {node.target for node in nodes if node.op == "get_attr"}
    return {
        "backend": info.backend,
        "nodes": info.nodes,
        "operations": sum(operations(node) for node in nodes),
        "weight_bytes": sum(prepared.program.constants[target].nbytes for target in read),
        "stages": list(info.stages),
        "sources": list(info.sources),
    }


# --- text ---------------------------------------------------------------------------------------


def _lines(document: dict[str, Any], show_passes: bool) -> Iterator[str]:
    yield from (f"warning  {text}" for text in document["warnings"])
    yield f"target   {document['target']}"
    yield from (f"input    {name}: {spec}" for name, spec in document["inputs"].items())
    yield from (f"output   {name}: {spec}" for name, spec in document["outputs"].items())
    cost = document["cost"]
    yield (
        f"cost     {count_text(cost['operations'])} operations a run; weights read: "
        f"{size_text(cost['weight_bytes'])} a run, {size_text(cost['step_weight_bytes'])} a step"
    )
    yield "plan"
    yield from _step_lines(document["plan"], document["segments"], 1)
    if show_passes:
        yield "passes"
        yield from passes_table(document["passes"])
    yield from probe_report.lines(document.get("probe", []))


def _step_lines(
    steps: list[dict[str, Any]], segments: dict[str, dict[str, Any]], depth: int
) -> Iterator[str]:
    indent = "  " * depth
    for step in steps:
        if "loop" in step:
            carried = ", ".join(step["carries"])
            yield f"{indent}{step['loop']} x {step['trips']}  carries {carried}"
            yield from _step_lines(step["steps"], segments, depth + 1)
            continue
        segment = segments[step["segment"]]
        parts = [f"{step['segment']}  [{segment['backend']}]", f"{segment['nodes']} nodes"]
        if segment["operations"]:
            parts.append(f"{count_text(segment['operations'])} operations")
        if segment["weight_bytes"]:
            parts.append(f"weights {size_text(segment['weight_bytes'])}")
        if segment["stages"]:
            parts.append(f"stages {', '.join(segment['stages'])}")
        yield indent + "  ".join(parts)
