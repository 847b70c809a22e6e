"""One program for a range of batch sizes: what two numbers of rows have in common.

The pipeline is captured twice, with the most rows of the range and with one more, and both programs
go through the same passes. Then they are walked in step: they must be the same but for sizes, and
by how much a size differs is what it grows with each row. Sizes in the first become
:class:`partitioner.rowcounts.RowCount`. Two points make a line of anything; that the sizes are
right in between is proved by the exporters, which make every segment's graph with a symbol for the
rows, and by parity, at three numbers of rows.

Constants with rows in them (half of a guidance batch, tables that have a row for each request) are
held out of the segments; with fewer rows, the first of them are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, cast

import torch
from torch import fx

from partitioner.errors import CaptureError
from partitioner.passes.base import Pass
from partitioner.program import STRUCTURAL, Program, TensorType, is_getitem
from partitioner.rowcounts import RowCount, RowRange
from partitioner.variants import Merged, Variation

__all__ = ["for_rows", "with_row_counts"]

#: Units in the last place of the largest number by which a constant may be off.
_ROUNDINGS = 64

_ADVICE = (
    "build a bucket for each size instead: --batch 1,4; or write the line so that it does the same "
    "for any number of rows"
)


def for_rows(passes: Sequence[Pass], rows: int) -> tuple[Pass, ...]:
    """Passes for another number of rows, where they name one."""
    return tuple(
        cast("Pass", replace(cast("Any", one), rows=rows)) if hasattr(one, "rows") else one
        for one in passes
    )


def with_row_counts(merged: Merged, other: Merged, span: RowRange) -> Merged:
    """The program of the most rows, whose sizes know how they grow.

    Args:
        merged: after all passes, with ``span.most`` rows.
        other: the same with one row more.

    Raises:
        CaptureError: they are not the same program but for sizes; says where they part.
    """
    program = merged.program.copy()
    pairs = _Pairs(program, other.program, span)
    pairs.run()
    held = set(program.held)
    for name, (theirs, source) in pairs.constants.items():
        columns = zip(merged.variations, other.variations, strict=True)
        found = [_own(program, name, one, other.program, theirs, two) for one, two in columns]
        if any(_grows(ours, more, span, source) for ours, more in found):
            held.add(name)
    return Merged(replace(program, held=frozenset(held)), merged.variations)


def _own(
    program: Program, name: str, one: Variation, other: Program, theirs: str, two: Variation
) -> tuple[torch.Tensor, torch.Tensor]:
    """A constant of a variant, in both."""
    return (
        one.constants.get(name, program.constants[name]),
        two.constants.get(theirs, other.constants[theirs]),
    )


def _grows(ours: torch.Tensor, theirs: torch.Tensor, span: RowRange, source: str) -> bool:
    """Whether a constant has rows; it must be the same with one more, but for what comes last.

    Raises:
        CaptureError: it is another for each number of rows.
    """
    first = theirs
    for dim, size in enumerate(ours.shape):
        first = first.narrow(dim, 0, size) if size <= first.shape[dim] else first
    shared = first.data_ptr() == ours.data_ptr() and first.stride() == ours.stride()
    if first.shape != ours.shape or not (shared or _are_close(first, ours)):
        raise CaptureError(
            f"a constant {list(ours.shape)} has other numbers for {span.most + 1} requests than "
            f"for {span.most}, so no graph serves {span}",
            where=source or None,
            advice=_ADVICE,
        )
    return ours.shape != theirs.shape


def _are_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether constants are the same up to rounding: larger products sum in another order."""
    if torch.equal(one, other):
        return True
    if not one.dtype.is_floating_point or one.dtype != other.dtype:
        return False
    largest, off = one.abs().max(), (one - other).abs().max()
    return bool(off <= _ROUNDINGS * torch.finfo(one.dtype).eps * largest)


