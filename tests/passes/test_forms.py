"""Cheaper forms of the same thing: what is found, what is left alone, and the same numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partitioner.passes.pipeline import DEFAULT
from partitioner.program import Program
from tests.passes.running import after, captured, difference, names

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from tail import NaiveWavelet, Tail


class Stage(nn.Module):
    """A function as a stage: constants that it makes are ops, not data."""

    def __init__(self, function: Any, **buffers: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Staged(nn.Module):
    def __init__(self, function: Any, **buffers: Tensor) -> None:
        super().__init__()
        self.stage = Stage(function, **buffers)

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x)


def staged(function: Any, x: Tensor, **buffers: Tensor) -> Program:
    return captured(Staged(function, **buffers), x=x)


def forms(program: Program, passes: str) -> list[str]:
    """The ops after some passes, of which the result must be the same."""
    done, _ = after(program, f"inline-calls,normalise,{passes},eliminate-dead,eliminate-common")
    assert 2e-6 > difference(program, done)
    return names(done.main)


# --- gathers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", [Tail, NaiveWavelet])
def test_the_naive_tail_becomes_moves_and_products(pipeline: Any) -> None:
    program = captured(pipeline(), packed=torch.randn(1, 64, 22, 22, 22))
    done, _ = after(program, DEFAULT)
    assert 2e-6 > difference(program, done)
    found = set(names(done.main))
    assert {"reshape", "slice", "permute", "matmul", "add", "cat"} <= found
    assert not found & {"index", "arange", "conv_transpose3d", "convolution", "full", "zeros"}
    assert 15 == names(done.main).count("matmul")


def test_a_gather_that_moves_nothing_whole_stays() -> None:
    places = torch.tensor([3, 1, 2, 0, 2])
    program = staged(lambda s, x: x[:, s.places], torch.randn(2, 5), places=places)
    assert ["index"] == forms(program, "rewrite-gathers")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: x[torch.arange(2, 5)], ["slice"]),
        (lambda s, x: x[:, torch.arange(0, 6, 2)], ["reshape", "slice", "permute", "reshape"]),
        (lambda s, x: torch.index_select(x, 1, torch.arange(3) + 1), ["slice"]),
        (lambda s, x: x.gather(1, torch.arange(4).expand(6, 4)), ["slice"]),
        (lambda s, x: x.take(torch.arange(36).reshape(6, 6).T), ["permute"]),
        (lambda s, x: F.embedding(torch.arange(12) // 2, x), ["unsqueeze", "expand", "reshape"]),
    ],
    ids=["slice", "steps", "index_select", "gather", "take", "repeat"],
)
def test_gathers_of_all_kinds(function: Any, expected: list[str]) -> None:
    assert expected == forms(staged(function, torch.randn(6, 6)), "rewrite-gathers")


def test_an_index_that_is_too_big_to_look_at_stays() -> None:
    program = staged(lambda s, x: x[torch.arange(2, 5)], torch.randn(6, 6))
    assert "index" in forms(program, "rewrite-gathers{limit=8}")


def test_an_index_that_depends_on_the_request_stays() -> None:
    program = staged(lambda s, x: s.table[x.long().clamp(0, 3)], torch.rand(3), table=torch.eye(4))
    assert "index" in forms(program, "rewrite-gathers")


# --- zeros --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: x + s.zero, []),
        (lambda s, x: x - s.zero, []),
        (lambda s, x: s.zero - x, ["neg"]),
        (lambda s, x: x + s.zero * x.sin(), []),
        (lambda s, x: x + s.zero @ x, []),
        (lambda s, x: x + F.linear(x.cos(), s.zero), []),
        (lambda s, x: torch.cat([x, s.zero])[:4] * 2, ["mul"]),
        (lambda s, x: torch.cat([x, s.zero]).sin()[0:4:3], ["sin", "slice"]),
        (lambda s, x: torch.cat([x, s.zero], 1) @ s.weight, ["slice", "matmul"]),
        (lambda s, x: torch.cat([x, s.zero]).sum(1), ["sum", "full", "cat"]),
        (lambda s, x: torch.cat([x, s.zero]).softmax(0), ["cat", "softmax"]),
        (lambda s, x: x * torch.zeros(4) + 1, ["full", "add"]),
    ],
)
def test_zeros_are_left_out(function: Any, expected: list[str]) -> None:
    torch.manual_seed(0)
    buffers = {"zero": torch.zeros(4, 4), "weight": torch.randn(8, 3)}
    assert expected == forms(staged(function, torch.randn(4, 4), **buffers), "fold-zeros")


def test_channels_of_zeros_are_cut_off_a_convolution() -> None:
    weight = torch.randn(5, 8, 3, 3)
    program = staged(
        lambda s, x: F.conv2d(torch.cat([torch.zeros(1, 6, 9, 9), x], 1), s.weight, padding=1),
        torch.randn(1, 2, 9, 9),
        weight=weight,
    )
    done, _ = after(program, "inline-calls,normalise,fold-zeros,eliminate-dead")
    assert 2e-6 > difference(program, done)
    (shape,) = (
        n.meta["type"].shape for n in done.main.nodes if n.target == torch.ops.aten.slice.Tensor
    )
    assert (5, 2, 3, 3) == shape


def test_a_bias_is_not_lost() -> None:
    program = staged(
        lambda s, x: x + F.linear(s.zero, s.weight, s.bias),
        torch.randn(4, 3),
        zero=torch.zeros(4, 4),
        weight=torch.randn(3, 4),
        bias=torch.randn(3),
    )
    assert "linear" in forms(program, "fold-zeros")


# --- sums that cancel ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, z: z + (z.sin() - z), ["sin"]),
        (lambda s, z: (z.sin() - z) + z, ["sin"]),
        (lambda s, z: z + (z.sin() - z).detach(), ["sin"]),
        (lambda s, z: z + 1.0 * (z.sin() - z), ["sin"]),
        (lambda s, z: z + 2.0 * (z.sin() - z), ["sin", "sub", "mul", "add"]),
        (lambda s, z: torch.add(z, z.sin() - z, alpha=2), ["sin", "sub", "add"]),
        (lambda s, z: (z + 1e6) - 1e6, ["add", "sub"]),
        (lambda s, z: (z.sin() / 1 + 0) * 1, ["sin"]),
        (lambda s, z: z.long() / 1, ["_to_copy", "div"]),
    ],
)
def test_what_is_taken_away_and_added_again(function: Any, expected: list[str]) -> None:
    program = staged(function, torch.randn(3, 4))
    done, _ = after(program, "inline-calls,normalise,cancel-differences,eliminate-dead")
    assert 1e-5 > difference(program, done)
    assert expected == names(done.main)


# --- codebooks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda s, v: ((v[:, None] - s.codes) ** 2).sum(-1).argmin(-1),
        lambda s, v: ((s.codes - v[:, None]) * (s.codes - v[:, None])).mean(-1).argmin(1),
        lambda s, v: (v[:, None] - s.codes).square().sum(2).sqrt().argmin(1),
        lambda s, v: (v[:, None] - s.codes).norm(dim=-1).argmin(-1),
        lambda s, v: torch.cdist(v, s.codes).argmin(-1),
        lambda s, v: torch.cdist(v, s.codes).min(-1)[1],
    ],
    ids=["square", "mean", "sqrt", "norm", "cdist", "min"],
)
def test_the_nearest_code_by_the_expanded_square(function: Any) -> None:
    torch.manual_seed(0)
    program = staged(function, torch.randn(50, 4), codes=torch.randn(16, 4))
    done, (*_, record) = after(
        program, "inline-calls,normalise,eliminate-dead,eliminate-common,expand-distances"
    )
    assert record.modified
    done, _ = after(done, "eliminate-dead")
    assert 0.0 == difference(program, done)
    assert "matmul" in names(done.main)
    assert not {"sub", "cdist", "_cdist_forward", "linalg_vector_norm"} & set(names(done.main))


@pytest.mark.parametrize(
    "function",
    [
        lambda s, v: torch.cdist(v, s.codes).min(-1)[0],
        lambda s, v: ((v[:, None] - s.codes) ** 2).sum(-1).argmin(0),
        lambda s, v: (v[:, None] - s.codes).abs().sum(-1).argmin(-1),
        lambda s, v: ((v[:, None] - v) ** 2).sum(-1).argmin(-1),
        lambda s, v: torch.cdist(s.codes, v).argmin(-1),
        lambda s, v: ((v[:, None] - s.codes) ** 2).sum(-1).clamp_min(3.0).argmin(-1),
        lambda s, v: ((v[:, None] - s.codes) ** 2).sum(-1).long().argmin(-1),
        lambda s, v: torch.cdist(v, s.codes).double().argmin(-1),
        lambda s, v: ((v.half()[:, None] - s.codes.half()) ** 2).sum(-1).argmin(-1),
    ],
    ids=[
        *("values", "other axis", "other norm", "no codebook", "codes first", "clamped"),
        *("whole numbers", "other dtype", "few digits"),
    ],
)
def test_what_is_no_search_for_a_code_stays(function: Any) -> None:
    program = staged(function, torch.randn(16, 4), codes=torch.randn(16, 4))
    _, (*_, record) = after(program, "inline-calls,normalise,expand-distances")
    assert not record.modified


# --- filters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [2, 3, 4])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 3), (2, 16)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_filter_is_a_product(axis: int, stride: int, padding: int, transposed: bool) -> None:
    torch.manual_seed(axis)
    kernel, strides, paddings = [1] * 5, [1] * 3, [0] * 3
    kernel[axis], strides[axis - 2], paddings[axis - 2] = 18, stride, padding
    function = F.conv_transpose3d if transposed else F.conv3d
    program = staged(
        lambda s, x: function(x, s.taps, stride=strides, padding=paddings),
        torch.randn(2, 1, 20, 22, 24),
        taps=torch.randn(kernel),
    )
    assert "matmul" in forms(program, "unroll-filters")


@pytest.mark.parametrize(
    ("kernel", "channels", "groups"),
    [((1, 1, 3, 3), 1, 1), ((2, 2, 1, 3), 2, 1), ((2, 1, 1, 3), 2, 2)],
    ids=["two axes", "several channels", "other taps for each"],
)
def test_other_convolutions_stay(kernel: Any, channels: int, groups: int) -> None:
    program = staged(
        lambda s, x: F.conv2d(x, s.taps, groups=groups),
        torch.randn(1, channels, 9, 9),
        taps=torch.randn(kernel),
    )
    assert ["conv2d"] == forms(program, "unroll-filters")


def test_a_filter_that_all_channels_share() -> None:
    taps = torch.randn(1, 1, 1, 5).expand(3, 1, 1, 5).contiguous()
    program = staged(lambda s, x: F.conv2d(x, s.taps, groups=3), torch.randn(2, 3, 9, 9), taps=taps)
    assert ["reshape", "matmul", "reshape"] == forms(program, "unroll-filters")
