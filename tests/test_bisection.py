"""Bundles that are wrong in one place, and whether that place is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.backends.onnx import compile as onnx_compile
from partitioner.bisection import bisect_bundle
from partitioner.cli.bisect import command
from partitioner.errors import ModelError
from partitioner.findings import Finding
from partitioner.passes.base import Pass
from partitioner.passes.pipeline import DEFAULT, PASSES
from partitioner.program import Program

aten = torch.ops.aten


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 64)
        self.outer = nn.Linear(64, 16)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.gelu(self.inner(torch.tanh(x)))
        hidden = hidden * torch.sigmoid(hidden - t)
        return self.outer(hidden)


class Pipeline(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.denoiser = Denoiser()
        self.decoder = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor, *, steps: int = 4) -> dict[str, torch.Tensor]:
        x = x + torch.randn(2, 16)
        for t in torch.linspace(1, 0, steps):
            x = x - 0.3 * self.denoiser(x, t)
        return {"picture": self.decoder(x)}


EXAMPLE = {"x": torch.linspace(-1, 1, 32).reshape(2, 16)}


def built(folder: Path, **options: Any) -> Path:
    path = folder / "small.bundle"
    partitioner.build(Pipeline(), EXAMPLE, output=path, parity=False, **options)
    return path


def bisect(path: Path, model: nn.Module | None = None, **options: Any) -> Finding:
    return bisect_bundle(Bundle.open(path), model or Pipeline(), EXAMPLE, **options)


def miscompile(monkeypatch: pytest.MonkeyPatch, op: str, other: str) -> None:
    """A backend that takes one op for another."""
    right = onnx_compile.to_json

    def wrong(*arguments: Any) -> Any:
        document = right(*arguments)
        for node in document["nodes"]:
            if node["target"] == op:
                node["target"] = other
        return document

    monkeypatch.setattr(onnx_compile, "to_json", wrong)


def test_a_healthy_bundle(tmp_path: Path) -> None:
    path = tmp_path / "small.bundle"
    partitioner.build(Pipeline(), EXAMPLE, output=path)
    found = bisect(path)
    assert ("healthy", 0, 0) == (found.kind, found.exit_code, found.compiled)


@pytest.mark.parametrize(
    ("op", "other", "line"),
    [
        ("aten.sigmoid.default", "aten.tanh.default", "hidden * torch.sigmoid"),
        ("aten.tanh.default", "aten.sin.default", "torch.tanh(x)"),
    ],
)
def test_an_op_that_the_backend_computes_wrongly(
    op: str, other: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    miscompile(monkeypatch, op, other)
    found = bisect(built(tmp_path))
    assert ("node", op, "denoiser") == (found.kind, found.op, found.stage.split(".")[0])
    assert line in source_line(found.source)
    assert found.error is not None
    assert found.error > found.tolerance
    assert found.inputs
    assert found.users
    assert 8 == found.exit_code
    assert 2 <= found.compiled <= 7


def source_line(source: str) -> str:
    path, _, rest = source.rpartition(":")
    return Path(path).read_text().splitlines()[int(rest.split()[0]) - 1]


def doctor(monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]) -> None:
    """Builds whose ONNX graphs are changed before they get their digests."""
    compile_ = onnx_compile.OnnxCompiler.compile

    def doctored(*arguments: Any, **options: Any) -> Any:
        compiled = compile_(*arguments, **options)
        model = onnx.load(str(compiled.graph), load_external_data=False)
        change(model)
        compiled.graph.write_bytes(model.SerializeToString(deterministic=True))
        return compiled

    monkeypatch.setattr(onnx_compile.OnnxCompiler, "compile", doctored)


def test_a_bundle_whose_own_graph_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "Sigmoid":
                node.op_type = "Tanh"

    with monkeypatch.context() as patch:
        doctor(patch, change)
        path = built(tmp_path)
    found = bisect(path)
    assert ("graph", "aten.sigmoid.default", 1) == (found.kind, found.op, found.compiled)
    assert "operator Tanh, for Sigmoid" in found.what
    assert "torch.sigmoid" in source_line(found.source)


def test_a_pass_that_changes_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PASSES, "take-sine", "tests.test_bisection:TakeSine")
    found = bisect(built(tmp_path, passes=f"{DEFAULT},take-sine"))
    assert ("pass", 5) == (found.kind, found.exit_code)
    assert "'take-sine' changed the numbers" in found.what
    assert "torch.tanh(x)" in source_line(found.source)


class TakeSine(Pass):
    name = "take-sine"

    def apply(self, program: Program) -> bool:
        for _, graph in program.all_graphs():
            for node in graph.nodes:
                if node.target is aten.tanh.default:
                    node.target = aten.sin.default
        return True


@pytest.mark.parametrize(
    "options", [{"variants": [{"steps": 3}, {"steps": 6}]}, {"accuracy_budget": 1}]
)
def test_a_bundle_of_several_schedules_or_few_bits_is_healthy(options: Any, tmp_path: Path) -> None:
    assert "healthy" == bisect(built(tmp_path, **options)).kind


def test_another_model_is_not_blamed(tmp_path: Path) -> None:
    path = built(tmp_path)
    with pytest.raises(ModelError, match="weights are not the bundle's"):
        bisect(path, Pipeline(seed=1))
    with pytest.raises(ModelError, match=r"the plan.s .*steps"):
        bisect(path, options={"steps": 5})


# --- the verb -----------------------------------------------------------------------------------

MODEL = """
import torch
from tests.test_bisection import EXAMPLE as example_inputs, Pipeline
def pipeline():
    return Pipeline()
"""


def verb(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_the_verb_names_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    model = str(tmp_path / "model.py")
    miscompile(monkeypatch, "aten.sigmoid.default", "aten.tanh.default")
    path = built(tmp_path, options={"steps": 3})
    done = verb(str(path), model)
    assert 8 == done.exit_code, done.output
    assert "op       aten.sigmoid.default" in done.output
    assert "reads" in done.output
    document = json.loads(verb(str(path), model, "--json").output)
    assert (False, "node") == (document["ok"], document["kind"])
    monkeypatch.undo()
    healthy = built(tmp_path, options={"steps": 3}, overwrite=True)
    done = verb(str(healthy), model)
    assert (0, True) == (done.exit_code, done.output.startswith("ok: "))
