"""What ordinary pipelines do outside of loops, captured and compared with the eager run."""

from __future__ import annotations

import dataclasses
import functools
from collections import namedtuple
from typing import Any

import numpy as np
import torch
from torch import nn

import partitioner
from partitioner.capture import capture
from partitioner.specs import Noise
from tests.capture import models
from tests.capture.models import CONDITION, Looping, trips
from tests.capture.running import both, largest_error


def test_writes_in_place_reach_every_view() -> None:
    def pipeline(x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = x.clone()
        row = y[1]
        y.mul_(2)
        y[:, 0] = x[:, 1]
        row += 1
        buffer = torch.zeros(2, 3)
        buffer[0] = x[0, :3]
        column = buffer[:, 1]
        column.add_(5)
        total = torch.empty(2, 4)
        torch.add(x, y, out=total)
        return {"y": y, "row": row, "buffer": buffer, "total": total, "data": y.data.t()}

    _, expected, actual = both(pipeline, {"x": torch.ones(2, 4)})
    assert 0.0 == largest_error(expected, actual)


def test_dicts_lists_and_dataclasses_in_and_out() -> None:
    @dataclasses.dataclass
    class Both:
        left: torch.Tensor
        right: Any

    Pair = namedtuple("Pair", "a b")

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, *, extra: dict[str, Any]) -> Both:
            return Both(self.linear(x) + extra["bias"][0], {"twice": x * 2})

    stage = Stage()

    def pipeline(given: Any, unused: torch.Tensor) -> Any:
        out = stage(given["x"], extra={"bias": [given["biases"][0]], "label": "a"})
        return {"both": Pair(out.left, out.right["twice"]), "none": None}

    example = {
        "given": {"x": torch.ones(2, 4), "biases": [torch.ones(4)]},
        "unused": torch.ones(3),
    }
    captured, expected, actual = both(pipeline, example)
    assert ["both.a", "both.b"] == list(actual)
    assert [("given.x", True), ("given.biases.0", True), ("unused", False)] == [
        (spec.name, spec.used) for spec in captured.program.inputs
    ]
    assert 0.0 == largest_error(expected, actual)


def test_each_generator_is_a_stream() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        own = torch.Generator().manual_seed(1)
        return x + torch.randn(3) + torch.randn(3, generator=own)

    captured = capture(pipeline, {"x": torch.ones(3)})
    assert [0, 1] == [s.draws[0].stream for s in captured.program.draws]


def test_every_node_has_a_source_line() -> None:
    captured = capture(Looping(lambda p, x, t, c, i: x + p.net(x, t, c)), CONDITION)
    users = (__file__, models.__file__)
    for _, graph in captured.program.all_graphs():
        for node in graph.nodes:
            if node.op == "call_function" and node.meta["source"] != "":
                source = node.meta["source"]
                assert any(f"{file}:" in source for file in users), node.format_node()
    net = captured.program.graphs["net"]
    assert all(n.meta["source"] for n in net.nodes if n.op == "call_function")
    assert {"net", "net.body", "net.time"} == {
        n.meta["stage"] for n in net.nodes if n.op != "output"
    }


def test_a_host_op_is_one_node() -> None:
    @partitioner.host_op(outputs={"rows": ("float32", (None, 2))})
    def keep(x: np.ndarray, *, above: float = 0.0) -> dict[str, np.ndarray]:
        return {"rows": x[x[:, 0] > above]}

    linear = nn.Linear(2, 2)

    def pipeline(x: torch.Tensor) -> Any:
        return keep(linear(x), above=0.1)

    captured, expected, actual = both(pipeline, {"x": torch.randn(9, 2)})
    assert [keep.name] == list(captured.program.host_ops)
    assert 0.0 == largest_error(expected, actual)


def test_a_partial_and_a_bound_method_are_pipelines() -> None:
    model = Looping(lambda p, x, t, c, i: x + p.net(x, t, c))
    assert [4] == trips(capture(functools.partial(model.forward, steps=4), CONDITION))


def test_training_mode_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    model.train()
    captured = capture(model, {"input": torch.ones(1, 4)})
    assert model[1].training
    assert "training mode" in captured.warnings[0]


def test_a_noise_input_is_declared() -> None:
    captured = capture(
        nn.Sequential(nn.Linear(4, 4)), {"input": torch.ones(1, 4)}, inputs={"input": Noise()}
    )
    assert Noise() == captured.program.inputs[0].how
