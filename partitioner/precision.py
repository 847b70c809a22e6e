"""``--precision``: which passes give a pipeline the dtypes that were asked for, on a target."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from partitioner.errors import UsageError
from partitioner.targets import Target

__all__ = ["PRECISIONS", "Precision", "for_target", "parse_precision", "tolerance_of"]

#: A dtype for all stages, or for each: ``{"": "bf16", "decoder": "f32"}``.
Precision = str | Mapping[str, str]

PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}

#: How far outputs may be from eager's in float32, relative: some ten roundings to the dtype.
_TOLERANCES = {"float32": 0.0, "float16": 5e-3, "bfloat16": 5e-2}


def parse_precision(texts: tuple[str, ...]) -> dict[str, str]:
    """``bf16`` and ``decoder=f32`` as one mapping.

    Raises:
        UsageError: an unknown precision.
    """
    found: dict[str, str] = {}
    for text in texts:
        stage, _, name = text.rpartition("=")
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


def tolerance_of(precision: Precision | None) -> float:
    """How far outputs may be off for it, relative; 0 where nothing is rounded."""
    return max((_TOLERANCES[name] for name in _names(precision).values()), default=0.0)


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
