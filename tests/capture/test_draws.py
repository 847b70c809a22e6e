"""Draws follow the memory of what they are like: a bundle's noise for a seed is that of eager."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from partitioner.capture import capture
from partitioner.errors import CaptureError
from partitioner.interpreter import run_program
from partitioner.runtime.random import TorchGenerator
from tests.capture.running import both, largest_error

Order = tuple[int, ...]

ORDERS = list(itertools.permutations(range(4)))

X = torch.arange(120.0).reshape(2, 3, 4, 5)


def from_seed(captured: Any, seed: int) -> dict[str, torch.Tensor]:
    """The program's draws, in their order, from the runtime's generator."""
    generator = TorchGenerator(seed)
    nodes = captured.program.main.nodes
    types = {node.target: node.meta["type"] for node in nodes if node.op == "placeholder"}
    noise: dict[str, torch.Tensor] = {}
    for draw in (draw for sequence in captured.program.draws for draw in sequence.draws):
        shape = types[draw.placeholder].shape
        if draw.distribution == "integers":
            low, high = (int(bound) for bound in draw.args)
            drawn = generator.integers(low, high, shape)
        elif draw.distribution == "uniform":
            drawn = generator.uniform(shape, "float32", *draw.args)
        else:
            drawn = generator.normal(shape, "float32", *draw.args)
        noise[draw.placeholder] = torch.from_numpy(drawn)
    return noise


def same_as_eager(pipeline: Callable[..., torch.Tensor], x: torch.Tensor) -> bool:
    captured = capture(pipeline, {"x": x})
    torch.manual_seed(7)
    expected = pipeline(x)
    (actual,) = run_program(captured.program, {"x": x, **from_seed(captured, 7)}).values()
    return torch.equal(expected, actual)


class Permuting(nn.Module):
    """Gives its input with other strides."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.scale).permute(self.order)


class Noisy(Permuting):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = super().forward(x)
        return moved + torch.rand_like(moved) + torch.randint_like(moved, 9)


@pytest.mark.parametrize("order", ORDERS)
def test_uniform_numbers_and_integers_are_drawn_along_memory(order: Order) -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        x = x.permute(order)
        return x + torch.rand_like(x) + torch.randint(0, 5, (3,)).sum() + torch.rand_like(x)

    assert same_as_eager(pipeline, X)


def test_so_are_numbers_in_the_layout_of_channels_last() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        return torch.rand_like(x) + torch.rand_like(x, memory_format=torch.contiguous_format) * x

    assert same_as_eager(pipeline, X.contiguous(memory_format=torch.channels_last))


def test_so_are_numbers_that_are_written_to_a_view() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        x = x + 1
        x[:, :, ::2].transpose(1, 3).uniform_()
        return x

    assert same_as_eager(pipeline, X)


def test_so_are_a_few_normal_numbers() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        few = x[0, :, :, 0].t()
        return few + torch.randn_like(few)

    assert same_as_eager(pipeline, X)


def test_writes_of_and_to_what_is_not_in_row_major_order() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        x = x.t().clone()
        x[:2].mul_(3)
        x[:, ::2].copy_(x.t()[:, ::2] + 1)
        return x

    _, expected, actual = both(pipeline, {"x": torch.ones(6, 6)})
    assert 0.0 == largest_error(expected, actual)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 1, 0, 2)])
def test_so_are_numbers_like_what_a_stage_gives(order: Order) -> None:
    stage = Permuting(order)

    def pipeline(x: torch.Tensor) -> torch.Tensor:
        x = stage(x)
        return x + torch.rand_like(x)

    assert same_as_eager(pipeline, X)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 1, 0, 2)])
def test_so_are_numbers_inside_a_stage(order: Order) -> None:
    stage = Noisy(order)
    assert same_as_eager(lambda x: stage(x), X)


def test_replay_gives_numbers_their_places() -> None:
    captured, expected, actual = both(lambda x: x.t() * torch.rand_like(x.t()), {"x": X[0, 0]})
    assert [["uniform"]] == [[d.distribution for d in s.draws] for s in captured.program.draws]
    assert 0.0 == largest_error(expected, actual)


def test_normal_numbers_that_torch_draws_singly_are_refused() -> None:
    with pytest.raises(CaptureError, match="not in the order of its shape") as caught:
        capture(lambda x: torch.randn_like(x.permute(3, 2, 1, 0)), {"x": X})
    assert __file__ in (caught.value.where or "")
    assert "memory_format=torch.contiguous_format" in (caught.value.advice or "")


def test_so_are_those_inside_a_stage() -> None:
    class Normal(Permuting):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            moved = super().forward(x)
            return moved + torch.randn_like(moved)

    stage = Normal((3, 2, 1, 0))
    with pytest.raises(CaptureError, match="not in the order of its shape") as caught:
        capture(lambda x: stage(x), {"x": X})
    assert __file__ in (caught.value.where or "")
