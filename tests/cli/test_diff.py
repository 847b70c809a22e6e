"""``partition diff``: plans, bundles and both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from partitioner.cli import main
from partitioner.cli.diff import DIFFER, command
from partitioner.errors import UsageError

MODEL = """
import torch
torch.manual_seed({seed})
encoder = torch.nn.Linear(3, 4)
denoiser = torch.nn.Linear(4, 4)
def pipeline(x, *, steps: int = 6):
    y = encoder(x)
    for t in torch.linspace(1, 0, steps):
        y = y - torch.{op}(denoiser(y)) * t
    return {{"y": y}}
example_inputs = {{"x": torch.ones(1, 3)}}
"""


def diff(*arguments: str | Path) -> str:
    done = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    assert 0 == done.exit_code, done.output
    return done.output


def document(*arguments: str | Path) -> dict[str, Any]:
    return json.loads(diff(*arguments, "--json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that differ in weights and in an op, plans of one, and bundles of them all."""
    path = tmp_path_factory.mktemp("diff")
    for name, seed, op in (("one", 0, "tanh"), ("weights", 1, "tanh"), ("op", 0, "sin")):
        (path / name).mkdir()
        model = path / name / "model.py"
        model.write_text(MODEL.format(seed=seed, op=op))
        run("build", str(model), "-o", str(path / f"{name}.bundle"), "--no-parity")
    model = str(path / "one" / "model.py")
    (path / "cpu.json").write_text(run("plan", model, "--json"))
    (path / "place.json").write_text(
        run("plan", model, "--target", "inf2", "--place-op", "tanh=onnx", "--json")
    )
    (path / "two.json").write_text(
        run("plan", model, "--target", "inf2", "--target", "cpu", "--json")
    )
    return path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert 0 == done.exit_code, done.output
    return done.stdout


def test_a_plan_is_the_same_as_itself_and_as_its_bundle(folder: Path):
    for other in ("cpu.json", "one.bundle"):
        assert "same: nothing that both have differs" in diff(folder / "cpu.json", folder / other)
    assert document(folder / "one.bundle", folder / "one.bundle")["same"]


def test_the_exit_code_tells_only_if_it_is_asked_to(folder: Path):
    paths = [str(folder / "one.bundle"), str(folder / "op.bundle")]
    assert "differ: " in diff(*paths)
    asked = CliRunner().invoke(main, ["diff", *paths, "--exit-code"])
    assert DIFFER == asked.exit_code
    assert 0 == CliRunner().invoke(main, ["diff", paths[0], paths[0], "--exit-code"]).exit_code


def test_other_weights_change_artifacts_and_nothing_else(folder: Path):
    found = document(folder / "one.bundle", folder / "weights.bundle")
    assert [] == found["moved"]
    assert {} == found["segments"]
    assert found["artifacts"]
    for artifact in found["artifacts"]:
        assert any("weights" in reason or "constants" in reason for reason in artifact["why"])
    assert found["blobs"]["added"] > 0


def test_another_op_is_a_node_less_and_a_node_more(folder: Path):
    found = document(folder / "one.bundle", folder / "op.bundle")
    gone = [m["op"] for m in found["moved"] if m["to"] is None]
    come = [m["op"] for m in found["moved"] if m["from"] is None]
    assert ["tanh"] == gone
    assert ["sin"] == come
    text = diff(folder / "one.bundle", folder / "op.bundle")
    assert "it holds other nodes" in text
    assert "tanh at one/model.py:9 in pipeline" in text


def test_what_moved_to_another_backend_is_named(folder: Path):
    text = diff(folder / "two.json", folder / "place.json", "--target", "inf2")
    assert "plan for inf2" in text
    found = document(folder / "cpu.json", folder / "two.json", "--target", "cpu")
    assert found["same"]


def test_settings_that_differ_are_told(folder: Path):
    text = diff(folder / "cpu.json", folder / "place.json")
    assert "target: cpu -> inf2" in text
    # Of the pipelines of passes only what differs.
    assert "inline-calls" not in text
    assert "legalise-dtypes" in text
    assert "a million requests" in text


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "there is no such file or bundle"),
        ("no json", "the file is no plan"),
        ("[]", "no partitioner-plan document"),
        ('{"error": {"what": "x"}}', "holds an error"),
        ('{"format": "partitioner-plan", "version": 99}', "of version 99"),
        ('{"format": "partitioner-plan", "version": 1}', "lacks something"),
        ('{"format": "partitioner-plan", "version": 1, "plans": []}', "has plans for"),
    ],
)
def test_wrong_files_are_refused(folder: Path, tmp_path: Path, content: str | None, what: str):
    wrong = tmp_path / "wrong.json"
    if content is not None:
        wrong.write_text(content)
    with pytest.raises(UsageError, match=what):
        diff(wrong, folder / "cpu.json")


def test_of_several_plans_one_is_named(folder: Path):
    with pytest.raises(UsageError, match="plans for inf2, cpu") as caught:
        diff(folder / "two.json", folder / "cpu.json")
    assert "choose one with --target" == caught.value.advice
    with pytest.raises(UsageError, match="no member target=inf2; it has target=cpu"):
        diff(folder / "two.json", folder / "one.bundle", "--target", "inf2")
