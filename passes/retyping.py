"""Giving values other dtypes: casts of constants, and types that follow from operands."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import map_arg

from partitioner.errors import PassError
from partitioner.program import Program, TensorType, add_node, node_type

__all__ = ["DTYPES", "cast_constant", "cast_node", "dtype_of", "inferred_type"]

aten = torch.ops.aten

#: The names of dtypes, short and long.
DTYPES: dict[str, torch.dtype] = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    **{
        str(dtype).removeprefix("torch."): dtype
        for dtype in (
            *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
            *(torch.bfloat16, torch.float16, torch.float32, torch.float64),
        )
    },
}


def dtype_of(name: str, who: str) -> torch.dtype:
    """The dtype of a name.

    Raises:
        PassError: there is none.
    """
    if name not in DTYPES:
        raise PassError(
            f"{who} does not know the dtype {name!r}", advice=f"one of {', '.join(DTYPES)}"
        )
    return DTYPES[name]


def cast_constant(program: Program, name: str, dtype: torch.dtype, source: str) -> str:
    """The name of a constant's copy in another dtype; made when it is first asked for.

    Raises:
        PassError: a whole number does not fit.
    """
    copy = f"{name}.{str(dtype).removeprefix('torch.')}"
    if copy in program.constants:
        return copy
    tensor = program.constants[name]
    narrow = not dtype.is_floating_point and dtype != torch.bool and tensor.numel() > 0
    if narrow and not tensor.dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        low, high = int(tensor.min()), int(tensor.max())
        if low < limits.min or high > limits.max:
            raise PassError(
                f"the constant {name!r} holds {low if low < limits.min else high}, which "
                f"{str(dtype).removeprefix('torch.')} cannot hold",
                where=source,
                advice="compute with smaller numbers, or build for a target that has "
                f"{str(tensor.dtype).removeprefix('torch.')}",
            )
    program.constants[copy] = tensor.detach().to(dtype)
    return copy


def cast_node(graph: fx.Graph, value: fx.Node, dtype: torch.dtype, like: fx.Node) -> fx.Node:
    """A cast of a value, at the graph's insertion point."""
    type_ = TensorType(node_type(value).shape, dtype)
    return add_node(
        graph,
        "call_function",
        aten._to_copy.default,
        (value,),
        {"dtype": dtype},
        type=type_,
        like=like,
    )


def inferred_type(node: fx.Node) -> Any:
    """What an op gives for the types that its operands have now: a type, or a tuple of them."""
    with FakeTensorMode(), torch.no_grad():
        tensors = {n: n.meta["type"].empty("cpu") for n in node.all_input_nodes}
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: tensors[n])
        result = cast(Any, node.target)(*cast(Any, args), **cast(Any, kwargs))
    old = node.meta["type"]
    if isinstance(old, tuple):
        pairs = zip(cast("tuple[Any, ...]", old), result, strict=True)
        return tuple(None if was is None else _retyped(was, now) for was, now in pairs)
    return _retyped(cast(TensorType, old), result)


def _retyped(was: TensorType, now: torch.Tensor) -> TensorType:
    return TensorType(was.shape, now.dtype)
