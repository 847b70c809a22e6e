"""Pipelines captured with several requests at once: what their rows are, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from partitioner.artifacts.manifest import Batch
from partitioner.batch_faults import captured_with
from partitioner.batching import find_batch, parse_sizes, row_inputs, single_batch, with_rows
from partitioner.capture import Captured, capture
from partitioner.errors import CaptureError, UsageError
from partitioner.hostops import host_op
from partitioner.specs import Noise

Array = Any


@host_op(name="tests.batching.positive", outputs={"kept": ("float32", (None,))})
def positive(row: Array) -> Array:
    return row[row > 0]


class Pipeline(nn.Module):
    """Draws before and in a loop; what has rows, what lists them, and what has none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, shift: torch.Tensor) -> dict[str, Any]:
        noise = torch.randn(x.shape[0], 3)
        for level in (3.0, 2.0, 1.0, 0.5):
            noise = self.layer(noise * level + x) + torch.randn_like(noise) + shift
        kept = [positive(row[0])["kept"] for row in noise.split(1)]
        return {
            "y": noise,
            "kept": kept if len(kept) > 1 else kept[0],
            "levels": torch.tensor([3.0, 2.0]),
        }


EXAMPLE = {"x": torch.arange(3.0).reshape(1, 3), "shift": torch.tensor(0.5)}


def captures(
    pipeline: Callable[..., Any], rows: int, names: tuple[str, ...] = ("x",)
) -> tuple[Captured, Captured]:
    example = {name: value for name, value in EXAMPLE.items() if name != "shift"}
    if isinstance(pipeline, Pipeline):
        example = EXAMPLE
    one, many = (capture(pipeline, with_rows(example, names, n)) for n in (1, rows))
    return one, many


# --- sizes and inputs ---------------------------------------------------------------------------


def test_sizes_are_sorted() -> None:
    assert parse_sizes("4, 1") == (1, 4)


@pytest.mark.parametrize("text", ["", "0", "1,x", "2,2", "-1", "99999", "1..8"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sizes(text)


def test_all_inputs_have_rows_unless_it_is_said() -> None:
    pair = {"a": torch.zeros(2, 3), "b": {"c": torch.zeros(2)}, "steps": 5}
    assert row_inputs(pair, None) == ("a", "b.c")
    assert row_inputs(EXAMPLE, ("x",)) == ("x",)
    with pytest.raises(UsageError, match="batched = "):
        row_inputs(EXAMPLE, None)
    with pytest.raises(UsageError, match="'y'"):
        row_inputs(EXAMPLE, ("y",))


def test_examples_are_repeated_and_turned() -> None:
    example = {"a": torch.tensor([[1, 2, 3], [4, 5, 6]]), "b": {"c": torch.tensor([7, 8])}, "n": 5}
    rows = with_rows(example, ("a", "b.c"), 5)
    assert [[1, 2, 3], [4, 5, 6], [3, 1, 2], [6, 4, 5], [2, 3, 1]] == rows["a"].tolist()
    assert [7, 8, 7, 8, 7] == rows["b"]["c"].tolist()
    assert rows["n"] == 5
    assert [[1, 2, 3]] == with_rows(example, ("a",), 1)["a"].tolist()


# --- what has rows ------------------------------------------------------------------------------


def test_outputs_are_stacked_listed_or_for_all() -> None:
    one, many = captures(Pipeline(), 3)
    assert Batch(3, ("x",), ("y",), ("kept",)) == find_batch(one, many, 3, ("x",))
    assert Batch(1, ("x",), ("y",), ("kept", "levels")) == single_batch(one.program, ("x",))


def test_a_pipeline_that_always_lists_its_rows() -> None:
    def function(x: torch.Tensor) -> list[torch.Tensor]:
        return list(x + 1)

    one, many = captures(function, 2)
    assert ("output",) == find_batch(one, many, 2, ("x",)).listed
    assert ("output.0", "output.1") == many.program.outputs


def test_noise_inputs_have_rows() -> None:
    def function(x: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        return x + start

    example = {"x": torch.zeros(1, 3), "start": torch.zeros(1, 3)}
    one = capture(function, example, inputs={"start": Noise()})
    many = capture(function, with_rows(example, ("x",), 2), inputs={"start": Noise()})
    with pytest.raises(UsageError, match="the noise 'start'"):
        find_batch(one, many, 2, ("x",))


# --- pipelines for one request ------------------------------------------------------------------


class First(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        return y[0]  # the lost rows


class Holder(nn.Module):
    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stage(x) + 1


def lost(x: torch.Tensor) -> torch.Tensor:
    return (x * 2)[:1] + 1


def total(x: torch.Tensor) -> torch.Tensor:
    return x.sum()


@pytest.mark.parametrize("pipeline", [Holder(First()), lost, total])
def test_an_output_without_rows_names_the_line_that_loses_them(pipeline: Any) -> None:
    one, many = captures(pipeline, 4)
    with pytest.raises(CaptureError, match="has no row for each") as caught:
        find_batch(one, many, 4, ("x",))
    code = (First.forward if isinstance(pipeline, Holder) else pipeline).__code__
    first = code.co_firstlineno
    line = int(str(caught.value.where).rsplit(":", 1)[1].split()[0])
    assert first < line <= first + 2


def test_a_draw_without_rows_is_refused() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn(1, 3)

    one, many = captures(function, 4)
    with pytest.raises(CaptureError, match=r"shape \[1, 3\] for 4 requests") as caught:
        find_batch(one, many, 4, ("x",))
    assert "test_batching.py" in str(caught.value.where)


def test_draws_row_by_row_are_refused() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x + torch.cat([torch.randn(1, 3) for _ in range(x.shape[0])])

    one, many = captures(function, 2)
    with pytest.raises(CaptureError, match="random numbers"):
        find_batch(one, many, 2, ("x",))


def test_what_fails_at_capture_says_with_how_many() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros(1, 3), x], dim=1)

    message = "with 4 requests at once, the pipeline"
    with pytest.raises(CaptureError, match=message) as caught, captured_with(4):
        captures(function, 4)
    assert "test_batching.py" in str(caught.value.where)
    assert "x.shape[0]" in str(caught.value.advice)
