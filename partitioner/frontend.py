"""The front end: from a pipeline to a plan. Everything of a build that needs no compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from partitioner.backends import find_backend
from partitioner.backends.base import CompileOptions
from partitioner.buffers import plan_buffers
from partitioner.buffers.check import check_buffers
from partitioner.capture import Captured
from partitioner.capture.structure import named_tensors
from partitioner.choices import capture_variants, check_variants, choice_text, settings_of
from partitioner.compression.search import Trade
from partitioner.errors import MissingDependencyError, ModelError, UsageError
from partitioner.passes.base import Pass
from partitioner.passes.checked import check_passes
from partitioner.passes.pipeline import (
    DEFAULT,
    Observer,
    PassRecord,
    format_pipeline,
    parse_pipeline,
    run_pipeline,
)
from partitioner.placeholders import placeholder_values
from partitioner.plan import Plan, rescheduled
from partitioner.planning.overrides import Overrides, bind
from partitioner.planning.plan import Planned, make_plan
from partitioner.planning.scale import Scale
from partitioner.planning.verdicts import Judge
from partitioner.precision import Precision, check_stages, for_target
from partitioner.program import DrawSequence, Program
from partitioner.ranges import for_rows, with_row_counts
from partitioner.rowcounts import RowRange, growth_of, plain_plan
from partitioner.runtime.draws import draw_noise, draw_rows
from partitioner.runtime.seeds import parity_seeds
from partitioner.specs import Image, InputSpec, Noise
from partitioner.targets import Target, find_target
from partitioner.targets.available import missing_backends, missing_to_build, unable_backends
from partitioner.targets.choice import by_preference, with_backends
from partitioner.tuning import Tuned, scale_of
from partitioner.tuning import tune as measure
from partitioner.tuning.pieces import pieces_of
from partitioner.variants import (
    Merged,
    for_variants,
    lengthen_tables,
    longest_loop,
    merge,
)

__all__ = [
    "PARITY_SEED",
    "Case",
    "Prepared",
    "example_request",
    "prepare",
    "replanned",
    "require_backends",
    "target_of",
    "targets_of",
    "tune",
    "tune_as",
]

Array = npt.NDArray[Any]

#: The seed of the noise on which programs and bundles are compared with the eager pipeline.
PARITY_SEED = 0

#: Gives a context for the phase of a name: ``capture``, ``passes``, ``plan``.
Phase = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Case:
    """One schedule of a pipeline; without variants there is one.

    Attributes:
        choice: the options by which a caller chooses it.
        options: all options of the pipeline.
        captured: before the passes.
        plan: with its own trips.
        trips: by loop of the plan.
        tensors: what the plan reads, by value id.
    """

    choice: dict[str, Any]
    options: dict[str, Any]
    captured: Captured
    plan: Plan
    trips: dict[str, int]
    tensors: dict[str, torch.Tensor]

    @property
    def draws(self) -> tuple[DrawSequence, ...]:
        """What the eager pipeline draws, in order."""
        return self.captured.program.draws


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


def prepare(
    pipeline: Any,
    example_inputs: Mapping[str, Any],
    *,
    target: str | Target = "cpu",
    backends: Sequence[str] | None = None,
    overrides: Overrides | None = None,
    inputs: Mapping[str, Image | Noise] | None = None,
    stages: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    variants: Sequence[Mapping[str, Any]] = (),
    passes: str = DEFAULT,
    precision: Precision | None = None,
    verify_passes: bool = False,
    observers: Sequence[Observer] = (),
    phase: Phase = nullcontext,
    captures: Sequence[Captured] | None = None,
    more: Sequence[Captured] = (),
    span: RowRange | None = None,
) -> Prepared:
    """Capture a pipeline, run the passes, make the plan. Arguments as for a build.

    Needs no backend and no device: verdicts are made from data.

    Args:
        target: a name, or a target.
        observers: of the passes on the first variant.
        phase: is entered for each part of the work.
        captures: of the same pipeline with the same options, a variant each, if there are some
            from another target's plan.
        more: captures with one row more, where the plan is for a range of batch sizes.
        span: that range.

    Raises:
        PartitionerError: a subclass says what went wrong, where, and what to do.
    """
    hardware = target_of(target, backends)
    sequence = parse_pipeline(for_target(passes, hardware, precision))
    choices = [dict(variant) for variant in variants] or [{}]
    check_variants(choices, example_inputs)
    settings = settings_of(options, choices)
    with phase("capture"):
        captures = captures or capture_variants(
            pipeline, example_inputs, options, choices, inputs=inputs, stages=stages
        )
    check_stages(sequence, precision, captures[0].program)
    with phase("passes"):
        checked = example_inputs if verify_passes else None
        merged, records = _optimise(captures, choices, sequence, observers, checked)
        if span is not None:
            again = for_rows(sequence, span.most + 1)
            other, _ = _optimise(more, choices, again, (), None)
            merged = with_row_counts(merged, other, span)
    with phase("plan"):
        missing = missing_backends(hardware)
        present = [name for name in hardware.backends if name not in missing]
        judges = {name: find_backend(name).make_judge() for name in present}
        overrides = overrides or Overrides()
        bound = bind(overrides, merged.program, hardware, judges)
        planned = make_plan(merged.program, hardware, bound)
    planned, cases = _settled(planned, merged, captures, choices, settings)
    text = format_pipeline(sequence)
    return Prepared(hardware, text, tuple(records), planned, cases, bound, overrides, merged)


def tune(
    prepared: Prepared,
    options: CompileOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """The same pipeline, placed by what its parts take on this machine.

    Args:
        options: how the build will compile; its folders are not used.
        progress: called with the parts done and their number.

    Raises:
        UsageError: fewer than two of the target's backends can run here.
    """
    tuned, scale = measure(
        prepared.program,
        prepared.planned,
        prepared.target,
        options=options,
        progress=progress,
    )
    return replanned(replace(prepared, tuned=tuple(tuned), scale=scale), prepared.merged)


def tune_as(prepared: Prepared, measured: Sequence[Tuned]) -> Prepared:
    """The same pipeline, placed by earlier measurements of it.

    Raises:
        ModelError: they are not of this pipeline.
    """
    if not measured:
        return prepared
    pieces = pieces_of(prepared.program, prepared.planned, prepared.target)
    if [(p.graph, len(p.part.nodes)) for p in pieces] != [(t.graph, t.nodes) for t in measured]:
        raise ModelError("the measurements in the bundle are not of this pipeline")
    scale = scale_of(pieces, measured)
    return replanned(replace(prepared, tuned=tuple(measured), scale=scale), prepared.merged)


def replanned(prepared: Prepared, merged: Merged) -> Prepared:
    """Another plan, of a program that is another, or is placed in another way."""
    planned = make_plan(merged.program, prepared.target, prepared.judges, prepared.scale)
    old = prepared.cases
    planned, cases = _settled(
        planned,
        merged,
        [case.captured for case in old],
        [case.choice for case in old],
        [case.options for case in old],
    )
    return replace(prepared, planned=planned, cases=cases, merged=merged)


def target_of(target: str | Target, backends: Sequence[str] | None = None) -> Target:
    """The target of this name, if it is one, with these backends instead of its own, if any.

    Raises:
        UsageError: no such target, or it has no such backend.
    """
    found = find_target(target) if isinstance(target, str) else target
    return found if backends is None else with_backends(found, backends)


def targets_of(
    given: str | Target | Sequence[str | Target], backends: Sequence[str] | None = None
) -> tuple[Target, ...]:
    """The targets of these names, in the order in which a host that can run several prefers them.

    Raises:
        UsageError: none, one twice, or as :func:`target_of`.
    """
    every = [given] if isinstance(given, str | Target) else list(given)
    return by_preference([target_of(one, backends) for one in every])


def require_backends(target: Target, *, deferred: bool = False) -> None:
    """Refuse a target that can be planned for and not built.

    Args:
        deferred: whether a last step may be left to another machine.

    Raises:
        UsageError: none of the backends that are for one of its devices can compile here.
        MissingDependencyError: one of its backends cannot.
    """
    missing = missing_to_build(target, deferred=deferred)
    if missing:
        later = (
            ""
            if deferred or missing_to_build(target, deferred=True)
            else (
                "build with --defer-compile and finish it by `partition compile` where that is; or "
            )
        )
        raise UsageError(
            f"target {target.name!r} needs {missing}",
            advice=f"{later}build for 'cpu', which runs on any CPU; `partition plan` takes any "
            "target",
        )
    unable = unable_backends(target, deferred=deferred)
    for name, reason in unable.items():
        info = find_backend(name)
        install = info.install or f"pip install 'partitioner[{info.extra or 'all'}]'"
        others = [other for other in target.backends if other not in unable]
        raise MissingDependencyError(
            f"target {target.name!r} is built with the backend {name!r}, {reason}",
            advice=f"{install}, or build without it: --backends {','.join(others)}",
        )


def example_request(
    prepared: Prepared, case: Case, example_inputs: Mapping[str, Any], seed: int = PARITY_SEED
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The example inputs by name, and all values that exist before a plan's first step, by id."""
    given = {
        name: np.array(tensor.detach().numpy())
        for name, tensor in named_tensors(example_inputs).items()
    }
    values = {case.plan.inputs[n]: a for n, a in given.items() if n in case.plan.inputs}
    values |= {v: t.detach().contiguous().numpy() for v, t in case.tensors.items()}
    drawn = _Drawn(prepared.program.inputs, case.plan)
    if prepared.rows == 1:
        noise = draw_noise(drawn, seed, {})
    else:
        noise = draw_rows(drawn, parity_seeds(seed, prepared.rows), {})
    # Noise inputs are drawn, not taken from the examples: so the runtime's way is compared.
    values |= noise
    for name, value in case.plan.inputs.items():
        if value in noise:
            given[name] = noise[value]
    return given, values


