"""Instructions of XLA's HLO, as the checks look at them, whichever text or library they came from.

Opcodes are HLO's own (``broadcast``, ``dot``, ``reduce-window``); dtypes have NumPy's names, as in
the backend's table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

__all__ = ["ALIASES", "HLO_DTYPES", "Array", "Instruction"]

#: HLO's names of dtypes.
HLO_DTYPES: Mapping[str, str] = {
    "pred": "bool",
    "s4": "int4",
    "s8": "int8",
    "s16": "int16",
    "s32": "int32",
    "s64": "int64",
    "u4": "uint4",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "c64": "complex64",
    "c128": "complex128",
    "f8e4m3": "float8_e4m3",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e4m3b11fnuz": "float8_e4m3b11fnuz",
    "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz",
}

#: Ops of StableHLO, CHLO and MLIR whose opcode in HLO has another name than theirs.
ALIASES: Mapping[str, str] = {
    "broadcast-in-dim": "broadcast",
    "dot-general": "dot",
    "dynamic-broadcast-in-dim": "broadcast",
    "dynamic-conv": "convolution",
    "dynamic-gather": "gather",
    "dynamic-iota": "iota",
    "dynamic-pad": "pad",
    "dynamic-reshape": "reshape",
    "real-dynamic-slice": "slice",
}


@dataclass(frozen=True, slots=True)
class Array:
    """A type: dtype by NumPy's name; a dimension that is not known is None."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def numel(self) -> int:
        """How many elements; a dimension that is not known counts as one."""
        return math.prod(1 if n is None else n for n in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        opcode: HLO's.
        operands, results: types.
        attributes: of those the checks read, by StableHLO's names, whatever the source:
            ``window_strides``, ``lhs_dilation``, ``rhs_dilation``, ``base_dilations``,
            ``window_dilations`` (tuples of numbers), ``output_features`` and ``contracted``
            (numbers), ``computations`` (opcodes of an inner computation), ``target`` (of a custom
            call), ``algorithm`` (of random bits), ``integers`` (least and greatest of a constant),
            ``constant_indices`` (whether a slice's place is constant), ``indexed`` and
            ``collapsed`` (dimensions, of a gather).
        place: what the reader knows of where it comes from: the number of a node, or a text.
        constant: whether nothing but constants goes into it, so that compilers compute it
            beforehand.
    """

    opcode: str
    operands: tuple[Array, ...]
    results: tuple[Array, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    place: int | str | None = None
    constant: bool = False

    def numbers(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list of numbers; empty where there is none."""
        return cast("tuple[int, ...]", self.attributes.get(name, ()))

    @property
    def types(self) -> str:
        """Of operands and results, for people."""
        reads, gives = (", ".join(map(str, arrays)) for arrays in (self.operands, self.results))
        return f"({reads}) -> {gives}"
