"""``partition plan``: what a build would make, without making it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from partitioner.cli.plan import command
from partitioner.errors import CaptureError, PlacementError, UsageError

MODEL = """
import torch
torch.manual_seed(0)
encoder = torch.nn.Linear(3, 4)
denoiser = torch.nn.Linear(4, 4)
def pipeline(x, *, steps: int = 6):
    y = encoder(x)
    for t in torch.linspace(1, 0, steps):
        y = y - denoiser(y) * t
    return {"y": y}
example_inputs = {"x": torch.ones(1, 3)}
"""


def plan(folder: Path, *arguments: str, model: str = MODEL) -> str:
    (folder / "model.py").write_text(model)
    done = CliRunner().invoke(
        command, [str(folder / "model.py"), *arguments], catch_exceptions=False
    )
    assert 0 == done.exit_code, done.output
    return done.output


def document(folder: Path, *arguments: str) -> dict[str, Any]:
    return json.loads(plan(folder, *arguments, "--json"))


def test_the_plan_for_people(tmp_path: Path) -> None:
    text = plan(tmp_path)
    assert "loop_1 x 6  carries float32[1, 4]" in text
    assert "input    x: float32[1, 3]" in text
    assert "[onnx]" in text
    assert "inline-calls" not in text
    assert ["model.py"] == [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"]


def test_what_each_pass_did(tmp_path: Path) -> None:
    text = plan(tmp_path, "--passes", "--pipeline", "inline-calls,normalise")
    header = next(line for line in text.splitlines() if line.startswith("pass "))
    assert header.endswith("seconds")
    assert ["inline-calls", "normalise"] == [
        line.split()[0] for line in text.splitlines() if line.startswith(("inline", "normal"))
    ]


def test_the_plan_for_programs(tmp_path: Path) -> None:
    found = document(tmp_path, "--set", "steps=3")
    (loop,) = (step for step in found["plan"] if "loop" in step)
    assert 3 == loop["trips"]
    inner = found["segments"][loop["steps"][0]["segment"]]
    assert "onnx" == inner["backend"]
    assert ["denoiser"] == inner["stages"]
    # Weight and bias of the denoiser, and whatever number the step needs.
    assert inner["weight_bytes"] >= 4 * (16 + 4)
    assert found["cost"]["step_weight_bytes"] >= inner["weight_bytes"]
    for record in found["passes"]:
        assert record["nodes_after"] > 0
        assert record["operations_after"] > 0
        assert record["seconds"] >= 0


def test_passes_follow_one_another_in_the_records(tmp_path: Path) -> None:
    records = document(tmp_path)["passes"]
    for before, after in pairwise(records):
        for name in ("nodes", "constants", "bytes", "operations", "step_weight_bytes"):
            assert before[f"{name}_after"] == after[f"{name}_before"]


@pytest.mark.parametrize(
    ("error", "model", "arguments"),
    [
        (UsageError, MODEL, ["--pipeline", "normalize"]),
        (UsageError, MODEL, ["--target", "cpuu"]),
        (UsageError, MODEL, ["--stage", "denoiser"]),
        (CaptureError, MODEL.replace("y = encoder(x)", "y = x if x.sum() > 0 else -x"), []),
        (
            PlacementError,
            MODEL.replace('{"y": y}', "torch.linalg.lu_factor_ex(y.T @ y)[0]"),
            [],
        ),
    ],
)
def test_errors_are_those_of_a_build(
    error: type[Exception], model: str, arguments: list[str], tmp_path: Path
) -> None:
    with pytest.raises(error):
        plan(tmp_path, *arguments, model=model)
