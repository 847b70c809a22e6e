"""Calls that several requests share: who may, what the call is given, and who gets what of it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from partitioner.runtime.events import Callback, StepEvent
from partitioner.runtime.inputs import check_inputs
from partitioner.runtime.requests import Outputs, Request
from partitioner.runtime.rows import Rows
from partitioner.specs import InputSpec

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Batch

__all__ = ["Abandoned", "Content", "Members", "joined_call", "own_outputs", "shared_key", "tell"]

Array = np.ndarray[Any, Any]

_LOG = logging.getLogger("partitioner.runtime")


@dataclass(frozen=True, eq=False)
class Content:
    """What a request brings to a call that it shares.

    Args:
        rows: its inputs with rows.
        rest: inputs without, and the options that choose a variant; alike for all that share.
        seeds: of each row.
        callback: of the request alone.
    """

    rows: Rows
    rest: dict[str, Any]
    seeds: list[int]
    callback: Callback | None


class Abandoned(Exception):  # noqa: N818 - nothing is wrong: nobody waits for the call any more
    """All requests of a call have ended before it."""


def shared_key(
    options: Mapping[str, Any],
    shared: Sequence[InputSpec],
    rest: Mapping[str, Any],
    rowed: Mapping[str, Array],
) -> Hashable:
    """Equal for requests that one call can serve.

    Args:
        options: of the variant.
        shared: specs of the inputs without rows.
        rest: what the caller gives of them.
        rowed: the inputs with rows: noise is given by all that share a call, or by none.

    Raises:
        InputError: an input is missing or not what is declared: refused before it meets others.
    """
    arrays = check_inputs(shared, rest).arrays
    prints = tuple((name, *_fingerprint(array)) for name, array in sorted(arrays.items()))
    chosen = tuple((name, repr(value)) for name, value in sorted(options.items()))
    return chosen, prints, tuple(sorted(rowed))


def _fingerprint(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
    return array.dtype.name, array.shape, digest


def joined_call(contents: Sequence[Content]) -> tuple[dict[str, Any], list[int]]:
    """The inputs and seeds of a call for several requests, in their order."""
    first = contents[0]
    arrays = {
        name: np.concatenate([content.rows.arrays[name] for content in contents])
        for name in first.rows.arrays
    }
    seeds = [seed for content in contents for seed in content.seeds]
    return {**first.rest, **arrays}, seeds


def own_outputs(outputs: Outputs, batch: Batch, start: int, rows: Rows) -> Outputs:
    """What one request gets of a call's outputs: its own rows, in arrays of its own.

    Args:
        outputs: of a call for several rows.
        batch: which outputs have rows.
        start: its first row.
        rows: of the request.
    """
    own: Outputs = {}
    stop = start + rows.count
    for name, value in outputs.items():
        if name in batch.stacked:
            own[name] = value[start:stop].copy()
        elif name in batch.listed:
            own[name] = value[start:stop] if rows.several else value[start]
        else:
            own[name] = value.copy()
    return own


def tell(shared: str, count: int, error: BaseException) -> None:
    """Log that what several requests share has failed, since all of them may succeed alone.

    Args:
        shared: a call, or a step.
        count: of the requests.
    """
    _LOG.warning("a %s of %d requests failed, each makes it alone: %s", shared, count, error)


class Members:
    """The requests of one call, each of which may end before it.

    Args:
        members: each with its own callback.
    """

    def __init__(self, members: Sequence[tuple[Request, Callback | None]]) -> None:
        self._callbacks = [(request, request.callback(own)) for request, own in members]

    def callback(self, event: StepEvent) -> None:
        """Between steps: tell each of them, and answer those that end now.

        Raises:
            Abandoned: there is none left.
        """
        for request, callback in self._callbacks:
            if request.done():
                continue
            try:
                callback(event)
            except BaseException as error:  # noqa: BLE001 - it is this request's answer
                request.set_exception(error)
        if all(request.done() for request, _ in self._callbacks):
            raise Abandoned
