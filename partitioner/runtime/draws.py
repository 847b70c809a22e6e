"""Draw a request's random numbers from its seed, as torch's CPU generator would.

First the inputs declared as noise that the caller has not given, in the order of the pipeline's
inputs and all from stream 0; then the pipeline's own draws, in the order in which it makes them.
Every stream starts from the request's seed. What is given is not drawn, and takes no numbers from
its stream: giving the latents that the seed would have drawn first moves the later draws forward,
as it does in eager code that skips ``randn`` when latents are given.

In a bucket, which serves several requests at once, every row has a seed of its own and draws what
it would draw alone. So no row depends on the others, nor on how many there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from partitioner.errors import BundleError, InputError
from partitioner.plan import Draw, DrawGroup, Plan
from partitioner.runtime.random import TorchGenerator, fills_blocks
from partitioner.specs import InputSpec, Noise, TensorSpec

__all__ = ["Drawing", "draw_noise", "draw_rows"]

Array = np.ndarray[Any, Any]
Distribution = Literal["normal", "uniform", "integers"]


class Drawing(Protocol):
    """What is drawn for: a manifest, or anything with its inputs and plan."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]: ...
    @property
    def plan(self) -> Plan: ...


def draw_noise(
    source: Drawing,
    seed: int,
    given: Mapping[str, Array],
    *,
    dims: Mapping[str, int] | None = None,
    unread: Collection[str] = (),
) -> dict[str, Array]:
    """All random values of a request.

    Args:
        source: a manifest.
        seed: of every stream.
        given: value id -> array, for values that are not to be drawn; others are passed over.
        dims: sizes of symbolic dimensions.
        unread: names of inputs that have no value id, as nothing reads them, and are given: they
            are not drawn either.

    Returns:
        value id -> array, for every draw and every used input that is declared as noise; given
        arrays are handed through.

    Raises:
        InputError: a given array has another shape or dtype than its value, or a size is unknown.
        BundleError: the plan asks for numbers that no generator draws.
    """
    streams = _Streams(seed, dims or {})
    drawn: dict[str, Array] = {}
    for spec in source.inputs:
        if not isinstance(spec.how, Noise):
            continue
        value = source.plan.inputs.get(spec.name)
        if value is not None and value in given:
            drawn[value] = _checked(value, given[value], spec.tensor)
        elif spec.name not in unread:
            # Drawn even if nothing reads it: what is removed as dead must not change the rest.
            array = _noise_input(streams, spec.name, spec.tensor, spec.how)
            if value is not None:
                drawn[value] = array
    for group in source.plan.draws:
        _draw_group(streams, group, source.plan, given, drawn)
    return drawn


def draw_rows(
    source: Drawing,
    seeds: Sequence[int],
    given: Mapping[str, Array],
    *,
    dims: Mapping[str, int] | None = None,
    unread: Collection[str] = (),
) -> dict[str, Array]:
    """All random values of a bucket: row i is what :func:`draw_noise` gives one row from seed i.

    Args:
        source: a bucket's.
        seeds: of each row.
        given, dims, unread: as of :func:`draw_noise`; given arrays have all rows.

    Raises:
        as :func:`draw_noise`.
    """
    axes = _row_axes(source)
    alone = _one_row(source, axes)
    taken = {value: array for value, array in given.items() if value in axes}
    for value, array in taken.items():
        _checked(value, array, source.plan.values[value])
    drawn: dict[int, dict[str, Array]] = {}
    rows: list[dict[str, Array]] = []
    for row, seed in enumerate(seeds):
        own = {v: np.take(array, [row], axes[v]) for v, array in taken.items()}
        # Rows that fill a bucket up have the seed of the last request.
        known = None if own else drawn.get(seed)
        drawn[seed] = known or draw_noise(alone, seed, own, dims=dims, unread=unread)
        rows.append(drawn[seed])
    return {v: np.concatenate([one[v] for one in rows], axes[v]) for v in rows[0]}


@dataclass(frozen=True)
class _Alone:
    inputs: tuple[InputSpec, ...]
    plan: Plan


def _row_axes(source: Drawing) -> dict[str, int]:
    """Value id -> the dimension with a row for each request, of all that is drawn."""
    axes = {d.value: int(d.row) for group in source.plan.draws for d in group.draws}
    names = [spec.name for spec in source.inputs if isinstance(spec.how, Noise)]
    return {**{v: 0 for n, v in source.plan.inputs.items() if n in names}, **axes}


