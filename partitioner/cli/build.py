"""``partition build``: a pipeline becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partitioner.cli.caching import cache_lines, cache_of, cache_options
from partitioner.cli.limits import limit_options, limits_of
from partitioner.cli.models import (
    batch_option,
    capture_arguments,
    each_target,
    load,
    model_options_for_targets,
    needs_torch,
    variant_choices,
)
from partitioner.cli.printing import emit, json_option
from partitioner.cli.progress import progress_bar

__all__ = ["command"]


@click.command("build")
@click.argument("model")
@model_options_for_targets
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The bundle's directory.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME=VALUE[,...]",
    help="A schedule that callers may choose: --variant steps=5 --variant steps=20.",
)
@batch_option
@click.option(
    "--step-batching",
    is_flag=True,
    help="Let requests at different steps share calls, with --batch 1,4; see docs/scheduling.md.",
)
@click.option("--passes", help="A pass pipeline instead of the default one.")
@click.option("--name", help="The bundle's label; the file's name by default.")
@click.option("--version-label", default="0", show_default=True, help="The bundle's version label.")
@click.option(
    "--dump-passes",
    type=click.Path(path_type=Path),
    help="Write the program after each pass to this directory.",
)
@click.option(
    "--verify-passes",
    is_flag=True,
    help="Run the program before and after each pass; stop at one that changes the numbers.",
)
@click.option(
    "--tune",
    is_flag=True,
    help="Place by measurements on this machine: all installed backends, or those of --backends.",
)
@click.option(
    "--accuracy-budget",
    type=float,
    metavar="ERROR",
    help="Compress weights to 4 or 8 bits as far as results differ by less, relative: 1e-2.",
)
@click.option(
    "--quality-budget",
    metavar="SHARE",
    help="Compress weights as far as results keep this share by the model's `quality`: 98.5%.",
)
@click.option(
    "--quantize",
    metavar="KIND",
    help="Compute products in 8 bits (int8) where a backend can, within the accuracy budget.",
)
@click.option("--parity/--no-parity", default=True, help="Compare with the eager pipeline.")
@click.option("--tolerance", type=float, help="Relative tolerance, instead of the target's.")
@limit_options(timeout_s=1800.0)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where segments are compiled: on this machine, or on a Ray cluster.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Segments compiled at a time; by default what there are CPUs and memory for.",
)
@cache_options
@click.option(
    "--backend-option",
    "backend_options",
    multiple=True,
    metavar="BACKEND.[STAGE.]NAME=VALUE",
    help="For a backend's compiler: --backend-option neuron.optlevel=1.",
)
@click.option(
    "--defer-compile",
    is_flag=True,
    help="Leave compiling for Neuron to `partition compile` on a machine that has the SDK.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@json_option
def command(
    model: str, targets: tuple[str, ...], output: Path | None, as_json: bool, **given: Any
) -> None:
    """Compile the pipeline of MODEL into a bundle.

    MODEL is FILE.py[:NAME] or package.module:NAME; NAME is `pipeline` unless given. The file also
    names `example_inputs`, and may name `inputs` and `stages`; see docs/model-file.md.

    \b
      partition build model.py
      partition build model.py:make --set steps=20 -o twenty.bundle
      partition build model.py --target xeon --target graviton --target cpu
      partition build model.py --variant steps=5 --variant steps=20
      partition build model.py --batch 1,4
      partition build model.py --batch 1-8
      partition build my.package.models:turbo --stage denoiser=unet --dump-passes dump/
    """
    try:
        from partitioner.backendoptions import parse_options
        from partitioner.builder import build
        from partitioner.frontend import require_backends
    except ImportError as error:
        raise needs_torch(error, "building") from error
    given["target"] = targets[0]
    chosen = each_target(targets, given)
    for target in chosen:
        require_backends(target, deferred=given["defer_compile"])
    backend_options = parse_options(given["backend_options"])
    variants = variant_choices(given["variants"], given["settings"])
    loaded = load(model, given)
    arguments = capture_arguments(loaded, given)
    arguments["target"] = chosen
    with progress_bar(as_json) as progress:
        result = build(
            loaded.pipeline,
            loaded.example_inputs,
            output=output or Path(f"{loaded.name}.bundle"),
            **arguments,
            variants=variants,
            batch=given["batch"],
            batched=loaded.batched,
            step_batching=given["step_batching"],
            name=given["name"] or loaded.name,
            version=given["version_label"],
            tune=given["tune"],
            accuracy_budget=given["accuracy_budget"],
            quality_budget=_quality_budget(given["quality_budget"], loaded),
            quantize=given["quantize"],
            calibration=loaded.calibration_inputs if given["quantize"] else (),
            parity=given["parity"],
            tolerance=given["tolerance"],
            dump_passes=given["dump_passes"],
            verify_passes=given["verify_passes"],
            **limits_of(given),
            cache=cache_of(given),
            backend_options=backend_options,
            defer_compile=given["defer_compile"],
            overwrite=given["overwrite"],
            engine=given["engine"],
            jobs=given["jobs"],
            source=loaded.file,
            progress=progress,
        )
    document = {"path": str(result.path), "digest": result.digest, **result.report}
    emit(as_json, document, lambda: _text(document))


def _quality_budget(text: str | None, loaded: Any) -> Any:
    """The budget of ``--quality-budget``, by the metric of the model file."""
    from partitioner.quality import QualityBudget, metric_of, parse_share

    if text is None:
        return None
    return QualityBudget(metric_of(loaded), loaded.quality_inputs, parse_share(text))


def _text(document: dict[str, Any]) -> str:
    lines: list[str] = []
    for name, report in document.get("members", {}).items():
        lines += [name, *(f"  {line}" for line in _lines(report))]
    lines += _lines(document) if "members" not in document else []
    lines += cache_lines(document["cache"])
    seconds = ", ".join(f"{phase} {s:.1f}" for phase, s in document["seconds"].items())
    lines += [f"seconds: {seconds}", f"{document['path']}  {document['digest']}"]
    return "\n".join(lines)


def _lines(document: dict[str, Any]) -> list[str]:
    """What to say of one member."""
    lines = [f"warning: {warning}" for warning in document["warnings"]]
    for loop in document["loops"]:
        lines.append(f"{loop['name']}: {loop['trips']} trips of {', '.join(loop['stages'])}")
    for trade in document["compression"]:
        sizes = f"{trade['bytes_before'] / 2**20:.2f} -> {trade['bytes_after'] / 2**20:.2f} MiB"
        lines.append(
            f"weights of {trade['segment']}: {trade['level']}, {sizes}, "
            f"its results differ by {trade['error']:.2g} relative"
        )
        lines += _declined(trade)
    outputs = document["parity"].get("outputs", {})
    for name, error in outputs.items():
        lines.append(f"output {name}: differs from eager by {error:.2g} relative")
    for variant in document["parity"].get("variants", [])[1:]:
        label = ", ".join(f"{k}={v}" for k, v in variant.items() if k != "outputs")
        worst = max(variant["outputs"].values(), default=0.0)
        lines.append(f"variant {label}: differs from eager by {worst:.2g} relative")
    return lines


def _declined(trade: dict[str, Any]) -> list[str]:
    """What a segment could have had, and what it would have cost."""
    lines = [
        f"  {level} was declined: "
        + ("nothing finite came of it" if error is None else f"{error:.2g} relative")
        for level, error in trade["tried"].items()
        if level != trade["level"]
    ]
    if trade["reason"]:
        lines.append(f"  products were not quantised: {trade['reason']}")
    return lines
