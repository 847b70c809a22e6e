"""A bundle of segments with weights of their own, one after another, some of them in a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from partitioner.plan import Call, Carry, Loop
from partitioner.specs import InputSpec
from tests.bundles import Maker, node, spec

Array = np.ndarray[Any, Any]

WIDTH = 64
#: Bytes of the weights of one segment.
WEIGHT = 4 * WIDTH * WIDTH
SHAPE = f"float32[2, {WIDTH}]"
NAMES = ("first", "left", "right", "last")
TRIPS = 3


def matrix(name: str) -> Array:
    generator = np.random.default_rng(NAMES.index(name))
    return (generator.standard_normal((WIDTH, WIDTH)) / 8).astype(np.float32)


def make_stack(path: Path) -> Path:
    """first; left and right, three times; last. All multiply by a matrix of their own."""
    maker = Maker(path)
    for name in NAMES:
        product = [node("MatMul", ["x", "w"], ["y"])]
        maker.onnx(name, {"x": SHAPE}, {"y": SHAPE}, product, weights={"w": matrix(name)})
    loop = Loop(
        "middle",
        TRIPS,
        (Carry("a", "b", "d", "e"),),
        (),
        (),
        (Call("left", ("b",), ("c",)), Call("right", ("c",), ("d",))),
    )
    steps = [Call("first", ("x",), ("a",)), loop, Call("last", ("e",), ("y",))]
    return maker.write([InputSpec("x", spec(SHAPE))], steps, {"y": "y"})


def expected(x: Array) -> Array:
    x = x @ matrix("first")
    for _ in range(TRIPS):
        x = x @ matrix("left") @ matrix("right")
    return x @ matrix("last")


def given(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((2, WIDTH)).astype(np.float32)
