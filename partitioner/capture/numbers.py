"""Ops in one form: functional, and with Python numbers where a loop can put a table.

A sampler multiplies by other numbers at each step. They reach an op as Python numbers or as
tensors; here both become an operand, so that the steps of a loop are the same op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from partitioner.capture.tape import Constant, Number, Operand
from partitioner.program import TensorType

__all__ = ["canonical", "functional"]

aten = torch.ops.aten

_TENSOR_FORM: dict[Any, Any] = {
    aten.add.Scalar: aten.add.Tensor,
    aten.sub.Scalar: aten.sub.Tensor,
    aten.mul.Scalar: aten.mul.Tensor,
    aten.div.Scalar: aten.div.Tensor,
    aten.add.Tensor: aten.add.Tensor,
    aten.sub.Tensor: aten.sub.Tensor,
    aten.mul.Tensor: aten.mul.Tensor,
    aten.div.Tensor: aten.div.Tensor,
}


def canonical(
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    type_: TensorType | None,
    emit: Callable[..., Operand],
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The same op with its numbers as :class:`Number` operands.

    Args:
        type_: of the result.
        emit: puts an op before this one and gives its result.
    """
    if type_ is None or len(args) < 2:
        return func, args, kwargs
    if func is aten.rsub.Scalar:
        # alpha scales the subtrahend, the first operand; s - x is exactly (-x) + s.
        alpha = args[2] if len(args) > 2 else 1
        negative = emit(aten.neg.default, _scaled(args[0], alpha, emit, type_))
        return aten.add.Tensor, (negative, Number(args[1], type_.dtype)), {}
    if func not in _TENSOR_FORM:
        return func, args, kwargs
    alpha = kwargs.get("alpha", args[2] if len(args) > 2 else 1)
    left, right = args[0], args[1]
    if isinstance(right, bool | int | float):
        # With an alpha both are numbers: one product, as torch computes it.
        return _TENSOR_FORM[func], (left, Number(right * alpha, type_.dtype)), {}
    right = _scaled(right, alpha, emit, type_)
    return _TENSOR_FORM[func], (_cast(left, type_), _cast(right, type_)), {}


def _scaled(value: Operand, alpha: Any, emit: Callable[..., Operand], type_: TensorType) -> Operand:
    if alpha == 1:
        return value
    return emit(aten.mul.Tensor, value, Number(alpha, type_.dtype))


def _cast(value: Operand, type_: TensorType) -> Operand:
    """A constant scalar tensor in the dtype of the result, which is what the op casts it to."""
    if not isinstance(value, Constant) or value.tensor.ndim or value.tensor.dtype == type_.dtype:
        return value
    return Constant(value.tensor.to(type_.dtype))


def functional(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    """The op that makes a new tensor of what ``func`` writes into an existing one, or None."""
    name = func.name().split("::")[1].split(".")[0]
    if func is aten.copy_.default:
        # The recorder broadcasts and casts to the written tensor itself.
        return aten.clone.default, (args[1],), {}
    if name in ("fill_", "zero_"):
        value = args[1] if name == "fill_" else 0
        if isinstance(value, torch.Tensor):
            return aten.clone.default, (value,), {}
        return aten.full_like.default, (args[0], value), {}
    rest = {key: value for key, value in kwargs.items() if key != "out"}
    pure = _overload_like(func, name.removesuffix("_"))
    return None if pure is None else (pure, args, rest)


def _overload_like(func: Any, name: str) -> Any:
    """The functional overload of ``name`` that takes what ``func`` takes, but for ``out``."""
    packet = getattr(aten, name, None)
    wanted = [(a.name, str(a.type)) for a in func._schema.arguments if not a.is_out]
    for overload in packet.overloads() if packet is not None else ():
        candidate = getattr(packet, overload)
        given = [(a.name, str(a.type)) for a in candidate._schema.arguments]
        if given == wanted and not candidate._schema.is_mutable:
            return candidate
    return None
