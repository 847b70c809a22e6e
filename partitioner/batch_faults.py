"""Where a pipeline that is written for one request loses the others, and how to say it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import cast

from torch import fx

from partitioner.errors import CaptureError
from partitioner.program import Program, call, is_getitem, operands

__all__ = ["captured_with", "line_of_lost_rows"]


@contextmanager
def captured_with(rows: int) -> Generator[None]:
    """Says of an error that it comes up with so many rows."""
    try:
        yield
    except CaptureError as error:
        raise CaptureError(
            f"with {rows} requests at once, {error.what}",
            where=error.where,
            advice="if it works with one, the code is written for a batch of one: take the size "
            "from an input (x.shape[0]), and expand what is learned for one row; `--batch 1` "
            "serves several requests one by one",
        ) from error


def line_of_lost_rows(one: Program, many: Program, output: str) -> str | None:
    """The source line of the op that gives the same for many requests as for one.

    Its operands differ by their rows and its result does not. None if there is no such op.
    """
    index = many.outputs.index(output) if output in many.outputs else None
    if index is None:
        return None
    results = cast("tuple[fx.Node, ...]", many.main.output_node().args[0])
    return _Search(one, many).line(many.main, one.main, results[index])


class _Search:
    """Goes from a result back to where the rows were lost; nodes are paired by name."""

    def __init__(self, one: Program, many: Program) -> None:
        self._one, self._many = one, many

    def line(self, graph: fx.Graph, alone: fx.Graph, start: fx.Node) -> str | None:
        names = {node.name: node for node in alone.nodes}
        waiting, seen = [start], {start}
        while waiting:
            node = waiting.pop(0)
            if node.target is call:
                inner = self._inside(node)
                if inner:
                    return inner
            before = [n for n in _read(node) if not _is_same(n, names.get(n.name))]
            if before and node.target is not call and not is_getitem(node):
                return node.meta.get("source") or None
            waiting += [n for n in _read(node) if n not in seen]
            seen.update(waiting)
        return None

    def _inside(self, node: fx.Node) -> str | None:
        """In a stage that is called: from its results."""
        name = cast(str, node.args[0])
        if name not in self._one.graphs:
            return None
        graph = self._many.graphs[name]
        for result in cast("tuple[fx.Node, ...]", graph.output_node().args[0]):
            found = self.line(graph, self._one.graphs[name], result)
            if found:
                return found
        return None


def _read(node: fx.Node) -> Iterator[fx.Node] | tuple[fx.Node, ...]:
    return operands(node) if node.target is call else tuple(node.all_input_nodes)


def _is_same(node: fx.Node, other: fx.Node | None) -> bool:
    return other is not None and node.meta["type"] == other.meta["type"]
