"""Calls of tensor ops: run, and put on the tape where an operand depends on an input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from partitioner.capture.leaves import probe, written_by
from partitioner.capture.modes import reading_error
from partitioner.capture.numbers import functional
from partitioner.capture.recording import Recording
from partitioner.capture.sources import calling_line
from partitioner.capture.tape import Operand, Value
from partitioner.errors import CaptureError
from partitioner.program import TensorType

aten = torch.ops.aten

__all__ = ["OpCalls"]

#: Results depend on the operand's shape and dtype alone.
_SHAPE_ONLY = frozenset(
    [
        "empty_like",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "new_empty_strided",
    ]
)


class OpCalls:
    """Records the ops of the driver, but for those that draw."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def call(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run one op of the driver."""
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        name = func.name().split("::")[1].split(".")[0]
        if name in _SHAPE_ONLY or not any(self._recording.aliases.is_followed(t) for t in tensors):
            return func(*args, **kwargs)
        if func is aten.index.Tensor:
            args = self._with_fixed_masks(args)
            tensors = [t for t in pytree.tree_leaves(args) if isinstance(t, torch.Tensor)]
        self._refuse_reading(func, name, args)
        written = written_by(func, args, kwargs)
        before = {id(t): self._recording.operand(t) for t in tensors}
        bases = [
            self._recording.begin_following(t)
            for t in written
            if not self._recording.aliases.is_followed(t)
        ]
        result = func(*args, **kwargs)
        for base, content in bases:
            self._recording.aliases.follow(base, content)
        if written:
            self._record_write(func, args, kwargs, before, written)
        else:
            self._record_op(func, args, kwargs, before, result)
        return result

    def _with_fixed_masks(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments of ``index`` with masks that no input has a part in as the places they name."""
        places: list[Any] = []
        for index in args[1]:
            is_mask = isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
            if is_mask and not self._recording.aliases.is_followed(index):
                with _disable_current_modes():
                    places += index.nonzero(as_tuple=True)
            else:
                places.append(index)
        return (args[0], places)

    def _refuse_reading(
        self, func: torch._ops.OpOverload, name: str, args: tuple[Any, ...]
    ) -> None:
        if func is aten.index.Tensor and not _masks(args[1]):
            # Its shape depends on data only where a mask does.
            return
        reads = torch.Tag.data_dependent_output in func.tags or name in ("equal", "is_nonzero")
        if reads:
            raise reading_error(f"{name!r}")
        if torch.Tag.dynamic_output_shape in func.tags:
            raise CaptureError(
                f"the shape of the result of {name!r} depends on the pipeline's input",
                where=calling_line(),
                advice="use an op whose result has a fixed shape (torch.where, a mask), or make "
                "this step a host op (@partitioner.host_op)",
            )

    def _record_op(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: dict[int, Operand],
        result: Any,
    ) -> None:
        if not func._schema.returns:
            # It looks at its operand and gives nothing: a check that eager makes for itself.
            return
        results = cast("list[Any]", list(result) if isinstance(result, tuple | list) else [result])
        multiple = isinstance(result, tuple | list)
        if not all(r is None or isinstance(r, torch.Tensor) for r in results):
            raise reading_error(f"{func.name()!r}")
        value = self._recording.append_op(func, args, kwargs, before, results, multiple)
        operands = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        shared = {t.untyped_storage()._cdata for t in operands}
        for index, tensor in enumerate(results):
            if tensor is None:
                continue
            item = Value(value.entry, index)
            if tensor.untyped_storage()._cdata in shared:
                self._recording.aliases.add_view(tensor, item)
            else:
                self._recording.aliases.follow(tensor, item)

    def _record_write(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: dict[int, Operand],
        written: list[torch.Tensor],
    ) -> None:
        if len(written) != 1:
            raise CaptureError(
                f"{func.name()!r} writes to {len(written)} tensors at once",
                where=calling_line(),
                advice="use the op that makes new tensors",
            )
        target = written[0]
        pure = functional(func, args, kwargs)
        if pure is None:
            raise CaptureError(
                f"{func.name()!r} writes to its operand and has no functional form",
                where=calling_line(),
                advice="use the op that makes a new tensor",
            )
        pure_func, pure_args, pure_kwargs = pure
        with _disable_current_modes():
            shaped = probe(pure_func, pure_args, pure_kwargs)
        value: Operand = self._recording.append_op(
            pure_func, pure_args, pure_kwargs, before, [shaped], False
        )
        value = self._fit(value, TensorType.of(shaped), TensorType.of(target))
        self._recording.aliases.write(target, value)

    def _fit(self, value: Operand, have: TensorType, want: TensorType) -> Operand:
        """Broadcast and cast to what the written tensor is."""
        if have.dtype != want.dtype:
            value = self._recording.emit(torch.ops.aten._to_copy.default, value, dtype=want.dtype)
        if have.shape != want.shape:
            shape = [cast(int, d) for d in want.shape]
            value = self._recording.emit(torch.ops.aten.expand.default, value, shape)
        return value


def _masks(indices: Iterable[Any]) -> list[torch.Tensor]:
    tensors = [index for index in indices if isinstance(index, torch.Tensor)]
    return [index for index in tensors if index.dtype in (torch.bool, torch.uint8)]
