"""The front end: from a pipeline to a plan. Everything of a build that needs no compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from partitioner.backends import find_backend
from partitioner.capture import Captured
from partitioner.capture.structure import named_tensors
from partitioner.cases import Case, settled
from partitioner.choices import capture_variants, check_variants, choice_text, settings_of
from partitioner.errors import MissingDependencyError, UsageError
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
from partitioner.plan import Plan
from partitioner.planning.overrides import Overrides, bind
from partitioner.planning.plan import make_plan
from partitioner.precision import Precision, check_stages, for_target
from partitioner.prepared import Prepared
from partitioner.program import Program
from partitioner.ranges import for_rows, with_row_counts
from partitioner.rowcounts import RowRange
from partitioner.runtime.draws import draw_noise, draw_rows
from partitioner.runtime.seeds import parity_seeds
from partitioner.specs import Image, InputSpec, Noise
from partitioner.targets import Target
from partitioner.targets.available import missing_backends, missing_to_build, unable_backends
from partitioner.targets.choice import target_of
from partitioner.variants import Merged, for_variants, lengthen_tables, longest_loop, merge

__all__ = ["PARITY_SEED", "example_request", "prepare", "require_backends"]

Array = npt.NDArray[Any]

#: The seed of the noise on which programs and bundles are compared with the eager pipeline.
PARITY_SEED = 0

#: Gives a context for the phase of a name: ``capture``, ``passes``, ``plan``.
Phase = Callable[[str], AbstractContextManager[Any]]


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
    planned, cases = settled(planned, merged, captures, choices, settings)
    text = format_pipeline(sequence)
    return Prepared(hardware, text, tuple(records), planned, cases, bound, overrides, merged)


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
