"""``partition trace``: what a bundle does when, for Perfetto."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partitioner.cli.printing import emit, json_option
from partitioner.cli.run import parse_inputs
from partitioner.cli.serving import serving_of, serving_options
from partitioner.wholefiles import check_target

__all__ = ["command"]


@click.command("trace")
@click.argument("bundle")
@serving_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("trace.json"),
    show_default=True,
)
@click.option(
    "--requests",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="That are traced, submitted all at once.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=2, show_default=True, help="Calls at a time."
)
@click.option("--warm-up", type=click.IntRange(0), default=1, show_default=True)
@json_option
def command(bundle: str, as_json: bool, **given: Any) -> None:
    """Trace real requests of BUNDLE: segments, loops, steps, and how long requests wait.

    \b
      partition trace my.bundle -o trace.json
      partition trace my.bundle --input image=chair.png --requests 16 --workers 4

    The file is for https://ui.perfetto.dev and chrome://tracing. Serving code does the same by
    `with partitioner.runtime.tracing("trace.json"):`.
    """
    from partitioner.benching.requests import sample_request
    from partitioner.runtime import tracing

    check_target(given["output"])
    serving, count = serving_of(bundle, given), given["requests"]
    with serving.load(given["workers"], limit=count) as pipe:
        inputs = parse_inputs(given["given"])
        sample = sample_request(bundle, pipe.manifest.inputs, inputs, serving.variant)
        for _ in range(given["warm_up"]):
            pipe(sample.inputs, seed=given["seed"])
        with tracing(given["output"]) as trace:
            requests = [pipe.submit(sample.inputs, seed=given["seed"]) for _ in range(count)]
            for request in requests:
                request.result()
    document = {
        "written": str(given["output"]),
        "requests": count,
        "events": len(trace.document()["traceEvents"]),
        "dropped": trace.dropped,
        "origins": sample.origins,
    }
    emit(
        as_json,
        document,
        lambda: f"wrote {given['output']}: {document['events']} events of {count} requests",
    )
