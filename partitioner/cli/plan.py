"""``partition plan``: what a build would make of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from partitioner.cli import probe_report, segment_report
from partitioner.cli.failing import error_document
from partitioner.cli.models import (
    batch_option,
    capture_arguments,
    load,
    model_options_for_targets,
    needs_torch,
    target_of,
)
from partitioner.cli.outputs import write_text
from partitioner.cli.plan_text import lines
from partitioner.cli.printing import emit, json_option
from partitioner.errors import UsageError
from partitioner.wholefiles import check_target

__all__ = ["command"]


@click.command("plan")
@click.argument("model")
@model_options_for_targets
@batch_option
@click.option("--passes", "show_passes", is_flag=True, help="List what each pass did.")
@click.option("--pipeline", "passes", help="A pass pipeline instead of the default one.")
@click.option(
    "--probe",
    is_flag=True,
    help="Ask installed backends whether the support tables are right, and check Neuron segments.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan as a page, too: one file, with the graph drawn.",
)
@json_option
def command(
    model: str,
    targets: Sequence[str],
    show_passes: bool,
    probe: bool,
    page: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Capture MODEL, run the passes and print the plan; compile nothing.

    Needs neither the backends nor their devices. Operations count a multiplication or an addition
    as one; weights are what the segment reads; seconds are estimates, by the target's peak figures.

    \b
      partition plan model.py --target inf2
      partition plan model.py --target inf2 --target xeon --target graviton
      partition plan model.py:make --set steps=20 --passes
      partition plan model.py --batch 4
      partition plan model.py --batch 1-8
      partition plan model.py --probe
      partition plan model.py --html plan.html
      partition plan model.py --json > plan.json
    """
    if page is not None:
        check_target(page)
    try:
        from partitioner.report.document import describe, describe_several
    except ImportError as error:
        raise needs_torch(error, "planning") from error
    prepared, examples = _prepare(model, targets, given)
    documents = [describe(one) for one in prepared]
    if probe:
        for document, one in zip(documents, prepared, strict=True):
            document["probe"] = probe_report.document(one.program, one.target)
            document["checks"] = segment_report.document(one, examples)
    if page is not None:
        write_text(page, _page(model, prepared, documents))
    whole = documents[0] if len(documents) == 1 else describe_several(documents)
    found = (segment_report.failure_of(document.get("checks", [])) for document in documents)
    failure = next((one for one in found if one is not None), None)
    if failure is not None and as_json:
        # One document: what was found, and the error that it is.
        emit(True, {**whole, **error_document(failure)}, str)
        raise click.exceptions.Exit(failure.exit_code)
    emit(as_json, whole, lambda: "\n".join(lines(documents, show_passes)))
    if failure is not None:
        raise failure


def _prepare(
    model: str, targets: Sequence[str], given: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """One plan for each target, and the example inputs; the pipeline is captured once."""
    from partitioner.frontend import prepare
    from partitioner.range_parity import check_backends

    twice = next((name for name in targets if targets.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"the target {twice!r} is given twice", advice="leave one out")
    own = [{**given, "target": name} for name in targets]
    # Names are looked at before the work.
    for one in own:
        target_of(one)
    loaded = load(model, own[0])
    bucket = _bucket(loaded, capture_arguments(loaded, own[0]), given["batch"])
    prepared: list[Any] = []
    for one in own:
        captured = {"captures": bucket.captures, "more": bucket.more, "span": bucket.span}
        arguments = {**capture_arguments(loaded, one), **captured}
        plan = prepare(loaded.pipeline, bucket.example_inputs, **arguments)
        check_backends(plan.planned)
        prepared.append(replace(plan, rows=bucket.rows))
    return prepared, bucket.example_inputs


def _bucket(loaded: Any, arguments: dict[str, Any], sizes: Sequence[Any]) -> Any:
    """The pipeline, captured with as many requests as are asked for."""
    from partitioner.batching import Bucket, make_buckets, row_inputs
    from partitioner.choices import capture_variants

    if len(sizes) > 1:
        raise UsageError(
            f"a plan is for one batch size, not for {', '.join(map(str, sizes))}",
            advice="plan for each: --batch 4, or --batch 1-8",
        )
    wanted = {name: arguments[name] for name in ("inputs", "stages")}

    def captured(example_inputs: Any) -> list[Any]:
        return capture_variants(loaded.pipeline, example_inputs, arguments["options"], (), **wanted)

    if not sizes:
        return Bucket(loaded.example_inputs, tuple(captured(loaded.example_inputs)), None)
    names = row_inputs(loaded.example_inputs, loaded.batched)
    return make_buckets(captured, loaded.example_inputs, names, sizes)[0]


def _page(model: str, prepared: Sequence[Any], documents: Sequence[dict[str, Any]]) -> str:
    from partitioner.report.drawing import draw
    from partitioner.report.page import render_page

    name = Path(model.partition(":")[0]).name or model
    plans = [(document, draw(one)) for document, one in zip(documents, prepared, strict=True)]
    return render_page(f"The plan of {name}", plans)
