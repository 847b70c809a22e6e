"""A bucket for a range of sizes, made by hand, whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from partitioner.artifacts.manifest import Batch
from partitioner.plan import Call, Carry, Loop, Slice
from partitioner.specs import InputSpec
from tests.bundles import Maker, model, node, spec

__all__ = ["FACTORS", "MOST", "TRIPS", "WIDTH", "expected", "make_range_bundle", "xs"]

Array = np.ndarray[Any, Any]

MOST, TRIPS, WIDTH = 24, 3, 512

#: A number for each trip and row.
FACTORS = np.arange(TRIPS * MOST, dtype=np.float32).reshape(TRIPS, MOST, 1)


def make_range_bundle(path: Path) -> Path:
    """``|x|`` plus, in each trip, twice the row's number in the table; serves 1 to 24 rows."""
    maker = Maker(path)
    _segment(maker, "before", {"x": WIDTH}, {"z": WIDTH}, [node("Abs", ["x"], ["z"])])
    nodes = [node("Mul", ["factor", "scale"], ["a"]), node("Add", ["state", "a"], ["next"])]
    _segment(maker, "body", {"state": WIDTH, "factor": 1, "scale": 0}, {"next": WIDTH}, nodes)
    maker.constant("factors", FACTORS)
    maker.constant("scale", np.array(2, np.float32))
    step = Call("body", ("state", "factor", "scale"), ("next",))
    carries = (Carry("z", "state", "next", "y"),)
    loop = Loop("loop", TRIPS, carries, (Slice("factors", "factor"),), (), (step,))
    rowed = dict.fromkeys(("x", "z", "state", "factor", "next", "y"), (1, 0))
    return maker.write(
        [InputSpec("x", spec(f"float32[{MOST}, {WIDTH}]"))],
        [Call("before", ("x",), ("z",)), loop],
        {"y": "y"},
        batch=Batch(MOST, ("x",), ("y",), (), least=1, growth={**rowed, "factors": (0, 1, 0)}),
    )


def _segment(maker: Maker, name: str, inputs: Any, outputs: Any, nodes: Any) -> None:
    """A segment of values with rows, whose graph takes any number of them."""

    def texts(widths: dict[str, int], rows: Any) -> dict[str, str]:
        return {n: f"float32[{rows}, {w}]" if w else "float32[]" for n, w in widths.items()}

    graph = model(texts(inputs, "rows"), texts(outputs, "rows"), nodes)
    maker.onnx(name, texts(inputs, MOST), texts(outputs, MOST), nodes, change=lambda _: graph)


def xs(rows: int, first: int = 0) -> Array:
    return np.arange(first, first + rows * WIDTH, dtype=np.float32).reshape(rows, WIDTH)


def expected(x: Array) -> Array:
    return np.abs(x) + 2 * FACTORS.sum(0)[: len(x)]
