"""How many instructions neuronx-cc may make of HLO, one a tile.

The same estimate as planning's (:func:`partitioner.planning.cost.instructions`), of what a segment
has been lowered to instead of its ops: what a norm or an attention is made of counts each by
itself. It is held against a limit that is known from reports of users only.
"""

from __future__ import annotations

from collections.abc import Iterable

from partitioner.backends.neuron.instructions import Instruction
from partitioner.planning.cost import MOVING, PARTITIONS

__all__ = ["instructions_of"]

#: What moves no data, or is there beforehand.
_FREE = frozenset(
    ("bitcast-convert", "constant", "get-tuple-element", "parameter", "reshape", "tuple")
)

#: As much is moved as is written, however large the operand is.
_BY_RESULT = frozenset(("broadcast", "dynamic-slice", "gather", "iota", "slice"))


def instructions_of(program: Iterable[Instruction]) -> int:
    """The estimate for a whole program."""
    return sum(_tiles(one) for one in program if not one.constant and one.opcode not in _FREE)


def _tiles(one: Instruction) -> int:
    if one.opcode == "dot":
        return _dot(one)
    if one.opcode == "convolution":
        return _convolution(one)
    arrays = one.results if one.opcode in _BY_RESULT else (*one.operands, *one.results)
    numel = max((array.numel for array in arrays), default=1)
    return max(1, _up(numel, PARTITIONS * MOVING))


def _dot(one: Instruction) -> int:
    contracted = max(1, one.attributes.get("contracted", 1))
    batch = max(1, one.attributes.get("batch", 1))
    rows, columns = (max(1, array.numel // (contracted * batch)) for array in one.operands[:2])
    return batch * _product(rows, contracted, columns)


def _convolution(one: Instruction) -> int:
    features = max(1, one.attributes.get("output_features") or 1)
    contracted = max(1, one.operands[1].numel // features)
    return _product(max(1, one.results[0].numel // features), contracted, features)


def _product(rows: int, contracted: int, columns: int) -> int:
    return _up(rows, MOVING) * _up(contracted, PARTITIONS) * _up(columns, PARTITIONS)


def _up(number: int, by: int) -> int:
    return max(1, -(-number // by))
