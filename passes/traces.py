"""What a program computes, value by value, kept small: the evidence by which passes are checked.

A value is known by its graph and its node's name. A graph that runs more than once (a loop's body,
a stage that is called twice) gives a value several times; they are kept in the order of execution.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy.typing as npt
import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode

from partitioner.interpreter import run_program
from partitioner.program import Program, TensorType, call, is_getitem, loop
from partitioner.program import host as host_op
from partitioner.runtime.compare import MAX_VALUES, Gist, gist_of

__all__ = ["Key", "Moment", "Trace", "depends_on_data", "in_order", "record", "rounding_noise"]

#: Graph and node.
Key = tuple[str, str]

#: Sampled values of one trace take about this much memory, whatever the size of the program.
_TRACE_BYTES = 256 * 2**20

#: Even then so many values of a tensor are kept; its norm sees the others.
_MIN_VALUES = 16


@dataclass(frozen=True)
class Moment:
    """One value: its gist, and when it was computed: a running number, and the loop's trip."""

    order: int
    trip: int | None
    gist: Gist


@dataclass
class Trace:
    """All tensors that a run computed.

    Attributes:
        nodes: the node of each value.
        values: what it gave, each time.
        outputs: the program's results by name.
        inexact: outputs whose size only data decide.
        limit: how many values of each tensor are kept.
    """

    nodes: dict[Key, fx.Node] = field(default_factory=dict[Key, fx.Node])
    values: dict[Key, list[Moment]] = field(default_factory=dict[Key, list[Moment]])
    outputs: dict[str, Gist] = field(default_factory=dict[str, Gist])
    inexact: set[str] = field(default_factory=set[str])
    limit: int = MAX_VALUES


def record(
    program: Program,
    inputs: Mapping[str, torch.Tensor],
    *,
    only: set[Key] | None = None,
    limit: int | None = None,
) -> Trace:
    """Run a program and keep the gist of every tensor.

    Args:
        inputs: as :func:`partitioner.interpreter.run_program` takes them.
        only: keep these values and the outputs alone.
        limit: how many values of each tensor to keep; by default what memory allows. Traces that
            are compared must have the same.

    Raises:
        ProgramError: an op fails; has the source line.
    """
    trace = Trace(limit=limit or _values_each(program))
    count = 0

    def watch(graph: str, trip: int | None, node: fx.Node, value: Any) -> None:
        nonlocal count
        key = (graph, node.name)
        if not isinstance(value, torch.Tensor) or (only is not None and key not in only):
            return
        trace.nodes[key] = node
        moment = Moment(count, trip, gist_of(_array(value), trace.limit))
        trace.values.setdefault(key, []).append(moment)
        count += 1

    results = run_program(program, inputs, watch=watch)
    trace.outputs = {name: gist_of(_array(value)) for name, value in results.items()}
    ends = cast("tuple[fx.Node, ...]", program.main.output_node().args[0])
    pairs = zip(program.outputs, ends, strict=True)
    trace.inexact = {name for name, node in pairs if depends_on_data(node)}
    return trace


def depends_on_data(node: fx.Node) -> bool:
    """Whether a value is a host op's: its size, or at least its order, is not torch's to decide."""
    type_ = node.meta["type"]
    if isinstance(type_, TensorType) and None in type_.shape:
        return True
    return is_getitem(node) and cast(fx.Node, node.args[0]).target is host_op


def _array(value: torch.Tensor) -> npt.NDArray[Any]:
    # NumPy knows no bfloat16; float32 holds all of its values.
    tensor = value.float() if value.dtype is torch.bfloat16 else value
    return tensor.resolve_conj().numpy()


def _values_each(program: Program) -> int:
    """How many values of each tensor fit into the memory of a trace."""
    return max(_MIN_VALUES, min(MAX_VALUES, _TRACE_BYTES // (8 * _executions(program))))


def _executions(program: Program) -> int:
    """How many nodes one run executes."""
    counts: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in counts:
            graph = program.main if name == "main" else program.graphs[name]
            counts[name] = sum(1 + inner(node) for node in graph.nodes)
        return counts[name]

    def inner(node: fx.Node) -> int:
        if node.target is loop:
            return cast(int, node.args[2]) * of(cast(str, node.args[0]))
        return of(cast(str, node.args[0])) if node.target is call else 0

    return of("main")


# --- rounding -----------------------------------------------------------------------------------


@contextmanager
def rounding_noise(seed: int) -> Generator[None, None, None]:
    """Perturb what every op gives by up to one unit of rounding.

    Two such runs of one program differ by what rounding alone can do to it, which tells a loop
    that amplifies rounding from a mistake: Monte Carlo arithmetic (Parker, 1997).
    """
    with _Noisy(torch.Generator().manual_seed(seed)):
        yield


class _Noisy(TorchDispatchMode):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._schema.is_mutable:
            return result
        if isinstance(result, tuple | list):
            parts = cast("list[Any]", result)
            return type(parts)(self._perturbed(part) for part in parts)
        return self._perturbed(result)

    def _perturbed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
            return value
        noise = torch.rand(value.shape, generator=self.generator, dtype=torch.float32) * 2 - 1
        return value + value * (noise * torch.finfo(value.dtype).eps).to(value.dtype)


def in_order(trace: Trace) -> Iterator[tuple[Key, int]]:
    """Every value of a trace, as key and how many times before, in the order of execution."""
    moments = (
        (moment.order, key, index)
        for key, values in trace.values.items()
        for index, moment in enumerate(values)
    )
    for _, key, index in sorted(moments):
        yield key, index
