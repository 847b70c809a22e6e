"""``partition targets`` and the options that name a target's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from partitioner.cli import build, plan, targets
from partitioner.errors import UsageError
from partitioner.targets import all_targets, find_target

MINE = '[targets.mine]\nbase = "xeon"\nnote = "a box"\ndevices.cpu.cores = 48\n'

#: A device whose backend nobody has.
FAR = """
[targets.far]
base = "inf2"
backends = ["far", "onnx", "host"]
limits.far = { instructions = 1e6 }
devices.neuron = { backends = ["far"], call_s = { far = 1e-4 } }
"""

#: Casts of the input, and of indices; a product large enough for an accelerator.
MODEL = """
import torch
class Pipeline(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2048, 2048)
    def forward(self, x, rows):
        return self.linear(x.double().float())[:, rows]
pipeline = Pipeline()
example_inputs = {"x": torch.ones(512, 2048), "rows": torch.tensor([1, 2])}
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.toml").write_text(MINE)
    return str(tmp_path / "mine.toml")


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(MODEL)
    return str(tmp_path / "model.py")


def run(command: Any, *arguments: str) -> str:
    done = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert 0 == done.exit_code, done.output
    return done.output


def test_the_table_has_families_and_on_demand_instances(mine: str):
    names = [line.split()[0] for line in run(targets.command).splitlines()]
    assert {"target", "cpu", "inf2", "trn3", "xeon"} <= set(names)
    assert [] == [name for name in names if "." in name]
    every = run(targets.command, "--all", "--target-file", mine).splitlines()
    assert {"mine", "inf2.8xlarge"} <= {line.split()[0] for line in every}


def test_one_in_full_with_sources(mine: str):
    text = run(targets.command, "inf2.8xlarge")
    assert "family inf2, figures of inf2.8xlarge; from neuron.toml" in text
    assert "1.96786 USD an hour, 2026-02-09, us-east-1, Linux, on demand" in text
    assert "47.5 TFLOPS a chip / 2 cores" in text
    assert "from " + mine in run(targets.command, "mine", "--target-file", mine)


def test_json_has_all_figures_and_sources(mine: str):
    rows = json.loads(run(targets.command, "--json", "--target-file", mine))
    assert [t.name for t in all_targets([mine])] == [row["name"] for row in rows]
    one = json.loads(run(targets.command, "mine", "--json", "--target-file", mine))
    assert one in rows
    assert 48 == one["devices"][0]["cores"] == one["figures"]["devices.cpu.cores"]
    assert mine == one["figure_sources"]["devices.cpu.cores"]
    inf2 = next(row for row in rows if row["name"] == "inf2")
    assert (False, False) == (inf2["build"], inf2["run"])


def test_a_plan_for_hardware_that_is_not_here(model: str):
    text = run(plan.command, model, "--target", "inf2.8xlarge", "--passes")
    assert "target   inf2.8xlarge" in text
    assert "legalise-dtypes{dtypes=" + "+".join(find_target("inf2").dtypes) + "}" in text
    assert "warning" not in text


def test_a_plan_without_a_backend_that_is_not_installed(model: str, tmp_path: Path):
    path = tmp_path / "far.toml"
    path.write_text(FAR)
    text = run(plan.command, model, "--target", "far", "--target-file", str(path))
    assert "warning  the backend 'far' is not installed: others are planned for its part" in text
    assert "[onnx]" in text


def test_a_plan_for_a_target_of_ones_own(model: str, mine: str):
    text = run(plan.command, model, "--target", "mine", "--target-file", mine)
    assert "target   mine" in text
    assert "warning" not in text


def test_a_build_without_the_backend_is_refused_before_the_model_is_loaded(tmp_path: Path):
    (tmp_path / "model.py").write_text("raise RuntimeError('loaded')")
    with pytest.raises(UsageError, match="needs the backend 'neuron'"):
        run(build.command, str(tmp_path / "model.py"), "--target", "inf2")
    assert ["model.py"] == [p.name for p in tmp_path.iterdir()]


def test_a_wrong_file_is_refused_before_the_model_is_loaded(tmp_path: Path):
    (tmp_path / "model.py").write_text("raise RuntimeError('loaded')")
    (tmp_path / "bad.toml").write_text("[targets.mine]\nbase = 'xeon'\ncopies = 0\n")
    for command in (build.command, plan.command):
        with pytest.raises(UsageError, match="0 is not from 1 to 4096"):
            run(command, str(tmp_path / "model.py"), "--target-file", str(tmp_path / "bad.toml"))
