"""Variants, precision and compression from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from partitioner.cli import main

MODEL = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(128, 128), torch.nn.Tanh(), torch.nn.Linear(128, 128))
class Pipeline(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = model
    def forward(self, x, *, steps: int = 4):
        for time in torch.linspace(1, 0, steps):
            x = x + time * self.model(x)
        return {"y": x}
def pipeline():
    return Pipeline()
example_inputs = {"x": torch.ones(1, 128)}
"""


def partition(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    np.save(tmp_path / "x.npy", np.ones((1, 128), np.float32))
    return str(path)


def test_variants_are_built_shown_and_chosen(model: str, tmp_path: Path) -> None:
    bundle, given = str(tmp_path / "b"), f"x={tmp_path / 'x.npy'}"
    done = partition("build", model, "-o", bundle, "--variant", "steps=4", "--variant", "steps=7")
    assert 0 == done.exit_code, done.output
    assert "variant steps=7: differs from eager by" in done.output
    shown = partition("inspect", bundle).output
    assert "variant  steps=4: loop_1 x 4, taken if none is chosen" in shown
    assert "variant  steps=7: loop_1 x 7, 1 own tables" in shown
    assert "steps=7 output y" in partition("verify", bundle).output
    arrays = []
    for index, chosen in enumerate(([], ["--set", "steps=4"], ["--set", "steps=7"])):
        out = tmp_path / f"{index}.npz"
        done = partition("run", bundle, "-i", given, "-o", str(out), *chosen)
        assert 0 == done.exit_code, done.output
        arrays.append(np.load(out)["y"])
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert not np.allclose(arrays[0], arrays[2])
    for wrong in ("steps=5", "speed=4", "steps"):
        assert 11 == partition("run", bundle, "-i", given, "--set", wrong).exit_code


def test_weights_in_fewer_bytes(model: str, tmp_path: Path) -> None:
    sizes: dict[str, int] = {}
    for name, options in {
        "float": [],
        "small": ["--precision", "bf16"],
        "packed": ["--accuracy-budget", "0.05"],
    }.items():
        bundle = tmp_path / name
        done = partition("build", model, "-o", str(bundle), *options, "--json")
        assert 0 == done.exit_code, done.output
        sizes[name] = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
        document = json.loads(done.stdout)
        assert (name == "packed") == bool(document["compression"])
    assert sizes["packed"] < sizes["small"] < 0.75 * sizes["float"]


def test_what_compression_found_is_told(model: str, tmp_path: Path) -> None:
    done = partition("build", model, "-o", str(tmp_path / "b"), "--accuracy-budget", "0.05")
    assert "weights of model: int4, 0.13 -> 0.02 MiB" in done.output


@pytest.mark.parametrize("wrong", ["bf61", "model=half"])
def test_a_precision_that_is_none(wrong: str, model: str, tmp_path: Path) -> None:
    done = partition("build", model, "-o", str(tmp_path / "b"), "--precision", wrong)
    assert 2 == done.exit_code
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variant", "steps=5,steps=20"], "--variant steps=5,steps=20 gives an option twice"),
        (["--variant", "steps=5", "--set", "steps=7"], "'steps' is fixed by --set"),
        (["--variant", "steps"], "--variant takes name=value, not 'steps'"),
        (["--variant", ""], "--variant takes name=value, not ''"),
        (["--precision", "bf16", "--precision", "f16"], "two precisions are given"),
        (["--precision", "decoder=bf16"], "there is no stage 'decoder'"),
        (["--accuracy-budget", "-1"], "the accuracy budget is -1.0"),
        (["--tolerance", "nan"], "the tolerance is nan"),
        (["--passes", "hoist-invariants{budget=-1}"], "has budget=-1"),
    ],
)
def test_options_that_cannot_be_meant(
    options: list[str], message: str, model: str, tmp_path: Path
) -> None:
    done = partition("build", model, "-o", str(tmp_path / "b"), *options)
    assert 2 == done.exit_code
    assert message in done.output
    assert not (tmp_path / "b").exists()
