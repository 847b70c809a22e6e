"""Which nodes Neuron takes: the documented lists, the documented refusals, and what follows.

There is no complete public list. What a source names is taken; what a source refuses is not; what
is made of the former is taken; anything else is ``unproven``. ``table.json`` has the rows, each
with what it rests on.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch._decomp import decomposition_table

from partitioner.backends.neuron.checks import CHECKS
from partitioner.backends.support_table import Evaluator, SupportTable, read_table

if TYPE_CHECKING:
    from torch import fx

    from partitioner.backends.verdicts import Verdict
    from partitioner.targets import Target

__all__ = ["table", "verdict"]


@functools.cache
def table() -> SupportTable:
    """The rows, read once."""
    return read_table(Path(__file__).with_name("table.json"))


def _decompositions() -> dict[Any, Any]:
    """All that torch has, except of ops that the table knows."""
    found = {**decomposition_table, **torch.export.default_decompositions()}
    return {op: how for op, how in found.items() if table().row_of(str(op)) is None}


@functools.cache
def _evaluator() -> Evaluator:
    return Evaluator(table(), CHECKS, _decompositions)


def verdict(node: fx.Node, target: Target) -> Verdict:
    """Whether neuronx-cc is believed to take a node."""
    return _evaluator().verdict(node, target)
