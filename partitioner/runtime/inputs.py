"""Check a request's inputs against what the pipeline declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from partitioner.errors import InputError
from partitioner.runtime.images import to_image_tensor
from partitioner.runtime.tensors import to_tensor
from partitioner.specs import Image, InputSpec, Noise

__all__ = ["Request", "check_inputs", "check_names", "merged"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Request:
    """A request's inputs as arrays.

    Args:
        arrays: input name -> C-contiguous array of the declared dtype and shape, for every input
            that is used and given.
        dims: sizes of symbolic dimensions.
    """

    arrays: dict[str, Array]
    dims: dict[str, int]


def merged(
    names: Collection[str], given: Mapping[str, Any], inputs: Mapping[str, Any], noise: Any
) -> dict[str, Any]:
    """The inputs of a call, which come in two ways.

    Args:
        names: of the pipeline's inputs.
        noise: an input where the pipeline has one of that name, unless it is a dict.

    Raises:
        InputError: one is given twice, or ``noise`` is neither.
    """
    both = set(given) & set(inputs)
    if both:
        raise InputError(f"inputs given twice: {', '.join(sorted(both))}")
    whole = {**given, **inputs}
    if noise is None or isinstance(noise, Mapping):
        return whole
    if "noise" not in names:
        raise InputError(
            f"noise is a dict of value id to array, not {type(noise).__name__}",
            advice="see partitioner.runtime.draws.draw_noise, or give a seed",
        )
    return {**whole, "noise": noise}


def check_names(specs: Sequence[InputSpec], given: Mapping[str, Any]) -> None:
    """Refuse inputs that are unknown, and requests that lack one.

    Raises:
        InputError: says which.
    """
    _refuse_unknown(specs, given)
    _refuse_missing(specs, given)


def check_inputs(specs: Sequence[InputSpec], given: Mapping[str, Any]) -> Request:
    """Turn what the caller gives into arrays.

    Noise inputs may be left out (they are drawn), and so may inputs that nothing in the pipeline
    reads; the latter are ignored where they are given.

    Raises:
        InputError: an input is missing or unknown, or cannot be made what is declared.
        MissingDependencyError: a picture needs Pillow, which is not installed.
    """
    check_names(specs, given)
    dims: dict[str, int] = {}
    arrays: dict[str, Array] = {}
    for spec in specs:
        if spec.used and spec.name in given:
            arrays[spec.name] = _array(spec, given[spec.name], dims)
    return Request(arrays, dims)


def _array(spec: InputSpec, value: Any, dims: dict[str, int]) -> Array:
    if isinstance(spec.how, Image):
        return to_image_tensor(spec.name, value, spec.how, spec.tensor)
    return to_tensor(spec.name, value, spec.tensor, dims)


def _refuse_unknown(specs: Sequence[InputSpec], given: Mapping[str, Any]) -> None:
    names = [spec.name for spec in specs]
    unknown = [name for name in given if name not in names]
    if not unknown:
        return
    import difflib

    close = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.5)
    raise InputError(
        f"this pipeline has no input {unknown[0]!r}",
        advice=f"did you mean {close[0]!r}?" if close else f"its inputs are {', '.join(names)}",
    )


def _refuse_missing(specs: Sequence[InputSpec], given: Mapping[str, Any]) -> None:
    missing = [
        spec
        for spec in specs
        if spec.used and not isinstance(spec.how, Noise) and spec.name not in given
    ]
    if not missing:
        return
    raise InputError(
        f"input{'s' if len(missing) > 1 else ''} missing: "
        f"{', '.join(f'{spec.name} ({_wanted(spec)})' for spec in missing)}",
        advice=f"call it with {', '.join(f'{spec.name}=...' for spec in missing)}",
    )


def _wanted(spec: InputSpec) -> str:
    if isinstance(spec.how, Image):
        height, width = spec.how.size
        return f"an image of {height} x {width}, or one to be resized"
    return str(spec.tensor)
