"""What a bundle was built from, captured and planned again as its manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from partitioner.artifacts.manifest import Manifest
from partitioner.compressing import compress
from partitioner.errors import ModelError
from partitioner.frontend import prepare
from partitioner.passes.pipeline import DEFAULT, Observer
from partitioner.plan import Plan
from partitioner.prepared import Prepared
from partitioner.quality import Metric, QualityBudget
from partitioner.recipes import read_recipe
from partitioner.replanning import tune_as
from partitioner.settings import BUILD_OPTIONS
from partitioner.specs import Image, Noise
from partitioner.targets import Target

__all__ = ["budget_of", "check_plan", "pipeline_options", "prepared_again"]


def pipeline_options(manifest: Manifest) -> dict[str, Any]:
    """The pipeline's options with which a bundle was built."""
    return {name: value for name, value in manifest.options.items() if name not in BUILD_OPTIONS}


def prepared_again(
    manifest: Manifest,
    pipeline: Any,
    example_inputs: Mapping[str, Any],
    *,
    inputs: Mapping[str, Image | Noise] | None,
    stages: Mapping[str, str] | None,
    options: Mapping[str, Any] | None,
    budget: float | QualityBudget | None,
    calibration: Sequence[Mapping[str, Any]],
    target: Target,
    observer: Observer,
) -> Prepared:
    """Capture, passes, plan and compression as in the build.

    Args:
        pipeline, example_inputs, inputs, stages, options: those of the build.
        budget: of :func:`budget_of`.
        calibration: the build's, where it quantised.
        observer: sees every pass.

    Raises:
        PartitionerError: as a build.
    """
    recipe = read_recipe(manifest.options.get("placement", {}))
    prepared = prepare(
        pipeline,
        example_inputs,
        target=target,
        backends=recipe.backends,
        overrides=recipe.overrides,
        inputs=inputs,
        stages=stages,
        options=options,
        variants=[variant.options for variant in manifest.variants],
        passes=str(manifest.options.get("passes", DEFAULT)),
        observers=[observer],
    )
    # Noise is drawn for each row, as in the build.
    prepared = replace(prepared, rows=manifest.batch.rows if manifest.batch else 1)
    prepared = tune_as(prepared, recipe.measured)
    if budget is None:
        return prepared
    quantize = manifest.options.get("quantize")
    examples = calibration if quantize else ()
    return compress(prepared, example_inputs, budget, quantize=quantize, calibration=examples)


def budget_of(
    manifest: Manifest, quality: Metric | None, examples: Sequence[Mapping[str, Any]]
) -> float | QualityBudget | None:
    """The budget of compression that a bundle was built with.

    Args:
        quality, examples: the model's metric and what it is measured on.

    Raises:
        ModelError: there is a quality budget, and the model has no metric.
    """
    accuracy = manifest.options.get("accuracy_budget")
    if isinstance(accuracy, int | float):
        return float(accuracy)
    least = manifest.options.get("quality_budget")
    if not isinstance(least, int | float):
        return None
    if quality is None:
        raise ModelError(
            "the bundle was built with a quality budget, and the model has no 'quality'",
            advice="give the model file that it was built from",
        )
    return QualityBudget(quality, tuple(examples), float(least))


def check_plan(bundle: Plan, model: Plan) -> None:
    """Source lines may have moved; everything else is the same for the same model.

    Raises:
        ModelError: it is not.
    """
    ours, theirs = _without_sources(model), _without_sources(bundle)
    if ours == theirs:
        return
    parts = [f.name for f in fields(Plan) if getattr(ours, f.name) != getattr(theirs, f.name)]
    raise ModelError(
        f"MODEL is not what the bundle was built from: the plan's {', '.join(parts)} differ",
        advice="give the same model, --set and --stage as in the build (see `partition inspect`), "
        "and the same version of partitioner",
    )


def _without_sources(plan: Plan) -> Plan:
    segments = {name: replace(info, sources=()) for name, info in plan.segments.items()}
    return replace(plan, segments=segments)
