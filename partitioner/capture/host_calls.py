"""Calls of host ops: put on the tape, or run where no operand depends on an input."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.utils._python_dispatch import _disable_current_modes

from partitioner import hostops
from partitioner.capture.recording import Recording
from partitioner.capture.signatures import freeze
from partitioner.capture.sources import calling_line
from partitioner.capture.stage_calls import StageCalls
from partitioner.capture.tape import Entry, Value
from partitioner.errors import CaptureError
from partitioner.hostops import HostOp
from partitioner.program import TensorType

__all__ = ["HostCalls"]


class HostCalls:
    """Records the calls of host ops."""

    def __init__(self, recording: Recording, stages: StageCalls) -> None:
        self.host_ops: dict[str, HostOp] = {}
        self._recording = recording
        self._stages = stages

    def call(self, op: HostOp, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of a host op."""
        if self._stages.are_inside:
            raise CaptureError(
                f"the host op {op.name!r} is called inside a stage",
                where=calling_line(),
                advice="call it in the pipeline's own forward, between stages",
            )
        if not all(isinstance(a, torch.Tensor) for a in args):
            raise CaptureError(
                f"the host op {op.name!r} takes tensors by position and options by keyword",
                where=calling_line(),
            )
        if not any(self._recording.aliases.is_followed(a) for a in args):
            return _host_on_constants(op, args, kwargs)
        types = tuple(
            TensorType(cast(Any, spec.shape), getattr(torch, spec.dtype))
            for spec in op.outputs.values()
        )
        operands = tuple(self._recording.operand(a) for a in args)
        key = ("host", op.name, freeze(kwargs), types)
        entry = Entry("host", op.name, (), dict(kwargs), operands, types, True, key, calling_line())
        index = self._recording.tape.append(entry)
        self.host_ops[op.name] = op
        results: dict[str, torch.Tensor] = {}
        for item, (name, type_) in enumerate(zip(op.outputs, types, strict=True)):
            with _disable_current_modes():
                results[name] = type_.empty("cpu").zero_()
            self._recording.aliases.follow(results[name], Value(index, item))
        return results


def _host_on_constants(op: HostOp, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = hostops.recorder.set(None)
    try:
        with _disable_current_modes():
            return op(*args, **kwargs)
    finally:
        hostops.recorder.reset(token)
