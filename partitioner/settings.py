"""What a build was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from partitioner.artifacts.manifest import Artifact, Tolerance
from partitioner.backendoptions import BackendOptions
from partitioner.batching import Bucket
from partitioner.caching.cache import CompileCache
from partitioner.capture import Captured
from partitioner.capture.module_paths import find_modules
from partitioner.choices import capture_variants
from partitioner.passes.pipeline import Observer, dump_to
from partitioner.precision import Precision, allowed_error
from partitioner.quality import QualityBudget
from partitioner.step_batching import with_spread_steps
from partitioner.targets import Target

__all__ = ["BUILD_OPTIONS", "Settings"]

#: Options that manifests record of a build; all others are the pipeline's own.
BUILD_OPTIONS = frozenset(
    {
        "passes",
        "target",
        "placement",
        "accuracy_budget",
        "quality_budget",
        "backend_options",
        "step_batching",
        "quantize",
    }
)


@dataclass(frozen=True)
class Settings:
    """What a build was asked for, but the targets. Fields as the arguments of :func:`build`.

    Attributes:
        prepare_with: arguments of :func:`prepare`.
        label: the name.
        budget: relative error that compression may make, or quality that it has to leave.
        cache: what other builds have compiled; None for none.
        source: the file that made the module; None where there is none.
        several: whether there are several targets.
    """

    module: Any
    example_inputs: Mapping[str, Any]
    prepare_with: Mapping[str, Any]
    label: str
    version: str
    tune: bool
    budget: float | QualityBudget | None
    quantize: str | None
    calibration: Sequence[Mapping[str, Any]]
    parity: bool
    tolerance: float | None
    dump_passes: Path | None
    timeout_s: float
    memory_bytes: int | None
    log: Path | None
    cache: CompileCache | None
    source: Path | None
    several: bool
    backend_options: BackendOptions
    defer_compile: bool
    step_batching: bool = False

    def recorded(self, passes: str, target: str, placement: Mapping[str, Any]) -> dict[str, Any]:
        """What the manifest's options say of the build, beside the pipeline's own options: some of
        :data:`BUILD_OPTIONS`."""
        return {
            "passes": passes,
            "target": target,
            "placement": placement,
            **self._recorded_budget,
            **({"backend_options": self.backend_options} if self.backend_options else {}),
            **({"step_batching": True} if self.step_batching else {}),
            "quantize": self.quantize,
        }

    def prepare_for(self, bucket: Bucket) -> Mapping[str, Any]:
        """Arguments of :func:`prepare` for a bucket."""
        captured = {"captures": bucket.captures, "more": bucket.more, "span": bucket.span}
        if not self.step_batching:
            return {**self.prepare_with, **captured}
        passes = with_spread_steps(self.prepare_with["passes"], bucket.rows)
        return {**self.prepare_with, **captured, "passes": passes}

    @property
    def kinds(self) -> set[type]:
        """The classes of the pipeline and its stages."""
        return {type(self.module), *map(type, find_modules(self.module).values())}

    @property
    def has_variants(self) -> bool:
        """Whether a caller may choose a schedule."""
        return bool(self.prepare_with["variants"])

    @property
    def precision(self) -> Precision | None:
        return self.prepare_with["precision"]

    def budget_for(self, bucket: Bucket) -> float | QualityBudget | None:
        """The budget, with the examples of a metric as the bucket takes them."""
        if not isinstance(self.budget, QualityBudget):
            return self.budget
        return replace(self.budget, examples=tuple(bucket.filled(self.budget.examples)))

    @property
    def _recorded_budget(self) -> dict[str, Any]:
        if isinstance(self.budget, QualityBudget):
            return {"accuracy_budget": None, "quality_budget": self.budget.least}
        return {"accuracy_budget": self.budget}

    def tolerance_on(
        self, target: Target, artifacts: Mapping[str, Artifact], rounding: float
    ) -> Tolerance:
        """How far results may be off: as asked for, else by the target and what rounds.

        Args:
            rounding: by compression.
        """
        allowed = allowed_error(target, artifacts, precision=self.precision, budget=rounding)
        return Tolerance(allowed if self.tolerance is None else self.tolerance, target.absolute)

    def dump_for(self, member: str) -> list[Observer]:
        """What writes the program after each pass, if that is wanted."""
        return [] if self.dump_passes is None else [dump_to(self.dump_passes / member)]

    def capture(self, example_inputs: Mapping[str, Any]) -> list[Captured]:
        """The pipeline, captured on example inputs; each variant of it."""
        wanted = {name: self.prepare_with[name] for name in ("inputs", "stages")}
        options, variants = self.prepare_with["options"], self.prepare_with["variants"]
        return capture_variants(self.module, example_inputs, options, variants, **wanted)
