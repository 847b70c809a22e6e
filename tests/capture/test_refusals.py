"""What cannot be captured, and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.capture import capture
from partitioner.errors import CaptureError


def refused(pipeline: Any, **example: Any) -> str:
    with pytest.raises(CaptureError) as caught:
        capture(pipeline, example or {"x": torch.ones(2, 2)})
    assert caught.value.advice
    return str(caught.value)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x + 1 if x.sum() > 0 else x,
        lambda x: x * x.max().item(),
        lambda x: torch.from_numpy(x.numpy()),
        lambda x: torch.tensor(x.tolist()),
        lambda x: torch.tensor(np.asarray(x)),
        lambda x: x * float(x[0, 0]),
        lambda x: x if torch.equal(x, x) else -x,
    ],
)
def test_reading_a_value_names_the_line(read: Any) -> None:
    message = refused(lambda x: read(x))
    assert "depends on the pipeline's input" in message
    assert "test_refusals.py" in message


def test_a_shape_that_depends_on_data_is_refused() -> None:
    assert "shape of the result" in refused(lambda x: x[x > 0])


def test_control_flow_inside_a_stage_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    class Pipeline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branching = Branching()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.branching(x)

    message = refused(Pipeline())
    assert "stage 'branching'" in message
    assert "test_refusals.py" in message


def test_a_stage_that_writes_a_buffer_is_refused() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count.add_(1)
            return x * 2

    counting = Counting()
    assert "writes to 'count'" in refused(lambda x: counting(x))


def test_a_pipeline_that_fails_says_where() -> None:
    message = refused(lambda x: x + None)
    assert "TypeError" in message
    assert "test_refusals.py" in message


def test_numbers_from_numpy_are_refused() -> None:
    message = refused(lambda x: x + torch.from_numpy(np.random.randn(2, 2)))
    assert "numpy.random" in message


def test_distributions_without_counterpart_are_refused() -> None:
    assert "'exponential_'" in refused(lambda x: x + torch.empty(2, 2).exponential_())


def test_no_tensor_output_is_refused() -> None:
    assert "returns no tensor" in refused(lambda x: None)
    assert "is a str" in refused(lambda x: "done")


def test_tensor_ops_on_results_of_unknown_size_are_refused() -> None:
    @partitioner.host_op(outputs={"rows": ("float32", (None,))})
    def keep(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"rows": x[x > 0]}

    assert "size only the data decide" in refused(lambda x: keep(x)["rows"] * 2)


def test_a_host_op_inside_a_stage_is_refused() -> None:
    @partitioner.host_op(outputs={"rows": ("float32", (2, 2))})
    def same(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"rows": x}

    class Stage(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return same(x)["rows"]

    stage = Stage()
    assert "inside a stage" in refused(lambda x: stage(x))