@dataclass(frozen=True)
class _Drawn:
    inputs: tuple[InputSpec, ...]
    plan: Plan


def _optimise(
    captures: Sequence[Captured],
    choices: Sequence[Mapping[str, Any]],
    passes: Sequence[Pass],
    observers: Sequence[Observer],
    checked: Mapping[str, Any] | None,
) -> tuple[Merged, list[PassRecord]]:
    """Run the passes on every variant, and merge what comes of it.

    Args:
        checked: the example inputs, if every pass is to be checked on them.
    """
    programs = [captured.program for captured in captures]
    if len(programs) > 1:
        rows = longest_loop(programs)
        programs = [lengthen_tables(program, rows) for program in programs]
        passes = for_variants(passes, rows)
    optimised: list[Program] = []
    records: list[PassRecord] = []
    for program in programs:
        # What passes say, and what is dumped, is of the first variant.
        watching = [] if optimised else list(observers)
        if checked is not None:
            watching.append(check_passes(placeholder_values(program, checked, PARITY_SEED)))
        done, own = run_pipeline(program, passes, observers=watching)
        optimised.append(done)
        records = records or own
    return merge(optimised, [choice_text(choice) for choice in choices]), records


def _settled(
    planned: Planned,
    merged: Merged,
    captures: Sequence[Captured],
    choices: Sequence[dict[str, Any]],
    settings: Sequence[dict[str, Any]],
) -> tuple[Planned, tuple[Case, ...]]:
    """The plan of the first variant in plain numbers, and the cases."""
    growth = growth_of(planned.plan)
    if growth:
        planned = replace(planned, plan=plain_plan(planned.plan), growth=growth)
    cases = _cases(planned, merged, captures, choices, settings)
    return replace(planned, plan=cases[0].plan), cases


def _cases(
    planned: Planned,
    merged: Merged,
    captures: Sequence[Captured],
    choices: Sequence[dict[str, Any]],
    settings: Sequence[dict[str, Any]],
) -> tuple[Case, ...]:
    constants = merged.program.constants
    cases: list[Case] = []
    rows = zip(merged.variations, captures, choices, settings, strict=True)
    for own, captured, choice, setting in rows:
        trips = {name: own.trips[body] for name, body in planned.loops.items()}
        tensors = {v: own.constants.get(n, constants[n]) for v, n in planned.constants.items()}
        plan = rescheduled(planned.plan, trips, own.repeats)
        check_buffers(plan, plan_buffers(plan))
        cases.append(Case(choice, setting, captured, plan, trips, tensors))
    return tuple(cases)
