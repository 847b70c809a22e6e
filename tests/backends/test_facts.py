"""Digests of our own code: nothing that takes part in compiling or running is left out."""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from partitioner.backends.facts import OURS, SHARED, code_digest

ROOT = Path(__file__).parents[2]

#: What compilers import and no artifact depends on: types, formats of files, errors; and what is
#: asked before anything is compiled (verdicts, quantisation) or beside it (checks of segments).
HARMLESS = (
    "partitioner.artifacts",
    "partitioner.backends.facts",
    "partitioner.backends.probing",
    "partitioner.backends.support_table",
    "partitioner.backends.verdicts",
    "partitioner.compression.rewrite",
    "partitioner.compression.static",
    "partitioner.errors",
    "partitioner.plan",
    "partitioner.planning.cost",
    "partitioner.reference",
    "partitioner.runtime",
    "partitioner.specs",
    "partitioner.targets",
)


def test_all_our_code_is_in_its_digest() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        setuptools = tomllib.load(file)["tool"]["setuptools"]
    assert set(setuptools["package-dir"]) == set(OURS)


@pytest.mark.parametrize("backend", ["onnx", "openvino", "neuron"])
def test_all_code_that_compiles_is_in_the_keys_of_segments(backend: str) -> None:
    known = (f"partitioner.backends.{backend}", *SHARED, *HARMLESS)
    for name in imported(ROOT / "backends" / backend):
        assert any(name == one or name.startswith(f"{one}.") for one in known), name


def imported(folder: Path) -> Iterator[str]:
    """The modules of this project that a backend's modules import."""
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("partitioner."):
                yield str(node.module)


def test_code_counts_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_module.py", "own_package/__init__.py", "own_namespace/part.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
        module = name.partition("/")[0].removesuffix(".py")
        importlib.invalidate_caches()
        before = code_digest(module)
        (tmp_path / name).write_text("x = 2\n")
        code_digest.cache_clear()
        assert before != code_digest(module)
