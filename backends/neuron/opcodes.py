"""What is known of HLO's opcodes: ``opcodes.json``, whose rows rest on the table's evidence."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from partitioner.backends.neuron.support import table
from partitioner.backends.support_table import Refusal, Row, read_rows

__all__ = ["opcode_rows", "refused_dtype"]

#: Dtypes of HLO that no op of a segment has, but that lowering may go through: EVRF022 names it.
_BELOW = ("uint32",)


@functools.cache
def opcode_rows() -> dict[str, Row]:
    """By opcode, read once.

    Raises:
        BackendError: the file is malformed, or a row rests on what the table does not list.
    """
    path = Path(__file__).with_name("opcodes.json")
    return read_rows(json.loads(path.read_text(encoding="utf-8"))["rows"], table().evidence, path)


def refused_dtype(dtype: str) -> Refusal | None:
    """Why Neuron does not compute in a dtype; None if it does."""
    if dtype in table().dtypes or dtype in _BELOW:
        return None
    message = f"{table().label} does not compute in {dtype}"
    general = Refusal(message, "dtype", "cast to float32", "ESPP004")
    return table().refused_dtypes.get(dtype, general)
