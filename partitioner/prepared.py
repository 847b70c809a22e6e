"""What the front end makes of a pipeline: all that compiling it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from partitioner.backends import find_backend
from partitioner.capture import Captured
from partitioner.cases import Case
from partitioner.compression.search import Trade
from partitioner.passes.pipeline import PassRecord
from partitioner.planning.overrides import Overrides
from partitioner.planning.planned import Planned
from partitioner.planning.scale import Scale
from partitioner.planning.verdicts import Judge
from partitioner.program import Program
from partitioner.targets import Target
from partitioner.tuning import Tuned
from partitioner.variants import Merged

__all__ = ["Prepared"]


@dataclass(frozen=True)
class Prepared:
    """A pipeline, ready to be compiled.

    Attributes:
        passes: the whole pipeline of passes, with what the target and the precision added.
        records: what each pass did to the first variant.
        planned: the plan of the first variant, and the segments of all.
        cases: the variants.
        judges: backend name -> what gives its verdicts, overrides included.
        overrides: what the caller decided.
        merged: the program with what each variant has for itself.
        trades: what compression found, by segment.
        rounding: how far outputs are off by it, relative, where a metric has judged them.
        tuned: what was measured, by piece of the plan that the estimates give.
        scale: the same as factors on the estimates.
        rows: requests that it serves at once.
    """

    target: Target
    passes: str
    records: tuple[PassRecord, ...]
    planned: Planned
    cases: tuple[Case, ...]
    judges: Mapping[str, Judge]
    overrides: Overrides
    merged: Merged
    trades: tuple[Trade, ...] = ()
    rounding: float = 0.0
    tuned: tuple[Tuned, ...] = ()
    scale: Scale | None = None
    rows: int = 1

    @cached_property
    def compilers(self) -> dict[str, Any]:
        """Backend name -> its compiler, of the backends that the plan needs.

        Raises:
            MissingDependencyError: a library that one needs is not installed.
        """
        names = {info.backend for info in self.planned.plan.segments.values()}
        return {
            name: find_backend(name).make_compiler()
            for name in self.target.backends
            if name in names
        }

    @property
    def recipe(self) -> dict[str, Any]:
        """What placement was made from besides program and target: plain data."""
        return {
            "backends": list(self.target.backends),
            "stages": dict(self.overrides.stages),
            "ops": dict(self.overrides.ops),
            "measured": [one.plain() for one in self.tuned],
        }

    @property
    def program(self) -> Program:
        """After the passes; what differs between variants is that of the first."""
        return self.merged.program

    @property
    def captured(self) -> Captured:
        """The first variant before the passes."""
        return self.cases[0].captured
