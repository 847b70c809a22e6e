"""Small bundles that are served: of steps that take as long as told, of pictures and meshes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from partitioner.hostops import host_op
from partitioner.plan import Call, Carry, Draw, DrawGroup, Loop
from partitioner.specs import Image, InputSpec
from tests.bundles import Maker, node, spec

__all__ = ["PAUSES", "STEPS", "make_shapes", "make_steps", "pause"]

Array = np.ndarray[Any, Any]
STEPS = 5

#: Seconds of each pause that was made in this process.
PAUSES: list[float] = []


@host_op(name="tests.pause", outputs={"same": ("float32", (1, 4))})
def pause(x: Array, seconds: Array) -> Array:
    """What it is given, after up to a second; at once where more is said."""
    PAUSES.append(float(seconds[0]))
    if 0 <= seconds[0] <= 1:
        time.sleep(float(seconds[0]))
    return x


def make_steps(path: Path) -> Path:
    """x doubled in each of five steps, plus normal noise; each step takes ``seconds``."""
    maker = Maker(path)
    maker.host(
        "pause",
        "tests.pause",
        {"x": "float32[1, 4]", "seconds": "float32[1]"},
        {"same": "float32[1, 4]"},
    )
    for name, first, second in (("double", "h", "h"), ("add", "h", "n")):
        maker.onnx(
            name,
            dict.fromkeys(dict.fromkeys((first, second)), "float32[1, 4]"),
            {"y": "float32[1, 4]"},
            [node("Add", [first, second], ["y"])],
        )
    maker.value(noise="float32[1, 4]")
    body = (Call("pause", ("h", "seconds"), ("paused",)), Call("double", ("paused",), ("next",)))
    return maker.write(
        inputs=[InputSpec("x", spec("float32[1, 4]")), InputSpec("seconds", spec("float32[1]"))],
        draws=[DrawGroup(1, (Draw("noise", "normal", (0.0, 1.0), row=False),))],
        steps=[
            Loop("sampler", STEPS, (Carry("x", "h", "next", "last"),), (), (), body),
            Call("add", ("last", "noise"), ("y",)),
        ],
        outputs={"y": "y", "noise": "noise"},
    )


def make_shapes(path: Path) -> Path:
    """A picture of 4 x 4 and its halved values; a mesh of what is given."""
    maker = Maker(path)
    maker.onnx(
        "shade",
        {"image": "float32[1, 3, 4, 4]"},
        {"picture": "float32[1, 3, 4, 4]"},
        [node("Add", ["image", "image"], ["two"]), node("Sub", ["two", "image"], ["picture"])],
    )
    maker.onnx(
        "surface",
        {"corners": "float32[4, 3]", "sides": "int64[2, 3]"},
        {"vertices": "float32[4, 3]", "faces": "int64[2, 3]"},
        [node("Add", ["corners", "corners"], ["vertices"]), node("Abs", ["sides"], ["faces"])],
    )
    image = Image((4, 4), mean=(0.0,) * 3, std=(1.0,) * 3)
    return maker.write(
        inputs=[
            InputSpec("image", spec("float32[1, 3, 4, 4]"), image),
            InputSpec("corners", spec("float32[4, 3]")),
            InputSpec("sides", spec("int64[2, 3]")),
        ],
        steps=[
            Call("shade", ("image",), ("picture",)),
            Call("surface", ("corners", "sides"), ("vertices", "faces")),
        ],
        outputs={"picture": "picture", "vertices": "vertices", "faces": "faces"},
    )
