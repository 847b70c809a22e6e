"""The tape: what the driver did to values that stem from the pipeline's inputs, in order.

An entry is one op; its operands are results of earlier entries (:class:`Value`), tensors whose
content is known (:class:`Constant`) or Python numbers (:class:`Number`). Everything else about an
op, its target, its other arguments, the structure they come in, is its ``key``: two entries with
equal keys do the same to their operands.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from partitioner.program import TensorType

__all__ = ["Constant", "DrawSpec", "Entry", "Kind", "Number", "Operand", "Slot", "Tape", "Value"]

Kind = Literal["input", "draw", "aten", "stage", "host"]


@dataclass(frozen=True)
class Value:
    """Result ``item`` of tape entry ``entry``."""

    entry: int
    item: int = 0


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor with known content, never written to after it was put on the tape.

    ``name`` is the parameter or buffer it is, where it is one.
    """

    tensor: torch.Tensor
    name: str | None = None


@dataclass(frozen=True)
class Number:
    """A Python number that may differ from step to step, and the dtype it takes part with."""

    value: float | int | bool
    dtype: torch.dtype


Operand = Value | Constant | Number


@dataclass(frozen=True)
class Slot:
    """Stands for operand ``index`` in an entry's argument template."""

    index: int


@dataclass(frozen=True)
class DrawSpec:
    """Random numbers: distribution, its two parameters, and the generator they come from."""

    distribution: Literal["normal", "uniform", "integers"]
    args: tuple[float, float]
    stream: int = 0


@dataclass(frozen=True)
class Entry:
    """One op.

    Attributes:
        kind: what ``target`` is: an input's name, a :class:`DrawSpec`, an aten overload, the name
            of a captured stage's graph, or a host op's name.
        args, kwargs: the argument template (aten only): :class:`Slot` where an operand goes.
        operands: in the order of their slots.
        types: of the results.
        tuple_result: the op gives a tuple, even if of one.
        key: equal for ops that do the same.
        source: user's source line.
        stage: path of the stage the op stands in, where it is known.
    """

    kind: Kind
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    operands: tuple[Operand, ...]
    types: tuple[TensorType | None, ...]
    tuple_result: bool
    key: Hashable
    source: str
    stage: str = ""


@dataclass
class Tape:
    """All entries of one run of the driver."""

    entries: list[Entry] = field(default_factory=list[Entry])

    def append(self, entry: Entry) -> int:
        self.entries.append(entry)
        return len(self.entries) - 1
