"""The record of one run: its tape, and which results on it the driver's tensors hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from partitioner.capture.aliases import Aliases
from partitioner.capture.constants import Constants
from partitioner.capture.leaves import leaves_of, map_leaves
from partitioner.capture.numbers import canonical
from partitioner.capture.signatures import freeze
from partitioner.capture.sources import calling_line
from partitioner.capture.tape import Constant, Entry, Number, Operand, Slot, Tape, Value
from partitioner.errors import CaptureError
from partitioner.program import TensorType

__all__ = ["Recording"]


class Recording:
    """The tape of one run, with what its tensors hold.

    Args:
        modules: the pipeline's modules by path; constants are named after them.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.tape = Tape()
        self.aliases = Aliases(self.emit)
        self.constants = Constants(modules)

    def add_input(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A fresh tensor that stands for an input of the pipeline."""
        entry = Entry(
            "input", name, (), {}, (), (TensorType.of(tensor),), False, ("input", name), ""
        )
        stand_in = tensor.detach().clone()
        self.aliases.follow(stand_in, Value(self.tape.append(entry)))
        return stand_in

    # --- operands ---

    def is_followed(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor depends on an input."""
        return self.aliases.is_followed(tensor)

    def operand(self, tensor: torch.Tensor) -> Operand:
        """What a tensor of the driver holds: a value on the tape, or a constant."""
        try:
            value = self.aliases.value(tensor)
        except TypeError as error:
            raise CaptureError(
                f"cannot follow the content of a tensor through {error}",
                where=calling_line(),
                advice="use an op that makes a new tensor (.clone(), torch.cat) here",
            ) from error
        return value if value is not None else self.constants.of(tensor)

    def begin_following(self, tensor: torch.Tensor) -> tuple[torch.Tensor, Operand]:
        """A constant is about to be written to: its whole storage and its content until now."""
        with _disable_current_modes():
            storage = tensor.untyped_storage()
            size = storage.nbytes() // tensor.dtype.itemsize
            base = torch.empty(0, dtype=tensor.dtype).set_(storage, 0, (size,), (1,))
            return base, Constant(base.clone())

    # --- ops ---

    def append_op(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: Mapping[int, Operand],
        results: list[Any],
        multiple: bool,
    ) -> Value:
        """Put an aten op on the tape; tensors become slots, liftable numbers too."""
        types = tuple(None if r is None else TensorType.of(r) for r in results)
        operands: list[Operand] = []

        def slot(leaf: Any) -> Any:
            if not isinstance(leaf, Number | Value | Constant):
                return leaf
            operands.append(leaf)
            return Slot(len(operands) - 1)

        with _disable_current_modes():
            args, kwargs = map_leaves(lambda v: self._as_operand(v, before), (args, kwargs))
            func, args, kwargs = canonical(func, args, kwargs, types[0], self.emit)
            args, kwargs = map_leaves(slot, (args, kwargs))
        self._refuse_unknown_sizes(operands)
        key = ("aten", func, freeze(args), freeze(kwargs), types)
        entry = Entry(
            "aten", func, args, kwargs, tuple(operands), types, multiple, key, calling_line()
        )
        return Value(self.tape.append(entry))

    def _as_operand(self, leaf: Any, before: Mapping[int, Operand]) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        known = before.get(id(leaf))
        return known if known is not None else self.operand(leaf)

    def _refuse_unknown_sizes(self, operands: list[Operand]) -> None:
        for operand in operands:
            if isinstance(operand, Value):
                type_ = self.tape.entries[operand.entry].types[operand.item]
                if type_ is not None and None in type_.shape:
                    raise CaptureError(
                        "a tensor op takes the result of a host op whose size only the data decide",
                        where=calling_line(),
                        advice="return it from the pipeline as it is, or do the rest in the op",
                    )

    def emit(self, func: torch._ops.OpOverload, *args: Any, **kwargs: Any) -> Operand:
        """An op that the driver did not call itself, on operands; constants fold at once."""

        def stand_in(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                leaf = self.operand(leaf)
            if isinstance(leaf, Constant):
                return leaf.tensor
            if isinstance(leaf, Number):
                return leaf.value
            if isinstance(leaf, Value):
                type_ = self.tape.entries[leaf.entry].types[leaf.item]
                return cast(TensorType, type_).empty("cpu").zero_()
            return leaf

        with _disable_current_modes():
            real_args, real_kwargs = map_leaves(stand_in, (args, kwargs))
            result = func(*real_args, **real_kwargs)
        if not any(isinstance(leaf, Value) for leaf in leaves_of((args, kwargs))):
            return Constant(result)
        return self.append_op(func, args, kwargs, {}, [result], False)
