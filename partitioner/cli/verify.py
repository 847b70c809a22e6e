"""``partition verify``: a bundle's numbers on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partitioner.cli.loading import compute_options, loading_of
from partitioner.cli.models import member_option, needs_torch
from partitioner.cli.printing import emit, json_option
from partitioner.cli.storing import allow_option, require_option
from partitioner.errors import UsageError

if TYPE_CHECKING:
    from partitioner.modelfile import LoadedModel
    from partitioner.quality import Metric

__all__ = ["command"]


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@compute_options
@click.option(
    "--quality",
    "model",
    metavar="MODEL",
    help="Measure the results by the metric of this model file, beside the eager pipeline's.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="With --quality: what the bundle was built with.",
)
@click.option(
    "--quality-budget",
    metavar="SHARE",
    help="With --quality: fail if the mean is less, such as 98.5%.",
)
@member_option
@require_option
@allow_option
@json_option
def command(bundle: Path, as_json: bool, **options: Any) -> None:
    """Repeat the parity check of BUNDLE here: every segment, and the outputs.

    The samples lie in the bundle, so neither the model nor torch is needed. Every blob is hashed
    first. Of a bundle for several targets all members are run that this host can run, or the one of
    --variant. Exit code 8 if a number differs, 9 if the bundle is damaged.

    With --quality, the eager pipeline of MODEL is run, too, which needs torch, on the example
    inputs and what the file has as `quality_inputs`; its `quality` measures each result.
    """
    if options["model"] is None and (options["settings"] or options["quality_budget"]):
        raise UsageError("--set and --quality-budget go with --quality", advice="name the model")
    asked = None if options["model"] is None else _asked(options)
    from partitioner.runtime.verify import verify_bundle

    loading = loading_of(options)
    report = verify_bundle(bundle, **loading)
    document, lines = report.to_dict(), []
    if asked is not None:
        document["quality"] = _quality(bundle, loading, *asked)
        lines = _quality_lines(document["quality"])
    emit(as_json, document, lambda: "\n".join([_text(report), *lines]))


def _asked(options: dict[str, Any]) -> tuple[LoadedModel, Metric, float | None]:
    """The model file, its metric, and what the mean has to be: before anything takes time."""
    try:
        from partitioner.modelfile import load_model, parse_setting
        from partitioner.quality import metric_of, parse_share
    except ImportError as error:
        raise needs_torch(error, "measuring quality") from error
    budget = options["quality_budget"]
    least = None if budget is None else parse_share(budget)
    loaded = load_model(options["model"], dict(parse_setting(s) for s in options["settings"]))
    return loaded, metric_of(loaded), least


def _quality(
    bundle: Path,
    loading: dict[str, Any],
    loaded: LoadedModel,
    metric: Metric,
    least: float | None,
) -> dict[str, Any]:
    """The bundle's results by the model file's metric."""
    from partitioner.quality_check import measure_bundle, requests_of

    found = measure_bundle(
        bundle,
        loaded.pipeline,
        requests_of(loaded),
        metric,
        options=loaded.options,
        least=least,
        **loading,
    )
    return found.to_dict()


def _quality_lines(quality: dict[str, Any]) -> list[str]:
    count = len(quality["requests"])
    of = f"{count} request{'s' if count > 1 else ''}"
    figures = f"{quality['mean']:.2%} on average, {quality['least']:.2%} at least"
    return [f"quality beside eager, {of}: {figures}"]


def _text(report: Any) -> str:
    width = max(len(row.name) for row in report.rows)
    lines = [f"{row.name:<{width}}  {row.error:.2e} of {row.tolerance:.0e}" for row in report.rows]
    lines += [f"skipped  {member}: {why}" for member, why in report.skipped.items()]
    return "\n".join([*lines, "ok: the numbers are those of the eager pipeline"])
