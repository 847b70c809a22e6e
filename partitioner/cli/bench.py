"""``partition bench``: what a bundle takes on this host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partitioner.cli.amounts import Amount
from partitioner.cli.printing import emit, json_option
from partitioner.cli.run import parse_inputs
from partitioner.cli.serving import parse_counts, serving_of, serving_options
from partitioner.errors import UsageError
from partitioner.wholefiles import check_target

__all__ = ["SLOWER", "command"]

#: Exit code where ``--fail-above`` is exceeded.
SLOWER = 16


@click.command("bench")
@click.argument("bundle")
@serving_options
@click.option(
    "--concurrency",
    default="1,2,8",
    show_default=True,
    metavar="CLIENTS[,...]",
    callback=lambda _ctx, _param, text: parse_counts(text),
    help="Clients at a time, for throughput.",
)
@click.option("--workers", type=click.IntRange(1), help="Calls at a time; as many as clients.")
@click.option(
    "--seconds",
    type=Amount(0),
    default=5.0,
    show_default=True,
    help="Of each measurement of requests, at least.",
)
@click.option(
    "--requests",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Of each measurement, at least; with --seconds 0 just as many.",
)
@click.option("--warm-up", type=click.IntRange(0), default=2, show_default=True)
@click.option(
    "--starts",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Processes that are started cold, and as many warm, for loading and memory; 0 for none.",
)
@click.option("--price", type=Amount(0), help="Of an hour of this host, in USD.")
@click.option("--compare", "other", metavar="OTHER", help="Another bundle, measured in turn.")
@click.option(
    "--fail-above",
    "limit",
    type=Amount(0, min_open=True),
    help=f"Exit code {SLOWER} if BUNDLE takes more than so many times what OTHER takes.",
)
@click.option(
    "--chart",
    "charts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Draw it: FILE.svg or FILE.png; again for both.",
)
@json_option
def command(bundle: str, as_json: bool, **given: Any) -> None:
    """Measure BUNDLE on this host.

    \b
      partition bench my.bundle
      partition bench my.bundle --input image=chair.png --concurrency 1,4 --chart bench.svg
      partition bench my.bundle --price 0.19 --json > bench.json
      partition bench new.bundle --compare old.bundle --fail-above 1.05

    Latency is of one request after the other; percentiles have 95 % intervals. Throughput is of
    so many clients at a time through the queue. Loading and memory are of processes of their own:
    cold ones find nothing in this host's cache, warm ones what the cold one before has left.
    """
    from partitioner.benching import Options, bench
    from partitioner.benching.chart import check_chart, write_chart
    from partitioner.benching.measuring import Budget
    from partitioner.cli.bench_text import bench_text

    if given["limit"] is not None and given["other"] is None:
        raise UsageError("--fail-above is about --compare, which is not given")
    for chart in given["charts"]:
        check_chart(chart)
        check_target(chart)
    least = given["requests"]
    options = Options(
        inputs=parse_inputs(given["given"]),
        seed=given["seed"],
        budget=Budget(given["seconds"], least, max(least, 10_000), given["warm_up"]),
        concurrency=given["concurrency"],
        workers=given["workers"],
        starts=given["starts"],
        per_hour=given["price"],
    )
    other = None if given["other"] is None else serving_of(given["other"], given)
    found = bench(serving_of(bundle, given), options, other=other)
    for chart in given["charts"]:
        write_chart(chart, found)
    emit(as_json, found.to_dict(), lambda: bench_text(found))
    if given["limit"] is None or found.comparison is None:
        return
    ratio = found.comparison.ratio.value
    if ratio > given["limit"]:
        click.echo(f"{ratio:.3f} times as long, allowed are {given['limit']:g}", err=True)
        raise click.exceptions.Exit(SLOWER)
