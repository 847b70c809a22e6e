"""Plans of one pipeline for several targets, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from partitioner.report.numbers import money_text, seconds_text, share_text, size_text

__all__ = ["compare"]

Document = dict[str, Any]


def compare(documents: Sequence[Document]) -> list[list[str]]:
    """Rows of cells: a label, and a cell for each plan. The first row has the targets' names."""
    rows = [["", *(document["target"] for document in documents)]]
    rows += [[label, *map(cell, documents)] for label, cell in _ROWS.items()]
    return rows


def _estimated(cell: Callable[[Document], str]) -> Callable[[Document], str]:
    """A cell of the estimate; a dash on a target without figures."""
    return lambda document: cell(document["estimate"]) if document["estimate"] else "-"


def _backends(document: Document) -> str:
    counts: dict[str, int] = {}
    for segment in document["segments"].values():
        counts[segment["backend"]] = counts.get(segment["backend"], 0) + 1
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _fallen(document: Document) -> str:
    fallen = [f for f in document["fallbacks"] if f["code"] != "cheaper"]
    nodes = sum(sum(f["ops"].values()) for f in fallen)
    share = share_text(sum(f["share"] for f in fallen))
    return f"{nodes} nodes, {share}" if nodes else "none"


def _price(estimate: Document) -> str:
    price = estimate["price"]
    return "not known" if price is None else money_text(price["per_million"], price["currency"])


def _hourly(estimate: Document) -> str:
    price = estimate["price"]
    if price is None:
        return "not known"
    return f"{money_text(price['per_hour'], price['currency'])} ({price['date']})"


def _memory(estimate: Document) -> str:
    return ", ".join(
        f"{device['name']} {size_text(device['memory']['total'])} of "
        f"{size_text(device['memory_bytes'])}{'' if device['fits'] else ' (too much)'}"
        for device in estimate["devices"]
    )


def _transfers(estimate: Document) -> str:
    times = sum(t["times"] for t in estimate["transfers"])
    nbytes = sum(t["times"] * t["nbytes"] for t in estimate["transfers"])
    return f"{times}, {size_text(nbytes)}" if times else "none"


_ROWS: dict[str, Callable[[Document], str]] = {
    "instance": lambda document: document["instance"] or "-",
    "segments": _backends,
    "not on the preferred backend": _fallen,
    "seconds a request": _estimated(lambda e: seconds_text(e["seconds"])),
    "transfers a request": _estimated(_transfers),
    "requests a second": _estimated(lambda e: f"{e['requests_s']:.4g}"),
    "bottleneck": _estimated(lambda e: e["bottleneck"]),
    "memory of a copy": _estimated(_memory),
    "price an hour": _estimated(_hourly),
    "price of a million requests": _estimated(_price),
}
