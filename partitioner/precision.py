"""``--precision``: which passes give a pipeline the dtypes that were asked for, on a target."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from partitioner.artifacts.manifest import Artifact
from partitioner.errors import UsageError
from partitioner.passes.base import Pass
from partitioner.passes.stage_dtypes import is_inside, stages_named
from partitioner.program import Program
from partitioner.targets import Target

__all__ = [
    "PRECISIONS",
    "Precision",
    "allowed_error",
    "check_limits",
    "check_stages",
    "for_target",
    "hint_for",
    "multiplies_in_8_bits",
    "parse_precision",
    "tolerance_of",
]

#: A dtype for all stages, or for each: ``{"": "bf16", "decoder": "f32"}``.
Precision = str | Mapping[str, str]

PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}

#: Targets on which products are in bfloat16 if nobody says otherwise, where a backend can.
_COMPUTE_IN_BF16 = frozenset({"xeon", "xeon6"})

#: How far outputs may be from eager's in float32, relative: some ten roundings to the dtype.
_TOLERANCES = {"float32": 0.0, "float16": 5e-3, "bfloat16": 5e-2}


def parse_precision(texts: tuple[str, ...]) -> dict[str, str]:
    """``bf16`` and ``decoder=f32`` as one mapping.

    Raises:
        UsageError: an unknown precision, or two for one stage.
    """
    found: dict[str, str] = {}
    for text in texts:
        stage, _, name = text.rpartition("=")
        if stage in found:
            of = f"the stage {stage!r}" if stage else "all stages"
            raise UsageError(
                f"two precisions are given for {of}: {found[stage]} and {name}",
                advice="leave one out, or name stages: --precision bf16 --precision decoder=f32",
            )
        found[stage] = name
    _check(found)
    return found


def for_target(passes: str, target: Target, precision: Precision | None) -> str:
    """A pass pipeline with what dtypes need: legal ones for the target, and the wanted ones.

    On hardware that computes in the small dtype, products do; elsewhere weights are stored in it.

    Raises:
        UsageError: an unknown precision.
    """
    parts = [passes] if passes else []
    if target.dtypes and "legalise-dtypes" not in passes:
        parts.append(f"legalise-dtypes{{dtypes={'+'.join(target.dtypes)}}}")
    wanted = _names(precision)
    default = wanted.pop("", "float32")
    small = {default, *wanted.values()} - {"float32"}
    if not small:
        return ",".join(parts)
    stages = "+".join(f"{stage}:{name}" for stage, name in sorted(wanted.items()))
    options = f"dtype={default}{f' stages={stages}' if stages else ''}"
    if small <= set(target.arithmetic):
        parts.append(f"autocast{{{options}}},eliminate-common,eliminate-dead")
    else:
        parts.append(f"store-weights{{{options}}}")
    return ",".join(parts)


def check_stages(passes: Sequence[Pass], precision: Precision | None, program: Program) -> None:
    """See that the stages which are given dtypes, by passes or by a precision, are there.

    Args:
        program: as captured.

    Raises:
        UsageError: a stage that the program does not have.
        PassError: an option of a pass that cannot be read.
    """
    known = {str(n.meta.get("stage", "")) for _, graph in program.all_graphs() for n in graph.nodes}
    # A precision that rounds nothing adds no pass, but may still be misspelled.
    paths = list(_names(precision))
    for one in passes:
        paths += stages_named(getattr(one, "stages", ""), one.name)
    for path in paths:
        if any(is_inside(stage, path) for stage in known):
            continue
        outer = sorted({stage.partition(".")[0] for stage in known if stage})
        near = difflib.get_close_matches(path, known, 1)
        raise UsageError(
            f"there is no stage {path!r} that could have a precision of its own",
            advice=f"did you mean {near[0]!r}?" if near else f"stages: {', '.join(outer)}",
        )


def check_limits(accuracy_budget: float | None, tolerance: float | None) -> None:
    """See that relative errors which are allowed are numbers that can be meant.

    Raises:
        UsageError: NaN, infinite, negative, or a budget of 0, which no compression keeps.
    """
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise UsageError(
            f"the tolerance is {tolerance}", advice="give a relative error such as 1e-3, or 0"
        )
    if accuracy_budget is not None and not 0 < accuracy_budget < math.inf:
        raise UsageError(
            f"the accuracy budget is {accuracy_budget}",
            advice="give a relative error such as 1e-2, or leave it out to keep all weights",
        )


def hint_for(target: Target, precision: Precision | None) -> str:
    """What a backend that can choose by host may compute in: ``bf16`` or ``f32``.

    bfloat16 where all stages are asked for in it, and on Xeon unless something else is asked for:
    those CPUs multiply in it, in hardware (AMX, AVX512-BF16).
    """
    if precision is None:
        return "bf16" if _COMPUTE_IN_BF16 & {target.name, target.family} else "f32"
    return "bf16" if set(_names(precision).values()) == {"bfloat16"} else "f32"


def multiplies_in_8_bits(target: Target) -> bool:
    """Whether all CPUs of a target add up products of 8-bit numbers without saturating (VNNI).

    Xeons have it since Cascade Lake (2019), AVX512-BF16 and AMX imply it; a ``cpu`` may lack it.
    """
    return bool(_COMPUTE_IN_BF16 & {target.name, target.family})


def tolerance_of(precision: Precision | None) -> float:
    """How far outputs may be off for it, relative; 0 where nothing is rounded."""
    return max((_TOLERANCES[name] for name in _names(precision).values()), default=0.0)


def allowed_error(
    target: Target,
    artifacts: Mapping[str, Artifact],
    *,
    precision: Precision | None = None,
    budget: float | None = None,
) -> float:
    """How far results of a bundle may be off, relative: by its target and by all that rounds.

    Args:
        artifacts: of what the segments compute in, which may be less than what was asked for.
        precision, budget: what was asked for.
    """
    computed = [tolerance_of(a.options.get("precision")) for a in artifacts.values()]
    return max(target.relative, tolerance_of(precision), budget or 0.0, *computed)


def _names(precision: Precision | None) -> dict[str, str]:
    given = {"": precision} if isinstance(precision, str) else dict(precision or {})
    _check(given)
    return {stage: PRECISIONS[name] for stage, name in given.items()}


def _check(given: Mapping[str, str]) -> None:
    for name in given.values():
        if name not in PRECISIONS:
            near = difflib.get_close_matches(name, PRECISIONS, 1)
            raise UsageError(
                f"there is no precision {name!r}",
                advice=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(PRECISIONS)}",
            )
