"""Whole bundles written by hand: a sampler with a host op and a loop, and one op."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from partitioner.hostops import host_op
from partitioner.plan import Call, Carry, Draw, DrawGroup, Loop, Slice, Stacked
from partitioner.specs import InputSpec, Noise
from tests.bundles import Maker, node, spec

__all__ = [
    "ENCODE",
    "IMAGE",
    "RNG",
    "STEPS",
    "TIMES",
    "WEIGHT",
    "Array",
    "count_positive",
    "expected_sampler",
    "make_identity",
    "make_sampler",
]

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((8, 8)) / 4).astype(np.float32)
ENCODE = RNG.standard_normal((8, 8)).astype(np.float32)
TIMES = np.linspace(1, 0, 5, dtype=np.float32)[:, np.newaxis]
STEPS = 5


@host_op(name="tests.count_positive", outputs={"rows": ("float32", (None, 8))})
def count_positive(latent: Array, *, above: float) -> Array:
    """The rows whose first number is large enough: as many as the data say."""
    return latent[latent[:, 0] > above]


def make_sampler(path: Path) -> Path:
    """image and noise in; five denoising steps; the latent, its history and some rows out."""
    maker = Maker(path)
    maker.onnx(
        "encode",
        {"image": "float32[1, 8]"},
        {"cond": "float32[1, 8]"},
        [node("MatMul", ["image", "w"], ["cond"])],
        weights={"w": ENCODE},
    )
    maker.onnx(
        "mix",
        {"x": "float32[4, 8]", "cond": "float32[1, 8]", "t": "float32[1]"},
        {"h": "float32[4, 8]"},
        [node("Add", ["x", "cond"], ["a"]), node("Mul", ["a", "t"], ["h"])],
    )
    maker.onnx(
        "denoise",
        {"h": "float32[4, 8]", "x": "float32[4, 8]", "jitter": "float32[4, 8]"},
        {"next": "float32[4, 8]"},
        [
            node("MatMul", ["h", "w"], ["m"]),
            node("Tanh", ["m"], ["d"]),
            node("Sub", ["x", "d"], ["s"]),
            node("Add", ["s", "jitter"], ["next"]),
        ],
        weights={"w": WEIGHT},
    )
    maker.host(
        "rows",
        "tests.count_positive",
        {"latent": "float32[4, 8]"},
        {"rows": "float32[?, 8]"},
        above=0.0,
    )
    maker.constant("times", TIMES)
    maker.value(jitters="float32[5, 4, 8]")
    body = (
        Call("mix", ("x", "cond", "t"), ("h",)),
        Call("denoise", ("h", "x", "jitter"), ("next",)),
    )
    return maker.write(
        inputs=[
            InputSpec("image", spec("float32[1, 8]")),
            InputSpec("noise", spec("float32[4, 8]"), Noise(scale=2.0)),
            InputSpec("prompt", spec("int64[77]"), used=False),
        ],
        draws=[DrawGroup(STEPS, (Draw("jitters", "normal", (0.0, 0.1), row=True),))],
        steps=[
            Call("encode", ("image",), ("cond",)),
            Loop(
                "sampler",
                STEPS,
                (Carry("noise", "x", "next", "latent"),),
                (Slice("times", "t"), Slice("jitters", "jitter")),
                (Stacked("next", "history"),),
                body,
            ),
            Call("rows", ("latent",), ("rows_out",)),
        ],
        outputs={"latent": "latent", "history": "history", "rows": "rows_out", "image": "image"},
    )


def expected_sampler(image: Array, noise: Array, jitters: Array) -> dict[str, Array]:
    cond, x, history = image @ ENCODE, noise, list[Array]()
    for time, jitter in zip(TIMES, jitters, strict=True):
        x = x - np.tanh(((x + cond) * time) @ WEIGHT) + jitter
        history.append(x)
    return {"latent": x, "history": np.stack(history), "rows": x[x[:, 0] > 0], "image": image}


IMAGE = RNG.standard_normal((1, 8)).astype(np.float32)


def make_identity(path: Path, **changes: Any) -> Path:
    maker = Maker(path)
    maker.onnx(
        "copy",
        {"a": "float32[2]"},
        {"b": "float32[2]"},
        [node("Identity", ["a"], ["b"])],
        **changes,
    )
    return maker.write(
        [InputSpec("x", spec("float32[2]"))], [Call("copy", ("x",), ("y",))], {"y": "y"}
    )
