"""Random ops, told apart by what numbers they draw.

The same table serves capture, where a draw becomes an input of the program, and the eager run
that a bundle is compared with, where draws are replaced by given numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from partitioner.capture.sources import calling_line
from partitioner.capture.tape import DrawSpec
from partitioner.errors import CaptureError

__all__ = ["Draw", "Streams", "classify", "is_random", "memory_order"]

#: From this many normal numbers on torch fills a contiguous tensor in blocks, any other one number
#: by number (``normal_fill`` in ``aten/src/ATen/native/cpu/DistributionTemplates.h``).
_BLOCKS_FROM = 16


@dataclass
class Streams:
    """Numbers the generators of a run: torch's own is 0, each other object the next number.

    Every stream starts from the request's seed, as code that seeds each generator would do.
    """

    known: list[torch.Generator] = field(default_factory=list[torch.Generator])

    def number(self, generator: torch.Generator | None) -> int:
        if generator is None or generator is torch.default_generator:
            return 0
        for index, other in enumerate(self.known):
            if other is generator:
                return index + 1
        self.known.append(generator)
        return len(self.known)


@dataclass(frozen=True)
class Draw:
    """A random op: what it draws, and the tensor it writes to (None: it makes a new one)."""

    spec: DrawSpec
    into: torch.Tensor | None


def is_random(func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call takes numbers from a generator.

    Attention and dropout are tagged as random, but are not where nothing is dropped.
    """
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    given = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
    drops = given.get("dropout_p", given.get("p") if "dropout" in func.name() else None)
    if drops is None:
        return "attention" not in func.name()
    return bool(drops) and given.get("train", True) is not False


def classify(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], streams: Streams
) -> Draw:
    """What a random op draws.

    Raises:
        CaptureError: a distribution that the runtime has no generator for.
    """
    name = func.name().split("::")[1].split(".")[0]
    handler = _HANDLERS.get(name)
    if handler is None:
        raise unsupported(name)
    generator = cast("torch.Generator | None", kwargs.get("generator"))
    values = list(args)
    for index, argument in enumerate(func._schema.arguments[: len(values)]):
        if argument.name == "generator":
            generator = values[index]
    distribution, parameters = handler(func, values, kwargs)
    into = cast("torch.Tensor | None", values[0] if name.endswith("_") else kwargs.get("out"))
    return Draw(DrawSpec(distribution, parameters, streams.number(generator)), into)


def memory_order(spec: DrawSpec, drawn: torch.Tensor, where: str | None) -> tuple[int, ...]:
    """The dimensions of a drawn tensor from the slowest to the fastest: torch draws along memory.

    The numbers are those of a row-major tensor whose dimensions are in this order. ``randn_like``
    and its like keep the layout of their operand, so that it need not be that of the shape.

    Args:
        drawn: the result, or the tensor that is written to; its numbers are not looked at.
        where: file and line of the draw.

    Raises:
        CaptureError: numbers that the runtime cannot give: normal ones that torch draws singly.
    """
    dims = range(drawn.ndim)
    if drawn.is_contiguous():
        return tuple(dims)
    if spec.distribution == "normal" and drawn.numel() >= _BLOCKS_FROM:
        raise CaptureError(
            f"normal numbers are drawn into a tensor whose memory is not in the order of its "
            f"shape (shape {list(drawn.shape)}, strides {list(drawn.stride())}); torch draws them "
            "in another way, which the runtime does not have",
            where=where,
            advice="draw in the order of the shape: torch.randn(x.shape), or "
            "torch.randn_like(x, memory_format=torch.contiguous_format)",
        )
    return tuple(sorted(dims, key=lambda dim: -drawn.stride(dim)))


def unsupported(name: str) -> CaptureError:
    """The error for a random op that cannot become a seeded input."""
    return CaptureError(
        f"the random op {name!r} has no counterpart in the runtime",
        where=calling_line(),
        advice="draw normal or uniform numbers (torch.randn, torch.rand, torch.randint) and "
        "transform them, or draw outside of the pipeline and pass the numbers as an input",
    )


Handler = Callable[
    [torch._ops.OpOverload, list[Any], dict[str, Any]], tuple[Any, tuple[float, float]]
]


def _standard_normal(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return "normal", (0.0, 1.0)


def _standard_uniform(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return "uniform", (0.0, 1.0)


def _normal(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    mean = args[1] if len(args) > 1 else kwargs.get("mean", 0.0)
    std = args[2] if len(args) > 2 else kwargs.get("std", 1.0)
    return "normal", (float(mean), float(std))


def _normal_functional(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func._overloadname != "float_float":
        raise unsupported(str(func))
    return "normal", (float(args[0]), float(args[1]))


def _uniform(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    low = args[1] if len(args) > 1 else kwargs.get("from", 0.0)
    high = args[2] if len(args) > 2 else kwargs.get("to", 1.0)
    return "uniform", (float(low), float(high))


def _integers(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    numbers = [a for a in args if isinstance(a, int)]
    low, high = (0, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
    return "integers", (float(low), float(high))


_HANDLERS: dict[str, Handler] = {
    "randn": _standard_normal,
    "randn_like": _standard_normal,
    "rand": _standard_uniform,
    "rand_like": _standard_uniform,
    "normal_": _normal,
    "normal": _normal_functional,
    "uniform_": _uniform,
    "randint": _integers,
    "randint_like": _integers,
}