class _Pairs:
    """Walks two programs in step, and writes into the first how its sizes grow."""

    def __init__(self, first: Program, other: Program, span: RowRange) -> None:
        self._first, self._other, self._span = first, other, span
        self._twins: dict[fx.Node, fx.Node] = {}
        #: Constant of the first -> the other's name for it, and the line that reads it.
        self.constants: dict[str, tuple[str, str]] = {}

    def run(self) -> None:
        for what in ("outputs", "draws"):
            ours, theirs = getattr(self._first, what), getattr(self._other, what)
            if ours != theirs:
                self._refuse(f"its {what} are {ours} and {theirs}", "")
        first, other = dict(self._first.all_graphs()), dict(self._other.all_graphs())
        if list(first) != list(other):
            self._refuse(f"the graphs are {list(first)} and {list(other)}", "")
        for name, graph in first.items():
            ours, theirs = list(graph.nodes), list(other[name].nodes)
            for own, twin in zip(ours, theirs, strict=False):
                self._pair(own, twin)
            if len(ours) != len(theirs):
                rest = (ours if len(ours) > len(theirs) else theirs)[min(len(ours), len(theirs))]
                self._refuse(
                    f"they do {len(ours)} and {len(theirs)} operations", rest.meta.get("source", "")
                )

    def _pair(self, own: fx.Node, twin: fx.Node) -> None:
        self._twins[own] = twin
        if own.op != twin.op:
            self._differ(own, twin)
        if own.op == "get_attr":
            names = cast(str, own.target), cast(str, twin.target)
            known = self.constants.setdefault(names[0], (names[1], own.meta.get("source", "")))
            if known[0] != names[1]:
                self._differ(own, twin)
        elif own.op == "call_function" and own.target != twin.target:
            self._differ(own, twin)
        if own.target in STRUCTURAL or is_getitem(own):
            # Trips, indices and options of host ops are no sizes.
            own.args = self._joined(own.args, twin.args, own, twin, sized=False)
        elif own.op == "call_function":
            own.args = self._joined(own.args, twin.args, own, twin)
            own.kwargs = self._joined(dict(own.kwargs), dict(twin.kwargs), own, twin)
        elif own.op == "output":
            self._joined(own.args, twin.args, own, twin)
        if own.op != "output":
            own.meta["type"] = self._type(own.meta["type"], twin.meta["type"], own, twin)

    def _type(self, own: Any, other: Any, *nodes: fx.Node) -> Any:
        if isinstance(own, tuple) and isinstance(other, tuple):
            pairs = zip(cast("Sequence[Any]", own), cast("Sequence[Any]", other), strict=False)
            if len(cast("Sequence[Any]", own)) != len(cast("Sequence[Any]", other)):
                self._differ(*nodes)
            return tuple(self._type(one, two, *nodes) for one, two in pairs)
        if own is None or other is None:
            return own if own is other else self._differ(*nodes)
        own, other = cast(TensorType, own), cast(TensorType, other)
        if own.dtype != other.dtype or len(own.shape) != len(other.shape):
            self._differ(*nodes)
        return TensorType(self._joined(own.shape, other.shape, *nodes), own.dtype)

    def _joined(self, own: Any, other: Any, *nodes: fx.Node, sized: bool = True) -> Any:
        """The first's argument with sizes that grow."""
        if isinstance(own, fx.Node):
            return own if self._twins.get(own) is other else self._differ(*nodes)
        if type(own) is not type(other):
            self._differ(*nodes)
        if isinstance(own, list | tuple):
            items, others = cast("Sequence[Any]", own), cast("Sequence[Any]", other)
            if len(items) != len(others):
                self._differ(*nodes)
            pairs = zip(items, others, strict=True)
            joined = [self._joined(one, two, *nodes, sized=sized) for one, two in pairs]
            return tuple(joined) if isinstance(own, tuple) else joined
        if isinstance(own, dict):
            items, others = cast("Mapping[str, Any]", own), cast("Mapping[str, Any]", other)
            if items.keys() != others.keys():
                self._differ(*nodes)
            return {k: self._joined(items[k], others[k], *nodes, sized=sized) for k in items}
        if own == other:
            return own
        if not sized or type(own) is not int:
            self._differ(*nodes)
        return RowCount(own, other - own, self._span)

    def _differ(self, *nodes: fx.Node) -> NoReturn:
        one, two = (f"{n.target} {n.meta.get('type', '')}".strip() for n in nodes)
        source = next((n.meta["source"] for n in nodes if n.meta.get("source")), "")
        self._refuse(f"{one} stands against {two}", source)

    def _refuse(self, what: str, source: str) -> NoReturn:
        raise CaptureError(
            f"the pipeline is not the same for {self._span.most} and {self._span.most + 1} "
            f"requests but for sizes, so no graph serves {self._span}: {what}",
            where=source or None,
            advice=_ADVICE,
        )
