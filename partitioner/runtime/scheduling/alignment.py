"""Which rows of a bucket's loop belong to which request: a bucket beside that of one request.

Both are plans of one pipeline, so their bodies call the same segments on the same values, and a
value of the bucket has ``rows`` times as many rows in one dimension as that of one request. Where
that holds, a loop of the bucket can take its rows from runs of single requests, each at a step of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partitioner.errors import UsageError
from partitioner.plan import Call, Loop, Plan
from partitioner.specs import TensorSpec

__all__ = ["Aligned", "Place", "align", "only_loop"]


@dataclass(frozen=True)
class Place:
    """A value of the bucket's body that comes from single requests.

    Args:
        value: of the bucket's plan.
        own: of the plan of one request.
        axis: the dimension with the requests' rows.
        source: what ``own`` is a row of at each trip; None where it is the same in all trips.
    """

    value: str
    own: str
    axis: int
    source: str | None = None


@dataclass(frozen=True)
class Aligned:
    """A bucket's loop, and what its rows are to single requests.

    Args:
        rows: of the bucket.
        body: its calls.
        carries: what the body reads of the last trip, in the order of the loop's carried values.
        nexts: the bucket's values that they become.
        slices: what it reads of this trip.
        invariants: what it reads in all trips.
        constants: the bucket's own, which are the same for all requests.
    """

    rows: int
    body: tuple[Call, ...]
    carries: tuple[Place, ...]
    nexts: tuple[str, ...]
    slices: tuple[Place, ...]
    invariants: tuple[Place, ...]
    constants: tuple[str, ...]


def only_loop(plan: Plan) -> Loop:
    """The loop of a plan whose steps requests can share.

    Raises:
        UsageError: there is none, or more, or it collects values or holds another one.
    """
    loops = [step for step in plan.steps if isinstance(step, Loop)]
    if len(loops) != 1:
        raise _refusal(f"the pipeline has {len(loops)} loops, not one")
    if any(isinstance(step, Loop) for step in loops[0].body):
        raise _refusal("the loop has another one inside")
    if loops[0].stacked:
        raise _refusal("the loop collects values of all its steps")
    return loops[0]


def align(one: Plan, many: Plan, rows: int) -> Aligned:
    """Compare a bucket with that of one request.

    Raises:
        UsageError: it cannot take its rows from single requests; says why.
    """
    own, loop = only_loop(one), only_loop(many)
    pairs = _pairs(_calls(own), _calls(loop))
    own_slices = {part.inner: part.source for part in own.slices}
    carried = {carry.inner for carry in loop.carries}
    sliced = {part.inner for part in loop.slices}
    made = {value for call in _calls(loop) for value in call.outputs}
    carries: dict[str, Place] = {}
    slices: list[Place] = []
    invariants: list[Place] = []
    constants: list[str] = []
    for value, other in pairs.items():
        axis = _axis(one.values[other], many.values[value], rows)
        if value in made:
            continue
        if value in many.constants and value not in sliced:
            constants.append(value)
            continue
        if axis is None:
            raise _refusal(f"{value!r} has no row for each request")
        if value in carried:
            carries[value] = Place(value, other, axis)
        elif value in sliced:
            if other not in own_slices:
                raise _refusal(f"{value!r} changes from step to step, for one request it does not")
            slices.append(Place(value, other, axis, own_slices[other]))
        elif other in own_slices:
            raise _refusal(f"{value!r} does not change from step to step, for one request it does")
        else:
            invariants.append(Place(value, other, axis))
    if len(own.carries) != len(loop.carries):
        raise _refusal("another number of values is carried for one request")
    both = zip(loop.carries, own.carries, strict=True)
    places = tuple(_carry(carries, carry.inner, other.inner) for carry, other in both)
    nexts = tuple(carry.next for carry in loop.carries)
    if not made.issuperset(nexts):
        raise _refusal("a carried value is handed on as it was given")
    return Aligned(
        rows, _calls(loop), places, nexts, tuple(slices), tuple(invariants), tuple(constants)
    )


def _carry(carries: dict[str, Place], inner: str, own: str) -> Place:
    place = carries.get(inner)
    if place is None or place.own != own:
        raise _refusal(f"the carried value {inner!r} is another one for one request")
    return place


def _calls(loop: Loop) -> tuple[Call, ...]:
    return tuple(step for step in loop.body if isinstance(step, Call))


def _pairs(own: Sequence[Call], calls: Sequence[Call]) -> dict[str, str]:
    """Value of the bucket -> value of the plan for one request."""
    if len(own) != len(calls):
        raise _refusal(f"a step makes {len(calls)} calls, for one request {len(own)}")
    pairs: dict[str, str] = {}
    for alone, call in zip(own, calls, strict=True):
        if (len(alone.inputs), len(alone.outputs)) != (len(call.inputs), len(call.outputs)):
            raise _refusal(f"{call.segment!r} has other inputs or outputs for one request")
        both = zip((*call.inputs, *call.outputs), (*alone.inputs, *alone.outputs), strict=True)
        for value, other in both:
            if pairs.setdefault(value, other) != other:
                raise _refusal(f"{value!r} is two values for one request")
    return pairs


def _axis(one: TensorSpec, many: TensorSpec, rows: int) -> int | None:
    """The dimension that has ``rows`` times as many rows; None where nothing differs."""
    if one.dtype != many.dtype or len(one.shape) != len(many.shape):
        raise _refusal(f"{many} is {one} for one request")
    sizes = list(zip(one.shape, many.shape, strict=True))
    if not all(isinstance(size, int) for pair in sizes for size in pair):
        raise _refusal(f"the size of {many} is only known when it has run")
    if rows == 1:
        return 0 if one == many and sizes else None
    differing = [i for i, (own, size) in enumerate(sizes) if own != size]
    if not differing:
        return None
    own, size = sizes[differing[0]]
    if len(differing) > 1 or size != rows * int(own or 0):
        raise _refusal(f"{many} is {one} for one request")
    return differing[0]


def _refusal(why: str) -> UsageError:
    return UsageError(
        f"requests at different steps cannot share calls: {why}",
        advice="build without --step-batching: requests then share calls from the first step on",
    )
