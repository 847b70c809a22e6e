"""A bundle in a virtual environment that has the runtime's dependencies and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest

from partitioner.runtime import load
from tests.runtime.samples import IMAGE, count_positive, make_sampler

ROOT = Path(__file__).parents[2]

SERVE = """
import importlib.util, sys
import numpy as np
import partitioner
from partitioner.hostops import host_op

absent = ("torch", "onnx", "onnxscript", "networkx", "click", "rich", "PIL")
found = [name for name in absent if importlib.util.find_spec(name)]
assert not found, found

@host_op(name="tests.count_positive", outputs={"rows": ("float32", (None, 8))})
def count_positive(latent, *, above):
    return latent[latent[:, 0] > above]

bundle, image, result = sys.argv[1:]
with partitioner.load(bundle, host_ops=[count_positive]) as pipe:
    np.savez(result, **pipe(image=np.load(image), seed=11))
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_fresh_environment_gives_the_same_numbers(tmp_path: Path) -> None:
    path = make_sampler(tmp_path / "sampler.bundle")
    expected = load(path, host_ops=[count_positive])(image=IMAGE, seed=11)
    np.save(tmp_path / "image.npy", IMAGE)

    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    versions = [f"{name}=={__import__(name).__version__}" for name in ("numpy", "onnxruntime")]
    installed = run(
        python,
        "-m",
        "pip",
        "install",
        "-q",
        f"{copy_of_checkout(tmp_path)}[onnx]",
        *versions,
        cwd=tmp_path,
    )
    if installed.returncode and "No matching distribution" in installed.stderr:
        pytest.skip("no package index can be reached")
    assert 0 == installed.returncode, installed.stderr

    result = tmp_path / "result.npz"
    served = run(python, "-c", SERVE, path, tmp_path / "image.npy", result, cwd=tmp_path)
    assert (0, "", "") == (served.returncode, served.stdout, served.stderr)
    with np.load(result) as actual:
        assert set(expected) == set(actual.files)
        for name, array in expected.items():
            np.testing.assert_array_equal(array, actual[name])


def copy_of_checkout(folder: Path) -> Path:
    """The packages and what builds them: making a wheel in place would leave files behind."""
    copy = folder / "checkout"
    for name in ("partitioner", "backends", "passes", "artifacts"):
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    return copy
