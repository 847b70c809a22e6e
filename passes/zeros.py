"""Which ops give zero where operands are zero, and what a sum or a product with zeros comes to."""

from __future__ import annotations

from torch import fx

from partitioner.passes.ops import argument, is_constant_number, op_name, shape_of
from partitioner.program import Program

__all__ = ["ZeroConstants", "absorbed", "contraction", "gives_zero", "is_fill"]

#: Zero where their first operand is: moves, sums, and functions with f(0) = 0.
_KEEP_ZERO = frozenset(
    [
        *("reshape", "view", "permute", "transpose", "t", "expand", "slice", "select", "squeeze"),
        *("unsqueeze", "flip", "repeat", "roll", "index", "gather", "index_select", "flatten"),
        *("_to_copy", "clone", "neg", "abs", "relu", "silu", "gelu", "tanh", "sin", "sqrt"),
        *("sum", "mean", "cumsum", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
    ]
)
_PRODUCTS = frozenset(["mul", "matmul", "mm", "bmm"])
_CONVOLUTIONS = frozenset(
    [f"{kind}{dims}d" for kind in ("conv", "conv_transpose") for dims in (1, 2, 3)]
)


def is_fill(node: fx.Node) -> bool:
    """Whether a node makes a tensor of zeros."""
    name = op_name(node)
    if name in ("zeros", "zeros_like", "new_zeros"):
        return True
    return name in ("full", "full_like", "new_full") and is_constant_number(
        argument(node, 2 if name == "new_full" else 1, "fill_value"), 0
    )


def gives_zero(node: fx.Node, zeros: set[fx.Node]) -> bool:
    """Whether the result is zero if these operands are."""
    name = op_name(node)
    if name in _PRODUCTS:
        return any(n in zeros for n in node.args[:2] if isinstance(n, fx.Node)) or (
            name == "mul" and is_constant_number(node.args[1], 0)
        )
    if name in ("linear", *_CONVOLUTIONS):
        bias = argument(node, 2, "bias")
        return any(n in zeros for n in node.args[:2]) and (bias is None or bias in zeros)
    if name in ("add", "sub"):
        return all(n in zeros or is_constant_number(n, 0) for n in node.args[:2])
    if name == "constant_pad_nd":
        value = argument(node, 2, "value", 0)
        return node.args[0] in zeros and is_constant_number(value, 0)
    return (name in _KEEP_ZERO or name == "div") and node.args[0] in zeros


def absorbed(node: fx.Node, zeros: set[fx.Node]) -> fx.Node | None:
    """The other operand of a sum with zero."""
    if op_name(node) not in ("add", "sub") or argument(node, 2, "alpha", 1) != 1:
        return None
    left, right = node.args[:2]
    if right in zeros and isinstance(left, fx.Node) and left not in zeros:
        return left
    if left in zeros and isinstance(right, fx.Node) and right not in zeros:
        return right
    return None


def contraction(node: fx.Node) -> tuple[int, int] | None:
    """The dimensions of the first operand and of the weight that a product sums over."""
    name = op_name(node)
    if name in ("matmul", "mm"):
        left, right = (len(shape_of(n)) for n in node.args[:2])
        return (left - 1, right - 2) if left >= 2 and right >= 2 else None
    if name == "linear":
        return len(shape_of(node.args[0])) - 1, len(shape_of(node.args[1])) - 1
    if name in _CONVOLUTIONS:
        transposed = "transpose" in name
        groups = argument(node, 6, "groups", 1)
        batched = len(shape_of(node.args[0])) == len(shape_of(node.args[1]))
        return (1, 0 if transposed else 1) if groups == 1 and batched else None
    return None


class ZeroConstants:
    """Which constants are all zero; each is looked at once."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known: dict[str, bool] = {}

    def __call__(self, name: str) -> bool:
        if name not in self._known:
            tensor = self._program.constants[name]
            # One number that is not zero is enough; most weights have it at their start.
            first = tensor.numel() > 0 and not bool(tensor[(0,) * tensor.ndim])
            self._known[name] = first and not bool(tensor.any())
        return self._known[name]
