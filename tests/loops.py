"""Buckets of a small pipeline with a loop, for tests of what serves requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from partitioner.artifacts.manifest import Batch
from partitioner.hostops import host_op
from partitioner.plan import Call, Carry, Draw, DrawGroup, Loop, Slice
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.sized import SizedBucket
from partitioner.specs import InputSpec
from tests.bundles import Maker, node, spec

__all__ = ["TRIPS", "buckets_of", "finite", "make_loop_bucket"]

Array = np.ndarray[Any, Any]

TRIPS = 4
WIDTH = 3


@host_op(name="tests.finite", outputs={"kept": ("float32", (None,))})
def finite(rows: Array, *, row: int) -> Array:
    """One row by itself; all of them fail with a row that is not finite."""
    if not np.isfinite(rows).all():
        raise ValueError("a row is not finite")
    return rows[row]


def buckets_of(loaders: Mapping[int, Callable[[], Pipeline]]) -> list[SizedBucket]:
    """Buckets of one size each, by what loads them."""
    return [SizedBucket(load, (rows,)) for rows, load in loaders.items()]


def make_loop_bucket(path: Path, rows: int, *, steps: bool = False) -> Path:
    """``x`` times ``scale`` before the loop; in each trip ``x = x * factor[trip] + noise[trip]``.

    Outputs: ``y`` (rows, 3), and the same as a list, ``kept``. ``factor`` has a row for each
    request, all alike.

    Args:
        steps: whether requests may share steps.
    """
    shape = f"float32[{rows}, {WIDTH}]"
    maker = Maker(path)
    maker.onnx(
        "before",
        {"x": shape, "scale": "float32[]"},
        {"z": shape},
        [node("Mul", ["x", "scale"], ["z"])],
    )
    maker.onnx(
        "body",
        {"state": shape, "factor": f"float32[{rows}, 1]", "noise": shape, "z": shape},
        {"next": shape},
        [
            node("Mul", ["state", "factor"], ["a"]),
            node("Add", ["a", "noise"], ["b"]),
            node("Add", ["b", "z"], ["next"]),
        ],
    )
    for row in range(rows):
        maker.host(f"keep{row}", finite.name, {"y": shape}, {"kept": "float32[?]"}, row=row)
    factors = np.linspace(0.5, 0.8, TRIPS, dtype=np.float32)
    maker.constant("factors", factors.reshape(TRIPS, 1, 1).repeat(rows, 1))
    maker.value(noises=f"float32[{TRIPS}, {rows}, {WIDTH}]")
    loop = Loop(
        "loop",
        TRIPS,
        (Carry("z", "state", "next", "y"),),
        (Slice("factors", "factor"), Slice("noises", "noise")),
        (),
        (Call("body", ("state", "factor", "noise", "z"), ("next",)),),
    )
    return maker.write(
        [InputSpec("x", spec(shape)), InputSpec("scale", spec("float32[]"))],
        [
            Call("before", ("x", "scale"), ("z",)),
            loop,
            *(Call(f"keep{row}", ("y",), (f"kept{row}",)) for row in range(rows)),
        ],
        {"y": "y"} | {f"kept.{row}": f"kept{row}" for row in range(rows)},
        [DrawGroup(TRIPS, (Draw("noises", "normal", (0.0, 1.0), row=True),))],
        Batch(rows, ("x",), ("y",), ("kept",)),
        {"step_batching": True} if steps else None,
    )
