"""Weights in 4 and 8 bits: the numbers, what ONNX Runtime makes of them, and the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.compressing import compress
from partitioner.compression.ops import matmul_nbits, unpack
from partitioner.compression.quantise import by_block, by_channel
from partitioner.compression.rewrite import LEVELS, compressed
from partitioner.errors import UsageError
from partitioner.frontend import prepare
from partitioner.passes.costs import program_cost
from partitioner.passes.pipeline import DEFAULT
from partitioner.quality import QualityBudget
from tests.passes.models import WIDTH, Guided
from tests.passes.running import after, captured, difference

CONDITION = torch.randn(1, 5, WIDTH, generator=torch.Generator().manual_seed(3))


def weight(k: int, n: int) -> torch.Tensor:
    return torch.randn(k, n, generator=torch.Generator().manual_seed(k + n)) / k**0.5


@pytest.mark.parametrize(("bits", "bound"), [(4, 0.12), (8, 0.008)])
def test_blocks_hold_the_weight(bits: int, bound: float) -> None:
    w = weight(96, 40)
    found = by_block(w, bits, 32)
    assert (40, 3, 32 * bits // 8) == tuple(found.packed.shape)
    again = (unpack(found.packed, bits) * found.scales.reshape(40, 3, 1)).reshape(40, 96).T
    assert 1e-4 < float((again - w).norm() / w.norm()) < bound


@pytest.mark.parametrize("channel", [0, 1])
def test_channels_hold_the_weight(channel: int) -> None:
    w = weight(30, 50).reshape(30, 10, 5)
    found = by_channel(w, channel)
    assert torch.int8 == found.codes.dtype
    again = found.codes.float() * found.scales
    assert 1e-4 < float((again - w).norm() / w.norm()) < 0.01
    assert w.shape[channel] == found.scales.numel() == found.scales.shape[channel]


@pytest.mark.parametrize(("bits", "bound"), [(4, 0.15), (8, 0.02)])
def test_a_product_with_a_packed_weight(bits: int, bound: float) -> None:
    w, x = weight(64, 24), torch.randn(3, 7, 64)
    found = by_block(w, bits, 32)
    actual = matmul_nbits(x, found.packed, found.scales, 64, 24, bits, 32)
    assert 0 < float((actual - x @ w).norm() / (x @ w).norm()) < bound
    zero = matmul_nbits(x * 0, found.packed, found.scales, 64, 24, bits, 32)
    assert not zero.any()


class Products(nn.Module):
    """A stack whose results a runtime's kernels are compared by."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


@pytest.mark.parametrize(("budget", "level", "share"), [(0.3, "int4", 0.25), (0.02, "int8", 0.4)])
def test_the_runtime_computes_what_the_reference_says(
    budget: float, level: str, share: float, tmp_path: Path
) -> None:
    x = torch.randn(5, 128)
    built = partitioner.build(Products(), {"x": x}, output=tmp_path / "b", accuracy_budget=budget)
    (trade,) = built.report["compression"]
    assert level == trade["level"]
    assert trade["bytes_after"] < share * trade["bytes_before"]
    assert weight_bytes(tmp_path / "b") < (share + 0.1) * trade["bytes_before"]
    expected = Products()(x).detach().numpy()
    norm = np.linalg.norm(expected)
    with partitioner.load(tmp_path / "b") as pipe:
        (actual,) = pipe(x=x.numpy()).values()
    # The reference rounds as the kernels do, so the error was known before.
    assert trade["error"] == pytest.approx(np.linalg.norm(actual - expected) / norm, rel=1e-3)
    assert trade["error"] <= budget
    # In low memory weights are not repacked; then the other operand is not rounded.
    with partitioner.load(tmp_path / "b", memory="low") as pipe:
        (actual,) = pipe(x=x.numpy()).values()
    assert np.linalg.norm(actual - expected) <= budget * norm


