"""Several requests on the command line: what is read, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from partitioner.cli import main
from partitioner.cli.outputs import flat_outputs, write_outputs

MODEL = """
import torch
layer = torch.nn.Linear(3, 3)
def pipeline(x, scale):
    return layer(x) * scale
example_inputs = {"x": torch.ones(1, 3), "scale": torch.tensor(2.0)}
batched = ("x",)
"""

GOLDEN = Path(__file__).parents[1] / "artifacts" / "data" / "golden" / "1.4-batches"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_inputs_and_seeds_for_each_request(tmp_path: Path) -> None:
    given = ["-i", "x=1,2,3,4", "-i", "x=5,6,7,8", "-i", "x=1,2,3,4"]
    run("run", str(GOLDEN), *given, "--seed", "1,2,1", "-o", str(tmp_path / "all.npz"))
    state = np.load(tmp_path / "all.npz")["state"]
    assert (3, 8) == state.shape
    np.testing.assert_allclose(state[0], state[2], rtol=1e-5)
    assert not np.allclose(state[0], state[1])


def test_buckets_are_shown() -> None:
    assert "target=cpu,batch=2" in run("inspect", str(GOLDEN))
    shown = run("inspect", str(GOLDEN), "--variant", "batch=2")
    assert "batch    2 requests at once; rows in x; rows out state" in shown


def test_each_bucket_is_verified() -> None:
    shown = run("verify", str(GOLDEN))
    assert all(f"target=cpu,batch={rows}: output state" in shown for rows in (1, 2))


def test_bundles_with_buckets_are_compared_by_the_smallest() -> None:
    assert run("diff", str(GOLDEN), str(GOLDEN))


def test_plans_are_for_one_size(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text(MODEL)
    plan = json.loads(run("plan", str(model), "--batch", "5", "--json"))
    assert (5, "float32[5, 3]", "float32[]") == (plan["rows"], *plan["inputs"].values())
    refused = CliRunner().invoke(main, ["plan", str(model), "--batch", "1,5"])
    assert (2, True) == (refused.exit_code, "one batch size" in refused.output)


@pytest.mark.parametrize("suffix", [".png", ".glb"])
def test_each_request_has_a_file(tmp_path: Path, suffix: str) -> None:
    corners = np.eye(3, dtype=np.float32)
    mesh = {"vertices": [corners, corners], "faces": [np.array([[0, 1, 2]], np.int32)] * 2}
    outputs = mesh if suffix == ".glb" else {"image": np.zeros((2, 3, 4, 4), np.float32)}
    written = write_outputs(tmp_path / f"a{suffix}", outputs)
    assert [f"a.0{suffix}", f"a.1{suffix}"] == [path.name for path in written]
    assert all(path.is_file() for path in written)


def test_lists_are_arrays_by_number() -> None:
    one, two = np.zeros(1), np.zeros(2)
    assert {"a.0": one, "a.1": two, "b": one} == flat_outputs({"a": [one, two], "b": one})
