"""What serving code imports, looked at in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.runtime.samples import make_identity

HEAVY = ("torch", "onnx", "onnxscript", "networkx", "click", "rich", "PIL", "scipy", "skimage")


def loaded(code: str) -> set[str]:
    """The top-level modules that are loaded after running code."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in result.stdout.split()}


def test_importing_the_runtime() -> None:
    modules = loaded("import partitioner.runtime")

    assert set() == modules & {*HEAVY, "onnxruntime"}
    assert "numpy" in modules


def test_loading_and_running_a_bundle(tmp_path: Path) -> None:
    path = make_identity(tmp_path / "b")
    modules = loaded(
        f"import partitioner, numpy\npartitioner.load({str(path)!r})(x=numpy.zeros(2))"
    )

    assert set() == modules & set(HEAVY)
    assert "onnxruntime" in modules


def test_importing_the_package_alone_imports_nothing() -> None:
    assert set() == loaded("import partitioner") & {*HEAVY, "onnxruntime", "numpy"}