def weight_bytes(path: Path) -> int:
    manifest = Bundle.open(path).manifest
    used = {digest for artifact in manifest.artifacts.values() for digest in artifact.weights}
    return sum(blob.size for blob in manifest.blobs if blob.digest in used)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_levels_of_a_program(level: Any) -> None:
    program, _ = after(captured(Guided(), condition=CONDITION), DEFAULT)
    small = compressed(program, lambda _: level)
    error, bytes_ = difference(program, small), program_cost(small).weight_bytes
    if level.name == "float":
        assert 0.0 == error
        assert program_cost(program).weight_bytes == bytes_
        return
    assert 0 < error < {"int4": 0.2, "int8": 0.03, "int8-weights": 0.01}[level.name]
    assert bytes_ < 0.8 * program_cost(program).weight_bytes
    # What the program holds is only what it reads.
    named = {n.target for _, g in small.all_graphs() for n in g.nodes if n.op == "get_attr"}
    assert set(small.constants) == named


@pytest.mark.parametrize("budget", [0.2, 0.02, 1e-9])
def test_a_budget_is_kept_through_a_loop(budget: float, tmp_path: Path) -> None:
    built = partitioner.build(
        Guided(), {"condition": CONDITION}, output=tmp_path / "b", accuracy_budget=budget
    )
    (error,) = built.report["parity"]["outputs"].values()
    assert error <= max(budget, 1e-4)
    trades = {trade["segment"]: trade for trade in built.report["compression"]}
    assert all(trade["error"] <= budget for trade in trades.values())
    levels = {trade["level"] for trade in trades.values()}
    assert ({"float"} == levels) == (budget == 1e-9)


def test_variants_share_compressed_weights(tmp_path: Path) -> None:
    partitioner.build(
        Guided(),
        {"condition": CONDITION},
        output=tmp_path / "b",
        accuracy_budget=0.2,
        variants=[{"steps": 3}, {"steps": 6}],
    )
    with partitioner.load(tmp_path / "b") as pipe:
        for steps in (3, 6):
            assert (1, 6, WIDTH) == pipe(condition=CONDITION.numpy(), steps=steps)["output"].shape


class Repeated(Products):
    """The error of a product grows with every step."""

    def forward(self, x: torch.Tensor, *, steps: int = 1) -> torch.Tensor:
        for t in torch.linspace(0, 1, steps):
            x = torch.tanh(self.body(x) + t)
        return x

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 128))
        with torch.no_grad():
            for layer in self.body:
                layer.weight *= 4  # type: ignore[operator]


@pytest.mark.parametrize("by_metric", [False, True])
def test_every_variant_is_judged(by_metric: bool) -> None:
    def found(variants: list[dict[str, Any]]) -> str:
        inputs = {"x": torch.randn(5, 128, generator=torch.Generator().manual_seed(1))}
        metric = QualityBudget(_closeness, (), 0.6)
        done = compress(
            prepare(Repeated().eval(), inputs, variants=variants),
            inputs,
            metric if by_metric else 0.4,
        )
        (trade,) = done.trades
        return trade.level

    # Few steps alone may be in 8 bits, many not: nor may the bundle of both.
    assert "int8" == found([{"steps": 3}])
    assert "float" == found([{"steps": 9}]) == found([{"steps": 3}, {"steps": 9}])


def _closeness(expected: Any, actual: Any) -> float:
    (want,), (got,) = expected.values(), actual.values()
    return max(0.0, 1 - float(np.linalg.norm(want - got) / np.linalg.norm(want)))


def test_a_target_whose_backends_take_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from partitioner.backends.onnx.compile import OnnxCompiler

    monkeypatch.setattr(OnnxCompiler, "compresses", False)
    with pytest.raises(UsageError, match="no backend of the target 'cpu' takes compressed"):
        partitioner.build(
            Products(), {"x": torch.randn(5, 128)}, output=tmp_path / "b", accuracy_budget=0.1
        )
    assert not (tmp_path / "b").exists()
