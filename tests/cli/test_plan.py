"""``partition plan``: what a build would make, without making it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from partitioner import choices
from partitioner.cli.plan import command
from partitioner.errors import CaptureError, OutputError, PlacementError, UsageError

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


def test_the_document_states_its_form_and_why_borders_are_there(tmp_path: Path) -> None:
    found = document(tmp_path, "--target", "inf2", "--place-op", "sub=onnx")
    assert ("partitioner-plan", 1, "inf2") == (
        found["format"],
        found["version"],
        found["target"],
    )
    assert ("neuron", "inf2.xlarge") == (found["preferred"], found["instance"])
    kinds = [step["border"] and step["border"]["kind"] for step in found["plan"]]
    assert kinds[0] is None
    assert "loop" in kinds
    (fallback,) = (f for f in found["fallbacks"] if f["code"] == "policy")
    assert {"sub": 1} == fallback["ops"]
    assert fallback["source"].startswith(f"{tmp_path.name}/model.py:9")
    estimate = found["estimate"]
    assert estimate["seconds"] > 0
    assert estimate["price"]["per_million"] > 0
    assert {"cpu"} <= {device["name"] for device in estimate["devices"]}
    held = found["segments"][fallback["segments"][0]]["holds"]
    assert "sub" in {group["op"] for group in held}


def test_estimates_and_fallbacks_are_told(tmp_path: Path) -> None:
    text = plan(tmp_path, "--target", "inf2", "--place-op", "sub=onnx")
    assert "target   inf2  (figures of inf2.xlarge)" in text
    assert "not on neuron" in text
    assert "policy: --place-op sub=onnx" in text
    assert "    to do: " in text
    assert "estimate (by the target's peak figures; nothing was measured)" in text
    assert "a million requests, at 0.7582 USD an hour" in text


def test_several_targets_stand_side_by_side_and_are_captured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    original = choices.capture
    monkeypatch.setattr(choices, "capture", lambda *a, **k: (calls.append(a), original(*a, **k))[1])
    names = ("inf2", "xeon", "graviton")
    text = plan(tmp_path, *(word for name in names for word in ("--target", name)))
    assert 1 == len(calls)
    table = text[text.index("side by side") :].splitlines()[1:]
    assert list(names) == table[0].split()
    labels = {line.split("  ")[0] for line in table[1:]}
    assert {"seconds a request", "memory of a copy", "price of a million requests"} <= labels
    found = document(tmp_path, "--target", "inf2", "--target", "xeon")
    assert ["inf2", "xeon"] == [one["target"] for one in found["plans"]]
    assert 1 == found["version"]


def test_the_page_is_one_file_that_appears_whole(tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    page.write_text("old")
    plan(tmp_path, "--html", str(page))
    assert page.read_text().startswith("<!doctype html>")
    assert [] == list(tmp_path.glob(".*partial"))
    with pytest.raises(OutputError):
        plan(tmp_path, "--html", str(tmp_path / "missing" / "plan.html"))


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
        (UsageError, MODEL, ["--target", "cpu", "--target", "inf3"]),
        (UsageError, MODEL, ["--target", "cpu", "--target", "cpu"]),
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
