"""The command line as users and scripts meet it: output, JSON, exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import partitioner
from tests.cli.verbs import partition, partition_process

MODEL = """
import torch
linear = torch.nn.Linear(3, 3)
torch.nn.init.eye_(linear.weight)
torch.nn.init.zeros_(linear.bias)
def pipeline(x, *, scale: float = 2.0):
    return {"y": linear(x) * scale}
example_inputs = {"x": torch.ones(1, 3)}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a bundle of it."""
    path = tmp_path_factory.mktemp("cli")
    (path / "model.py").write_text(MODEL)
    done = partition_process("build", "model.py", "--set", "scale=3", "--json", cwd=path)
    assert 0 == done.returncode, done.stderr
    document = json.loads(done.stdout)
    assert str(path / "model.bundle") == document["path"]
    assert document["digest"].startswith("sha256:")
    return path


def test_help_teaches() -> None:
    done = partition("--help")
    assert 0 == done.returncode
    for verb in ("build", "run", "verify", "inspect", "targets", "doctor"):
        assert verb in done.stdout


def test_version() -> None:
    assert partitioner.__version__ in partition("--version").stdout


def test_run_writes_arrays(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    done = partition("run", str(folder / "model.bundle"), "-i", "x=1,2,3", "-o", str(out))
    assert 11 == done.returncode  # (3,) is not (1, 3)
    np.save(tmp_path / "x.npy", np.array([[1, 2, 3]], np.float32))
    given = f"x={tmp_path / 'x.npy'}"
    done = partition("run", str(folder / "model.bundle"), "-i", given, "-o", str(out), "--json")
    assert 0 == done.returncode, done.stderr
    assert {"dtype": "float32", "shape": [1, 3]} == json.loads(done.stdout)["outputs"]["y"]
    assert [[3, 6, 9]] == np.load(out)["y"].tolist()
    assert (
        0
        == partition(
            "run", str(folder / "model.bundle"), "-i", given, "-o", str(tmp_path / "many")
        ).returncode
    )
    assert [[3, 6, 9]] == np.load(tmp_path / "many" / "y.npy").tolist()


def test_verify_and_inspect(folder: Path) -> None:
    done = partition("verify", str(folder / "model.bundle"), "--json")
    assert json.loads(done.stdout)["ok"] is True
    done = partition("inspect", str(folder / "model.bundle"), "--check")
    assert 0 == done.returncode
    assert "linear" in done.stdout
    assert "digest" in done.stdout
    # One float32[1, 3], which the caller gets.
    assert "memory   12 B a run: arena 0 B; outputs 12 B\n" in done.stdout
    document = json.loads(partition("inspect", str(folder / "model.bundle"), "--json").stdout)
    assert 12 == document["memory"]["peak"]
    assert {"scale": 3} == {k: document["options"][k] for k in ("scale",)}


def test_targets_and_doctor() -> None:
    rows = json.loads(partition("targets", "--json").stdout)
    assert "cpu" in [row["name"] for row in rows]
    done = partition("doctor", "--json")
    assert 0 == done.returncode
    assert json.loads(done.stdout)["libraries"]["run"]["onnxruntime"]


def test_serving_verbs_import_no_torch(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 3), np.float32))
    for arguments in (
        ["run", str(folder / "model.bundle"), "-i", f"x={tmp_path / 'x.npy'}"],
        ["verify", str(folder / "model.bundle")],
        ["inspect", str(folder / "model.bundle")],
        ["targets"],
        ["doctor"],
    ):
        script = (
            "import atexit, sys\n"
            "atexit.register(lambda: print('TORCH' if 'torch' in sys.modules else 'CLEAN'))\n"
            "from partitioner.cli import main\n"
            f"main({arguments!r})"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert "CLEAN" == done.stdout.strip().splitlines()[-1], arguments


# --- exit codes ---------------------------------------------------------------------------------


def failing(code: int, *arguments: str, cwd: Path, run: Any = partition) -> dict[str, Any]:
    """The error of a failing call; the exit code is the documented one, with and without JSON."""
    done = run(*arguments, "--json", cwd=cwd)
    assert code == done.returncode, done.stdout + done.stderr
    error = json.loads(done.stdout)["error"]
    assert code == error["exit_code"]
    assert error["what"]
    return error


def model(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text("import torch\nexample_inputs = {'x': torch.ones(2)}\n" + text)
    return name


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (3, "def pipeline(x:\n"),
        (4, "def pipeline(x):\n    return x if x.sum() > 0 else -x\n"),
        (6, "def pipeline(x):\n    return torch.linalg.lu_factor(torch.diag(x))[0]\n"),
        (8, "def pipeline(x):\n    return torch.log(-x)\n"),
    ],
)
def test_a_failing_build_says_why_and_leaves_nothing(code: int, text: str, tmp_path: Path) -> None:
    error = failing(code, "build", model(tmp_path, "m.py", text), cwd=tmp_path)
    assert error["advice"]
    assert ["m.py"] == _names(tmp_path)


def test_the_exit_codes_of_processes(folder: Path, tmp_path: Path) -> None:
    text = "def pipeline(x):\n    return x if x.sum() > 0 else -x\n"
    made = model(tmp_path, "m.py", text)
    failing(4, "build", made, cwd=tmp_path, run=partition_process)
    assert ["m.py"] == _names(tmp_path)
    bundle = str(folder / "model.bundle")
    failing(11, "run", bundle, cwd=folder, run=partition_process)
    assert 0 == partition_process("verify", bundle).returncode
    assert 2 == partition_process("nonsense").returncode


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != "__pycache__"]


def test_usage_input_output_and_bundle_errors(folder: Path, tmp_path: Path) -> None:
    bundle = str(folder / "model.bundle")
    assert "UsageError" == failing(2, "build", "model.py", "--target", "cpuu", cwd=folder)["kind"]
    assert "UsageError" == failing(2, "build", "model.py", "--set", "sclae=3", cwd=folder)["kind"]
    assert "OutputError" == failing(12, "build", "model.py", cwd=folder)["kind"]
    assert "InputError" == failing(11, "run", bundle, cwd=folder)["kind"]
    assert "InputError" == failing(11, "run", bundle, "-i", "z=1", cwd=folder)["kind"]
    assert "BundleError" == failing(9, "run", "nothing.bundle", cwd=folder)["kind"]
    assert 2 == partition("run").returncode
    assert 2 == partition("nonsense").returncode

    damaged = tmp_path / "damaged.bundle"
    shutil.copytree(bundle, damaged)
    largest = max((damaged / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    largest.chmod(0o644)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    assert "BundleError" == failing(9, "verify", str(damaged), cwd=folder)["kind"]
    largest.unlink()
    assert "BundleError" == failing(9, "inspect", "--check", str(damaged), cwd=folder)["kind"]


def test_errors_for_people_go_to_standard_error(tmp_path: Path) -> None:
    done = partition_process("run", "nothing.bundle", cwd=tmp_path)
    assert 9 == done.returncode
    assert "" == done.stdout
    assert "error: " in done.stderr
    assert "to do: " in done.stderr
