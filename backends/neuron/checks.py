"""What Neuron's compiler asks of the arguments of an op.

Each check is named by rows of ``table.json``. The codes are neuronx-cc's own, from the error codes
of the documentation of AWS Neuron SDK 2.32.0; limits of ``topk`` beyond EVRF013 are field reports.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx

from partitioner.backends.support_table import Check, Refusal
from partitioner.program import TensorType

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = ["CHECKS"]

_WIDE = frozenset([torch.int32, torch.int64])


def _argument(node: fx.Node, name: str) -> Any:
    """An argument of an op by its name in torch's schema; the schema's default if not given."""
    for index, parameter in enumerate(cast(Any, node.target)._schema.arguments):
        if parameter.name == name:
            given = node.args[index] if index < len(node.args) else node.kwargs.get(name)
            return parameter.default_value if given is None else given
    return None


def _dtype(value: Any) -> torch.dtype | None:
    type_ = value.meta["type"] if isinstance(value, fx.Node) else None
    return type_.dtype if isinstance(type_, TensorType) else None


def _numbers(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(cast("tuple[int, ...]", value or ()))


def convolution_dilation(node: fx.Node, target: Target) -> Refusal | None:
    """A transposed convolution dilates its input by the stride; the kernel then may not be, too.

    XLA knows input dilation beside a stride of its own as well (EVRF011); no op of inference makes
    that.
    """
    transposed = "transpose" in str(node.target) or _argument(node, "transposed") is True
    strided = any(n > 1 for n in _numbers(_argument(node, "stride")))
    dilated = any(n > 1 for n in _numbers(_argument(node, "dilation")))
    if not (transposed and strided and dilated):
        return None
    return Refusal(
        "Neuron has no convolution whose input and kernel are both dilated",
        "configuration",
        "use a stride or a dilation of 1, or insert the zeros into the kernel's weights",
        "EVRF010",
    )


def products_in_floats(node: fx.Node, target: Target) -> Refusal | None:
    """Matrix products of wide integers."""
    if not any(_dtype(n) in _WIDE for n in node.all_input_nodes):
        return None
    message = "Neuron has no matrix products of 32-bit and 64-bit integers"
    return Refusal(message, "dtype", "cast the factors to float32", "EVRF035")


def no_wide_integer_power(node: fx.Node, target: Target) -> Refusal | None:
    """Powers of 64-bit integers."""
    if all(_dtype(n) != torch.int64 for n in node.all_input_nodes):
        return None
    message = "Neuron's powers of 64-bit integers are computed in 32 bits"
    return Refusal(message, "dtype", "cast to int32 or float32", "EVRF062")


def topk_of_floats(node: fx.Node, target: Target) -> Refusal | None:
    """The largest integers."""
    if _dtype(node.args[0]) not in _WIDE:
        return None
    return Refusal("Neuron has no topk of integers", "dtype", "cast to float32", "EVRF013")


def topk_order(node: fx.Node, target: Target) -> Refusal | None:
    """Along the last dimension, sorted."""
    dim = _argument(node, "dim")
    rank = len(cast(fx.Node, node.args[0]).meta["type"].shape)
    if dim in (-1, rank - 1) and _argument(node, "sorted"):
        return None
    message = "Neuron has topk along the last dimension only, with sorted results"
    return Refusal(message, "configuration", "transpose before it; leave sorted=True")


def float_scatter(node: fx.Node, target: Target) -> Refusal | None:
    """Scattering integers and booleans, with a reduction or without one."""
    dtype = _dtype(node.args[0])
    if dtype is None or dtype.is_floating_point:
        return None
    reduces = _argument(node, "accumulate") or "add" in str(node.target)
    reduces = reduces or "reduce" in str(node.target)
    if reduces:
        message = "Neuron has no reducing scatter of integers or booleans"
        return Refusal(message, "dtype", "scatter in float32", "EVRF016")
    message = "Neuron scatters integers in float32, so numbers beyond 2**24 would change"
    return Refusal(message, "dtype", "scatter in float32, if the numbers are small", "EVRF060")


def window_dilation(node: fx.Node, target: Target) -> Refusal | None:
    """Pools that leave out elements of their windows."""
    if all(n == 1 for n in _numbers(_argument(node, "dilation"))):
        return None
    message = "Neuron has no pools with dilated windows"
    return Refusal(message, "configuration", "use a dilation of 1", "EVRF018")


def one_pool_result(node: fx.Node, target: Target) -> Refusal | None:
    """A maximum pool whose indices are read needs a window over two operands."""
    items = [user.args[1] for user in node.users if user.target is operator.getitem]
    if 1 not in items:
        return None
    message = "Neuron has no pools that give indices"
    advice = "compute the indices otherwise, or make the step a host op (@partitioner.host_op)"
    return Refusal(message, "configuration", advice, "EVRF019")


def shift_of_32_bits(node: fx.Node, target: Target) -> Refusal | None:
    """Arithmetic shifts to the right."""
    dtype = _dtype(node.args[0])
    if dtype in (torch.int32, torch.uint32, torch.float32):
        return None
    message = f"Neuron shifts numbers of 32 bits only to the right, not {dtype}"
    return Refusal(message.replace("torch.", ""), "dtype", "cast to int32", "EVRF022")


def integers_fit(node: fx.Node, target: Target) -> Refusal | None:
    """Whole numbers of the source code: 64 bits become 32."""
    result = node.meta["type"]
    if not isinstance(result, TensorType) or result.dtype.is_floating_point:
        return None
    wide = next((n for n in _literals(node) if not -(2**31) <= n < 2**31), None)
    if wide is None:
        return None
    message = f"Neuron's integers have 32 bits, which {wide} does not fit in"
    return Refusal(message, "configuration", "use smaller numbers, or float32", "ESFH002")


def _literals(node: fx.Node) -> Iterator[int]:
    for value in (*node.args, *node.kwargs.values()):
        if isinstance(value, int) and not isinstance(value, bool):
            yield value


#: By the names that rows use.
CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        convolution_dilation,
        float_scatter,
        integers_fit,
        no_wide_integer_power,
        one_pool_result,
        products_in_floats,
        shift_of_32_bits,
        topk_of_floats,
        topk_order,
        window_dilation,
    )
}
