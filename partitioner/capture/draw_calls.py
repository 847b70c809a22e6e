"""Calls that draw random numbers: each becomes an input of the program, drawn by the runtime."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from partitioner.capture.draws import Streams, classify, memory_order
from partitioner.capture.recording import Recording
from partitioner.capture.sources import calling_line
from partitioner.capture.tape import DrawSpec, Entry, Operand, Value
from partitioner.program import TensorType

aten = torch.ops.aten

__all__ = ["DrawCalls"]


class DrawCalls:
    """Records what the driver and its stages draw."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._streams = Streams()

    def draw(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        draw = classify(func, args, kwargs, self._streams)
        result = func(*args, **kwargs)
        if draw.into is None:
            self._recording.aliases.follow(result, self._drawn(draw.spec, result))
            return result
        value = self._drawn(draw.spec, draw.into)
        if not self._recording.aliases.is_followed(draw.into):
            base, content = self._recording.begin_following(draw.into)
            self._recording.aliases.follow(base, content)
        self._recording.aliases.write(draw.into, value)
        return result

    def append(self, spec: DrawSpec, type_: TensorType) -> Value:
        key = ("draw", spec, type_)
        entry = Entry("draw", spec, (), {}, (), (type_,), False, key, calling_line())
        return Value(self._recording.tape.append(entry))

    def _drawn(self, spec: DrawSpec, like: torch.Tensor) -> Operand:
        """Numbers in the order of the memory of ``like``, in its shape."""
        order = memory_order(spec, like, calling_line())
        if order == tuple(range(like.ndim)):
            return self.append(spec, TensorType.of(like))
        with _disable_current_modes():
            type_ = TensorType.of(like.permute(order))
        value = self.append(spec, type_)
        inverse = [order.index(dim) for dim in range(like.ndim)]
        return self._recording.emit(aten.permute.default, value, inverse)
