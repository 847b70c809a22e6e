"""What ordinary pipelines do, captured and compared with the eager run."""

from __future__ import annotations

import dataclasses
import functools
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.capture import capture
from partitioner.errors import CaptureError, UsageError
from partitioner.specs import Noise
from tests.capture.running import both, largest_error


class Net(nn.Module):
    """A denoiser: x and t and a condition in, x out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(8, 8)
        self.time = nn.Linear(1, 8)
        self.register_buffer("shift", torch.randn(8))

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        time = self.time(t.float().reshape(-1, 1) / 1000)
        return torch.tanh(self.body(x) + time + cond + self.shift)


class Looping(nn.Module):
    """A pipeline whose loop's body is given."""

    def __init__(self, step: Any, **modules: nn.Module) -> None:
        super().__init__()
        self.step = step
        self.net = Net()
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, cond: torch.Tensor, *, steps: int = 6) -> torch.Tensor:
        x = torch.randn(2, 8)
        for i, t in enumerate(torch.linspace(999, 0, steps).long()):
            x = self.step(self, x, t, cond, i)
        return x


def trips(captured: Any) -> list[int]:
    return [loop.trips for loop in captured.loops]


CONDITION = {"cond": torch.ones(2, 8)}


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


def test_each_generator_is_a_stream() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        own = torch.Generator().manual_seed(1)
        return x + torch.randn(3) + torch.randn(3, generator=own)

    captured = capture(pipeline, {"x": torch.ones(3)})
    assert [0, 1] == [s.draws[0].stream for s in captured.program.draws]


def test_every_node_has_a_source_line() -> None:
    captured = capture(Looping(lambda p, x, t, c, i: x + p.net(x, t, c)), CONDITION)
    for _, graph in captured.program.all_graphs():
        for node in graph.nodes:
            if node.op == "call_function" and node.meta["source"] != "":
                assert __file__ in node.meta["source"], node.format_node()
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


# --- what cannot be captured --------------------------------------------------------------------


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
    assert "test_capture.py" in message


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
    assert "test_capture.py" in message


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
    assert "test_capture.py" in message


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
