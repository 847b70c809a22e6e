"""``partition bisect``: the node that a bundle computes wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partitioner.cli.loading import host_op_option
from partitioner.cli.models import member_option, needs_torch, stage_paths, target_files
from partitioner.cli.printing import emit, json_option
from partitioner.cli.storing import allow_option
from partitioner.errors import UsageError
from partitioner.hostops import import_host_op

if TYPE_CHECKING:
    from partitioner.artifacts.bundle import Bundle
    from partitioner.artifacts.index import BundleIndex
    from partitioner.modelfile import LoadedModel

__all__ = ["command"]


@click.command("bisect")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("model")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="As in the build; the pipeline's own are known from the bundle, a factory's are not.",
)
@click.option("--stage", "stages", multiple=True, metavar="NAME=PATH", help="As in the build.")
@host_op_option
@target_files
@member_option
@allow_option
@json_option
def command(bundle: Path, model: str, as_json: bool, **given: Any) -> None:
    """Find where BUNDLE leaves the numbers of MODEL, from which it was built.

    Looks at capture, at every pass, at every segment on torch's values, and in the first wrong
    segment compiles parts of it until the first wrong node is known.

    Exit code 0 if there is nothing wrong here, 5 if a pass is wrong, 8 if anything else is, 3 if
    MODEL is not what the bundle was built from.

    \b
      partition bisect my.bundle model.py
      partition bisect my.bundle model.py:make --set size=base --json
    """
    try:
        from partitioner.bisection import bisect_bundle
        from partitioner.rebuilding import pipeline_options
    except ImportError as error:
        raise needs_torch(error, "bisecting") from error
    from partitioner.artifacts.index import BundleIndex
    from partitioner.modelfile import load_model, parse_setting
    from partitioner.runtime.code import refuse_code

    index = BundleIndex.open(bundle, "always")
    opened = index.smallest(given["wanted"])
    refuse_code(opened, allowed=given["allow_executable"])
    _refuse_sharing(index, opened)
    given_settings = dict(parse_setting(text) for text in given["settings"])
    settings = {**pipeline_options(opened.manifest), **given_settings}
    loaded = load_model(model, settings)
    found = bisect_bundle(
        opened,
        loaded.pipeline,
        _examples(opened, loaded.example_inputs),
        inputs=loaded.inputs,
        stages={**loaded.stages, **stage_paths(given["stages"])},
        options=loaded.options,
        calibration=_calibration(opened, loaded),
        quality=loaded.quality,
        quality_inputs=loaded.quality_inputs,
        target_files=given["target_files"],
        host_ops=[import_host_op(text) for text in given["host_ops"]],
    )
    document = {"ok": found.kind == "healthy", **asdict(found)}
    emit(as_json, document, lambda: "\n".join(_lines(document)))
    if found.exit_code:
        raise click.exceptions.Exit(found.exit_code)


def _refuse_sharing(index: BundleIndex, opened: Bundle) -> None:
    """A larger bucket reads weights in the places of a smaller one's, which are not made again."""
    first = index.bundle(index.members[0]).manifest.batch
    batch = opened.manifest.batch
    if batch is not None and batch.least is not None:
        raise UsageError(
            f"the bundle serves {batch} requests by one graph, which cannot be bisected",
            advice="bisect a bundle of the same model that was built with --batch 1",
        )
    if batch is not None and first is not None and batch.rows > first.rows:
        raise UsageError(
            f"a bucket of {batch.rows} requests shares weights with a smaller one, so it cannot "
            "be bisected by itself",
            advice=f"bisect --variant batch={first.rows}, or a bundle that was built with --batch "
            f"{batch.rows} only",
        )


def _examples(opened: Bundle, example_inputs: dict[str, Any]) -> dict[str, Any]:
    from partitioner.batching import with_rows

    batch = opened.manifest.batch
    return example_inputs if batch is None else with_rows(example_inputs, batch.inputs, batch.rows)


def _calibration(opened: Bundle, loaded: LoadedModel) -> list[dict[str, Any]]:
    from partitioner.compressing import complete

    if not opened.manifest.options.get("quantize"):
        return []
    every = complete(loaded.example_inputs, loaded.calibration_inputs)
    return [_examples(opened, one) for one in every]


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield f"{'ok' if document['ok'] else 'found'}: {document['what']}"
    for label in ("segment", "stage", "node", "op", "source"):
        if document[label]:
            yield f"  {label:<8} {document[label]}"
    if document["error"] is not None:
        yield f"  error    {document['error']:.3g} relative, allowed {document['tolerance']:.3g}"
    for label, title in (("inputs", "reads"), ("users", "read by")):
        for other in document[label]:
            yield f"  {title:<8} {other['node']}  {other['op']}  {other['source']}".rstrip()
    if document["compiled"]:
        yield f"  compiled {document['compiled']} graphs on the way"
