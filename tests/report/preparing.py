"""Prepared pipelines to describe and to draw."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import torch

from partitioner.frontend import prepare
from partitioner.planning.overrides import Overrides
from partitioner.planning.plan import make_plan
from partitioner.prepared import Prepared
from tests.planning.sketch import TWO, Judge, Sketch, aten

__all__ = ["LINE", "large", "small"]

#: Ends of the source line of the op that falls back.
LINE = "preparing.py:26 in driver"


def driver(x: torch.Tensor) -> dict[str, torch.Tensor]:
    y = encoder(x)
    for t in torch.linspace(1, 0, 6):
        y = y - torch.sin(denoiser(y)) * t
    return {"y": decoder(y)}


torch.manual_seed(0)
encoder = torch.nn.Linear(3, 256)
# So large that it is worth bringing it to an accelerator.
denoiser = torch.nn.Sequential(
    torch.nn.Linear(256, 4096), torch.nn.GELU(), torch.nn.Linear(4096, 256)
)
decoder = torch.nn.Linear(256, 2)


def small(target: str = "inf2") -> Prepared:
    """A loop of six trips in which the sine is not where the rest is."""
    overrides = Overrides({}, {"sin": "onnx"})
    return prepare(driver, {"x": torch.ones(1, 3)}, target=target, overrides=overrides)


def large(nodes: int) -> Prepared:
    """One segment of that many nodes, each of which reads up to two of the last twenty."""
    rng, sketch = random.Random(0), Sketch()
    values: list[Any] = [sketch.input("x")]
    for _ in range(nodes - 1):
        recent = values[-20:]
        if rng.random() < 0.5:
            values.append(sketch.op(aten.add.Tensor, rng.choice(recent), rng.choice(recent)))
        else:
            values.append(sketch.sin(recent[-1]))
    total = values[-1]
    for value in [v for v in values if not v.users and v is not total]:
        total = sketch.add(total, value)
    program = sketch.done(y=total)
    planned = make_plan(program, TWO, {"first": Judge(), "second": Judge()})
    base = small("cpu")
    merged = dataclasses.replace(base.merged, program=program)
    return dataclasses.replace(base, target=TWO, planned=planned, merged=merged)
