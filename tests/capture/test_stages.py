"""What becomes a stage, and what is driver."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from partitioner.capture import capture
from partitioner.errors import UsageError
from tests.capture.models import CONDITION, Looping, trips
from tests.capture.running import both, largest_error


def test_one_stage_with_two_signatures_and_shared_modules() -> None:
    shared = nn.Linear(4, 4)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = shared

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * 2

    tied = Tied()

    def pipeline(x: torch.Tensor) -> torch.Tensor:
        return shared(x).sum() + shared(x[:1]).sum() + tied(x).sum()

    captured, expected, actual = both(pipeline, {"x": torch.ones(2, 4)})
    assert ["shared", "shared_2", "tied"] == sorted(captured.program.graphs)
    assert 0.0 == largest_error(expected, actual)


def test_a_named_stage_makes_what_holds_it_driver() -> None:
    model = Looping(lambda p, x, t, c, i: x + p.net(x, t, c))

    def pipeline(cond: torch.Tensor) -> torch.Tensor:
        return model(cond)

    captured, expected, actual = both(pipeline, CONDITION, stages={"denoiser": "model.net"})
    assert [6] == trips(captured)
    assert ("denoiser",) == captured.loops[0].stages
    assert 0.0 == largest_error(expected, actual)


def test_a_module_that_holds_the_loop_is_driver() -> None:
    model = Looping(lambda p, x, t, c, i: x + p.net(x, t, c))

    def pipeline(cond: torch.Tensor) -> torch.Tensor:
        return model(cond) * 2

    captured, expected, actual = both(pipeline, CONDITION)
    assert [6] == trips(captured)
    assert ("model.net",) == captured.loops[0].stages
    assert 0.0 == largest_error(expected, actual)


def test_a_small_part_that_is_shared_makes_no_driver() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.linear = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.norm(self.norm(self.norm(x))))

    block = Block()
    captured, expected, actual = both(lambda x: block(x), {"x": torch.ones(2, 8)})
    assert {"block": 1} == captured.stage_calls
    assert 0.0 == largest_error(expected, actual)


def test_a_stage_that_is_no_module_is_refused() -> None:
    with pytest.raises(UsageError, match="no module of this pipeline"):
        capture(Looping(None), CONDITION, stages={"denoiser": "nothing"})


def test_random_draws_inside_a_stage() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn_like(x) * torch.rand(8)

    captured, expected, actual = both(
        Looping(lambda p, x, t, c, i: p.net(p.noisy(x), t, c), noisy=Noisy()), CONDITION
    )
    assert [6] == trips(captured)
    kinds = [d.distribution for s in captured.program.draws for d in s.draws]
    assert ["normal", "normal", "uniform"] == kinds
    assert 0.0 == largest_error(expected, actual)