def _one_row(source: Drawing, axes: Mapping[str, int]) -> _Alone:
    """What is drawn for one request."""

    def narrowed(spec: TensorSpec, axis: int) -> TensorSpec:
        return TensorSpec(spec.dtype, (*spec.shape[:axis], 1, *spec.shape[axis + 1 :]))

    values = {v: narrowed(source.plan.values[v], axis) for v, axis in axes.items()}
    inputs = tuple(
        replace(s, tensor=narrowed(s.tensor, 0)) if isinstance(s.how, Noise) else s
        for s in source.inputs
    )
    return _Alone(inputs, replace(source.plan, values={**source.plan.values, **values}))


class _Streams:
    """The generators of a request, made when they are first asked for."""

    def __init__(self, seed: int, dims: Mapping[str, int]) -> None:
        self._seed = seed
        self._dims = dims
        self._generators: dict[int, TorchGenerator] = {}

    def draw(
        self,
        stream: int,
        distribution: Distribution,
        args: tuple[float, float],
        shape: tuple[int, ...],
        dtype: str,
    ) -> Array:
        generator = self._generators.get(stream)
        if generator is None:
            generator = self._generators[stream] = TorchGenerator(self._seed)
        try:
            if distribution == "normal":
                return generator.normal(shape, dtype, *args)
            if distribution == "uniform":
                return generator.uniform(shape, dtype, *args)
            low, high = args
            return generator.integers(int(low), int(high), shape, dtype)
        except ValueError as error:
            raise BundleError(
                f"the plan draws what cannot be drawn: {error}",
                advice="get the bundle again from where it was built",
            ) from error

    def shape(self, name: str, spec: TensorSpec) -> tuple[int, ...]:
        """The shape to draw, with symbolic dimensions filled in."""
        shape: list[int] = []
        for dim in spec.shape:
            size = self._dims.get(dim) if isinstance(dim, str) else dim
            if size is None:
                raise InputError(
                    f"{name!r} is {spec}: the size {dim!r} is not known, so it cannot be drawn",
                    advice=f"give {name!r}, or another input that has this size",
                )
            shape.append(size)
        return tuple(shape)


def _noise_input(streams: _Streams, name: str, spec: TensorSpec, noise: Noise) -> Array:
    shape = streams.shape(name, spec)
    array = streams.draw(0, noise.distribution, (0.0, 1.0), shape, spec.dtype)
    if noise.scale == 1.0:
        return array
    return np.asarray(array * array.dtype.type(noise.scale), array.dtype)


def _draw_group(
    streams: _Streams,
    group: DrawGroup,
    plan: Plan,
    given: Mapping[str, Array],
    drawn: dict[str, Array],
) -> None:
    wanted: list[tuple[Draw, TensorSpec, tuple[int, ...]]] = []
    for draw in group.draws:
        spec = plan.values[draw.value]
        if draw.value in given:
            drawn[draw.value] = _checked(draw.value, given[draw.value], spec)
            continue
        shape = streams.shape(draw.value, spec)
        wanted.append((draw, spec, shape))
        if draw.row:
            # Rows that no repetition fills are never uninitialised memory.
            make = np.empty if shape[0] == group.repeat else np.zeros
            drawn[draw.value] = make(shape, spec.dtype)
    if len(wanted) == 1 and _drawn_at_once(wanted[0][0], wanted[0][2]):
        ((draw, spec, shape),) = wanted
        drawn[draw.value][: group.repeat] = streams.draw(
            draw.stream, draw.distribution, draw.args, (group.repeat, *shape[1:]), spec.dtype
        )
        return
    for row in range(group.repeat):
        for draw, spec, shape in wanted:
            if draw.row:
                numbers = streams.draw(
                    draw.stream, draw.distribution, draw.args, shape[1:], spec.dtype
                )
                drawn[draw.value][row, ...] = numbers
            else:
                drawn[draw.value] = streams.draw(
                    draw.stream, draw.distribution, draw.args, shape, spec.dtype
                )


def _drawn_at_once(draw: Draw, shape: tuple[int, ...]) -> bool:
    """Whether all rows can be drawn together, which takes half the time where rows are small."""
    return draw.row and draw.distribution == "normal" and fills_blocks(shape[1:])


def _checked(name: str, array: Array, spec: TensorSpec) -> Array:
    fits = len(array.shape) == len(spec.shape) and all(
        not isinstance(want, int) or want == have
        for want, have in zip(spec.shape, array.shape, strict=True)
    )
    if array.dtype.name != spec.dtype or not fits:
        raise InputError(
            f"the noise {name!r} is {array.dtype.name}{list(array.shape)}, but must be {spec}",
            advice="give an array of that dtype and shape, or leave it out to have it drawn",
        )
    return np.asarray(array, order="C")
