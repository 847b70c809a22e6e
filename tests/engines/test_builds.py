"""Builds on several workers give the bundle that one gives, whatever happens to the workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import partitioner
from partitioner.backends.worker import stop_worker
from partitioner.caching.options import CacheOptions
from partitioner.targets import Target, find_target

MINE = """
[targets.mine]
base = "cpu"
machine = ["x86_64", "AMD64", "aarch64", "arm64"]
"""


class Pipeline(nn.Module):
    """Three segments, since host ops lie between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor, *, steps: int = 2) -> torch.Tensor:
        x = torch.tanh(self.first(x))
        for time in torch.linspace(1, 0, steps):
            x = x + time * torch.tanh(self.second(x))
        return x


EXAMPLE = {"x": torch.linspace(-1, 1, 64).reshape(1, 64)}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    file = tmp_path_factory.mktemp("targets") / "mine.toml"
    file.write_text(MINE)
    return [find_target(name, [file]) for name in ("cpu", "mine")]


def build(targets: list[Target], output: Path, **how: Any) -> str:
    """The digest of a bundle with four members."""
    return partitioner.build(
        Pipeline(), EXAMPLE, target=targets, batch=[1, 2], output=output, **how
    ).digest


@pytest.fixture(scope="module")
def alone(targets: list[Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the bundle that is built one segment after the other."""
    yield build(targets, tmp_path_factory.mktemp("alone") / "bundle", jobs=1)
    stop_worker()


def test_two_workers_give_the_same_bundle(
    targets: list[Target], alone: str, tmp_path: Path
) -> None:
    cache = CacheOptions(folder=tmp_path / "cache")
    assert alone == build(targets, tmp_path / "bundle", jobs=2, cache=cache)
    # Equal segments of both targets were compiled once, though they were wanted at once.
    kept = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and "entries" in p.parts]
    assert kept
