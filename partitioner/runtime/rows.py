"""Requests as rows: what a caller gives for several, the calls that serve them, and their results.

No state; ``batches.py`` uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from partitioner.errors import InputError
from partitioner.runtime.images import to_image_tensor
from partitioner.runtime.seeds import is_several
from partitioner.runtime.tensors import as_array, to_tensor
from partitioner.specs import Image, InputSpec, TensorSpec

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Batch

__all__ = ["Part", "Rows", "gather", "join", "parts", "with_batch"]

Array = np.ndarray[Any, Any]
Outputs = dict[str, Any]


def with_batch(spec: TensorSpec) -> TensorSpec:
    """The spec for any number of rows: its first dimension is called ``batch``."""
    return TensorSpec(spec.dtype, ("batch", *spec.shape[1:]))


# --- what is given ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """The requests of one call.

    Args:
        count: how many.
        arrays: by input, with a row for each.
        several: whether the caller gave a list, even if of one.
    """

    count: int
    arrays: dict[str, Array]
    several: bool


def gather(specs: Sequence[InputSpec], given: Mapping[str, Any], seed: Any) -> Rows:
    """Make rows of what a caller gives.

    Inputs and seeds have a row for each request. Those with one row serve all requests.

    Args:
        specs: of the inputs that have rows.
        given: of those and others, which are passed over.
        seed: one, or a list.

    Raises:
        InputError: not rows of what is declared, or not equally many.
    """
    arrays = {s.name: _rows_of(s, given[s.name]) for s in specs if s.used and s.name in given}
    counts = {f"input {name!r}": array.shape[0] for name, array in arrays.items()}
    several = any(isinstance(given[name], list | tuple) for name in arrays) or is_several(seed)
    if is_several(seed):
        counts["seed"] = len(seed)
    count = max(counts.values(), default=1)
    none = [what for what, n in counts.items() if not n]
    if none:
        raise InputError(f"no row is given: {none[0]} is empty", advice="give one at least")
    if not set(counts.values()) <= {1, count}:
        texts = ", ".join(f"{what} {n}" for what, n in counts.items())
        raise InputError(
            f"rows are given in different numbers: {texts}",
            advice="give as many of each, or one that serves all",
        )
    spread = {n: np.repeat(a, count, axis=0) if len(a) < count else a for n, a in arrays.items()}
    return Rows(count, spread, several or count > 1)


def _rows_of(spec: InputSpec, value: Any) -> Array:
    wanted = with_batch(spec.tensor)
    if isinstance(spec.how, Image):
        alone = TensorSpec(spec.tensor.dtype, (1, *spec.tensor.shape[1:]))
        rows = [to_image_tensor(spec.name, v, spec.how, alone) for v in _pictures(value)]
        return np.concatenate(rows) if rows else np.empty((0,), wanted.dtype)
    stacked = _stacked(spec, value) if isinstance(value, list | tuple) else value
    return to_tensor(spec.name, stacked, wanted, {})


def _pictures(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(cast("Sequence[Any]", value))
    if len(getattr(value, "shape", ())) == 4:
        array = as_array(value)
        # Floats are finished tensors, which keep their batch dimension.
        return [
            array[i : i + 1] if array.dtype.kind == "f" else array[i] for i in range(len(array))
        ]
    return [value]


def _stacked(spec: InputSpec, values: Any) -> Any:
    """A list with a row in each place, with or without the batch dimension."""
    if not values:
        row = cast("tuple[int, ...]", spec.tensor.shape[1:])
        return np.empty((0, *row), spec.tensor.dtype)
    try:
        array = np.stack([as_array(value) for value in values])
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise InputError(
            f"the rows of input {spec.name!r} are no arrays of one shape: {error}",
            advice=f"give rows of {spec.tensor.dtype}{list(spec.tensor.shape[1:])}",
        ) from error
    nested = array.ndim == len(spec.tensor.shape) + 1 and array.shape[1] == 1
    return array[:, 0] if nested else array


# --- the calls ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One call of a bucket: the rows ``start`` to ``start + count``, and ``size`` with those that
    fill it up."""

    start: int
    count: int
    size: int

    @property
    def places(self) -> list[int]:
        """Which rows are given to the bucket: the last request fills it up."""
        own = range(self.start, self.start + self.count)
        return [*own, *[own[-1]] * (self.size - self.count)]


def parts(count: int, sizes: Sequence[int]) -> Iterator[Part]:
    """The calls that serve so many requests: the largest bucket as often as it is full, then the
    smallest that holds the rest.

    Args:
        sizes: of the buckets.
    """
    largest, start = max(sizes), 0
    while start < count:
        own = min(largest, count - start)
        yield Part(start, own, min(size for size in sizes if size >= own))
        start += own


# --- what comes out -----------------------------------------------------------------------------


def join(results: Sequence[tuple[Part, Batch, Mapping[str, Array]]], *, several: bool) -> Outputs:
    """The results of all requests, from those of the calls, without what filled buckets up.

    Args:
        several: whether outputs whose rows stand by themselves are lists, or the only row.

    Returns:
        output name -> array with a row for each request; or a list, or array, as said.
    """
    _, batch, first = results[0]
    joined: Outputs = {}
    for name in first:
        base = _base(name, batch)
        if base in joined:
            continue
        if base in batch.stacked:
            joined[base] = _concatenated([out[base][: part.count] for part, _, out in results])
        elif base in batch.listed:
            rows = [row for part, _, out in results for row in _listed(base, part, out)]
            joined[base] = rows if several else rows[0]
        else:
            joined[base] = first[name]
    return joined


def _base(name: str, batch: Batch) -> str:
    head, dot, tail = name.rpartition(".")
    return head if dot and tail.isdigit() and head in batch.listed else name


def _listed(name: str, part: Part, outputs: Mapping[str, Array]) -> list[Array]:
    if name in outputs:
        return [outputs[name]]
    return [outputs[f"{name}.{row}"] for row in range(part.count)]


def _concatenated(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
