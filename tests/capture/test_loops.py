"""Loops of ordinary pipelines, found and compared with the eager run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from tests.capture.models import CONDITION, Looping, Net, trips
from tests.capture.running import both, largest_error


def test_a_plain_loop_is_one_loop() -> None:
    pipeline = Looping(lambda p, x, t, c, i: x + 0.1 * p.net(x, t, c))
    captured, expected, actual = both(pipeline, CONDITION)
    assert [6] == trips(captured)
    assert ("net",) == captured.loops[0].stages
    assert 0.0 == largest_error(expected, actual)


def test_numbers_of_the_schedule_become_a_table() -> None:
    def step(p: Any, x: Any, t: Any, c: Any, i: int) -> Any:
        alpha = 0.9**i
        return alpha * x + (1 - alpha) * p.net(x, t, c)

    captured, expected, actual = both(Looping(step), CONDITION)
    assert [6] == trips(captured)
    assert 0.0 == largest_error(expected, actual)


def test_item_and_branches_on_the_schedule_fold() -> None:
    def step(p: Any, x: Any, t: Any, c: Any, i: int) -> Any:
        if t.item() > 500:
            return x + p.net(x, t, c)
        return x - p.net(x, t, c) * t.item()

    captured, expected, actual = both(Looping(step), CONDITION)
    assert [3, 3] == trips(captured)
    assert 0.0 == largest_error(expected, actual)


def test_state_of_a_multistep_sampler_is_carried() -> None:
    history: list[Any] = []

    def step(p: Any, x: Any, t: Any, c: Any, i: int) -> Any:
        if i == 0:
            history.clear()
        history.append(p.net(x, t, c))
        if i < 2:
            return x + 0.1 * history[-1]
        return x + 0.1 * (1.5 * history[-1] - 0.5 * history[-2] + 0.1 * history[-3])

    captured, expected, actual = both(Looping(step), CONDITION, steps=9)
    # The two steps of the warm-up are alike, too.
    assert [2, 7] == trips(captured)
    assert 0.0 == largest_error(expected, actual)


def test_noise_in_the_loop_is_drawn_row_by_row() -> None:
    pipeline = Looping(lambda p, x, t, c, i: p.net(x, t, c) + 0.1 * torch.randn_like(x))
    captured, expected, actual = both(pipeline, CONDITION)
    assert [6] == trips(captured)
    assert [1, 6] == [sequence.repeat for sequence in captured.program.draws]
    assert 0.0 == largest_error(expected, actual)


def test_a_last_step_without_noise_is_peeled() -> None:
    def step(p: Any, x: Any, t: Any, c: Any, i: int) -> Any:
        x = p.net(x, t, c)
        return x + torch.randn(2, 8) if t > 0 else x

    captured, expected, actual = both(Looping(step), CONDITION)
    assert [5] == trips(captured)
    assert 1 == sum(name == "net" for name in captured.program.graphs)
    assert 0.0 == largest_error(expected, actual)


def test_two_loops_in_a_row() -> None:
    def pipeline(cond: torch.Tensor) -> torch.Tensor:
        x = cond
        for t in torch.arange(4):
            x = x + first(x, t, cond)
        x = x * 2
        for t in torch.arange(5):
            x = x - second(x, t, cond)
        return x

    first, second = Net(), Net()
    captured, expected, actual = both(pipeline, CONDITION)
    assert [4, 5] == trips(captured)
    assert [("first",), ("second",)] == [loop.stages for loop in captured.loops]
    assert 0.0 == largest_error(expected, actual)


def test_two_stages_in_one_body() -> None:
    pipeline = Looping(lambda p, x, t, c, i: p.net(p.other(x), t, c) + x, other=nn.Linear(8, 8))
    captured, expected, actual = both(pipeline, CONDITION)
    assert [6] == trips(captured)
    assert {"net", "other"} == set(captured.loops[0].stages)
    assert 0.0 == largest_error(expected, actual)


def test_no_loop_at_all() -> None:
    captured, expected, actual = both(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU()), {"input": torch.ones(1, 4)}
    )
    assert [] == trips(captured)
    assert 0.0 == largest_error(expected, actual)


def test_values_of_every_step_are_collected() -> None:
    def pipeline(cond: torch.Tensor) -> list[torch.Tensor]:
        seen = []
        x = cond
        for t in torch.arange(5):
            x = x + net(x, t, cond)
            seen.append(x.mean())
        return [torch.stack(seen), seen[2], x]

    net = Net()
    captured, expected, actual = both(pipeline, CONDITION)
    assert [5] == trips(captured)
    assert ["output.0", "output.1", "output.2"] == list(actual)
    assert 0.0 == largest_error(expected, actual)


def test_a_plain_loop_without_stages() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        for i in range(10):
            x = torch.sin(x) * (i + 1)
        return x

    captured, expected, actual = both(pipeline, {"x": torch.ones(3)})
    assert [10] == trips(captured)
    assert 0.0 == largest_error(expected, actual)


@pytest.mark.parametrize("rows", [2, 5, 8])
def test_rows_that_are_worked_on_one_by_one_are_no_loop(rows: int) -> None:
    @partitioner.host_op(outputs={"rows": ("float32", (None, 2))})
    def keep(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"rows": x[x[:, 0] > 0.1]}

    linear = nn.Linear(2, 2)

    def pipeline(x: torch.Tensor) -> list[Any]:
        return [keep(linear(row[0]))["rows"] for row in x.split(1)]

    captured, expected, actual = both(pipeline, {"x": torch.randn(rows, 9, 2)})
    assert [] == trips(captured)
    assert rows == len(actual)
    assert 0.0 == largest_error(expected, actual)
