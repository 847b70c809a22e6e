"""Numbers for people: sizes, counts, and the table of what passes did."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from partitioner.report.numbers import count_text, size_text

__all__ = ["aligned", "count_text", "passes_table", "size_text", "wide_table"]

#: Column -> the fields of a pass's record, less ``_before`` and ``_after``.
_COLUMNS = {
    "nodes": "nodes",
    "constants": "constants",
    "constant bytes": "bytes",
    "operations": "operations",
    "weights a step": "step_weight_bytes",
}

_SIZES = ("constant bytes", "weights a step")


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells, in columns; each as long as its longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()


def wide_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells whose first row is the header: ruled on a terminal, plain elsewhere."""
    if not sys.stdout.isatty():
        yield from aligned(rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, table = Console(), Table()
    for column in rows[0]:
        table.add_column(Text(column), overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(table)
    yield captured.get().rstrip("\n")


def passes_table(records: Any) -> Iterator[str]:
    """What passes did, from their records: a number that did not change is shown once.

    A bundle's report is free-form, so records may lack columns, or be none at all.
    """
    rows = [row for row in records if isinstance(row, dict)] if isinstance(records, list) else []
    if not rows:
        return
    header = ["pass", *_COLUMNS, "seconds"]
    cells = [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    yield _line(header, widths)
    for row, line in zip(rows, cells, strict=True):
        yield _line(line, widths)
        notes = row.get("notes")
        yield from (f"    {text}" for text in (notes if isinstance(notes, list | tuple) else ()))


def _cells(row: Mapping[str, Any]) -> list[str]:
    cells = [str(row.get("name", ""))]
    for column, field in _COLUMNS.items():
        before, after = row.get(f"{field}_before"), row.get(f"{field}_after")
        cells.append(_change(before, after, size_text if column in _SIZES else count_text))
    seconds = row.get("seconds")
    return [*cells, f"{seconds:.2f}" if isinstance(seconds, float) else ""]


def _change(before: Any, after: Any, text: Any) -> str:
    if not isinstance(before, int) or not isinstance(after, int):
        return ""
    old, new = text(before), text(after)
    return new if old == new else f"{old} -> {new}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        f"{cell:<{width}}" if index == 0 else f"{cell:>{width}}"
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()
