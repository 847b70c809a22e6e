"""Segments to ONNX: numbers, bytes, weights outside, and errors with source lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from partitioner.artifacts.digest import digest_file
from partitioner.artifacts.writer import BundleWriter
from partitioner.backends.base import CompileOptions, Rejected
from partitioner.backends.execution import ArtifactFiles, DeviceOptions
from partitioner.backends.onnx.compile import OnnxCompiler
from partitioner.backends.onnx.execute import OnnxExecutor
from partitioner.backends.worker import stop_worker
from partitioner.capture import capture
from partitioner.errors import CompileError
from partitioner.passes.pipeline import DEFAULT, parse_pipeline, run_pipeline
from partitioner.planning.plan import make_plan
from partitioner.program import TensorType, add_node
from partitioner.targets import find_target
from partitioner.weights import lay_out


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv = nn.Linear(32, 96)
        self.out = nn.Linear(32, 32)
        self.norm = nn.LayerNorm(32)
        self.mlp = nn.Sequential(nn.Linear(32, 128), nn.GELU("tanh"), nn.Linear(128, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).view(1, 10, 3, 4, 8).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 10, 32)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm(x))


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv3d(2, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.second = nn.Conv3d(8, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x, scale_factor=2, mode="trilinear")
        codes = (x[:, :1] - torch.linspace(-1, 1, 5).view(1, 5, 1, 1, 1)).abs().argmin(1)
        return self.second(F.silu(self.norm(self.first(x)))) + codes.unsqueeze(1)


def planned(module: nn.Module, x: torch.Tensor) -> Any:
    program = capture(module, {"x": x}).program
    program, _ = run_pipeline(program, parse_pipeline(DEFAULT))
    compiler = OnnxCompiler()
    return program, make_plan(program, find_target("cpu"), {"onnx": compiler}), compiler


def compiled(module: nn.Module, x: torch.Tensor, folder: Path) -> tuple[Any, Any, Path, Any]:
    """(executable, artifact, ONNX file, layout) of a module that is one segment."""
    program, plan, compiler = planned(module, x)
    ((name, segment),) = plan.segments.items()
    writer = BundleWriter(folder / "bundle")
    writer.__enter__()
    layout = lay_out(program.constants, compiler.outside(segment, program.constants), writer)
    options = CompileOptions(folder, writer.blobs_dir)
    made = compiler.compile(segment, program.constants, layout, options)
    files = ArtifactFiles(
        made.graph,
        writer.blobs_dir,
        tuple(writer.blob_path(w) for w in made.weights),
        made.options,
        plan.plan.segments[name],
    )
    return OnnxExecutor().load(files, DeviceOptions()), made, made.graph, layout


class Stem(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.mark.parametrize(("inner", "shape"), [(Attention, (1, 10, 32)), (Volume, (1, 2, 5, 5, 5))])
def test_the_numbers_are_torchs(inner: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    module, x = Stem(inner()).eval(), torch.randn(shape, generator=torch.Generator().manual_seed(3))
    executable, *_ = compiled(module, x, tmp_path)
    (actual,) = executable(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(actual, module(x).numpy(), rtol=1e-5, atol=1e-5)


def test_weights_lie_outside_once(tmp_path: Path) -> None:
    _, made, graph, layout = compiled(Stem(Attention()).eval(), torch.randn(1, 10, 32), tmp_path)
    model = onnx.load(str(graph), load_external_data=False)
    outside = [t for t in model.graph.initializer if t.external_data]
    assert len(layout) == len(outside)
    assert {"x"} == {value.name for value in model.graph.input}
    assert 1 == len(made.weights)
    assert graph.stat().st_size < 20_000
    # No node of the graph transposes a weight: the pass did it at build time.
    names = {t.name for t in outside}
    transposed = [n for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in names]
    assert [] == transposed


def test_the_same_segment_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        *_, graph, _ = compiled(Stem(Attention()).eval(), torch.randn(1, 10, 32), tmp_path / name)
        digests.append(digest_file(graph))
        if name == "a":
            stop_worker()
    assert digests[0] == digests[1]


def test_nothing_of_the_machine_is_in_the_file(tmp_path: Path) -> None:
    *_, graph, _ = compiled(Stem(Attention()).eval(), torch.randn(1, 10, 32), tmp_path)
    data = graph.read_bytes()
    for text in (b"/", str(Path.home()).encode() + b"/", b"test_onnx_compile"):
        assert text == b"/" or text not in data


@pytest.mark.parametrize(
    ("dtype", "op", "code"),
    [
        (torch.float32, torch.ops.aten.special_bessel_j0.default, "op-unsupported"),
        (torch.bfloat16, torch.ops.aten.sin.default, "dtype"),
        (torch.complex64, torch.ops.aten.sin.default, "dtype"),
    ],
)
def test_verdicts_say_why(dtype: torch.dtype, op: Any, code: str) -> None:
    type_ = TensorType((2,), dtype)
    graph = torch.fx.Graph()
    x = add_node(graph, "placeholder", "x", type=type_, name="x")
    node = add_node(graph, "call_function", op, (x,), type=type_, source="m.py:5")
    verdict = OnnxCompiler().verdict(node, find_target("cpu"))
    assert isinstance(verdict, Rejected)
    assert (code, "m.py:5") == (verdict.code, verdict.source)


def test_an_op_that_the_exporter_refuses_names_the_line(tmp_path: Path) -> None:
    module = Stem(Attention()).eval()
    program, plan, compiler = planned(module, torch.randn(1, 10, 32))
    ((_, segment),) = plan.segments.items()
    node = next(n for n in segment.graph.nodes if "gelu" in str(n.target))
    node.target = torch.ops.aten.special_bessel_j0.default
    node.args, node.kwargs = node.args[:1], {}
    with BundleWriter(tmp_path / "bundle") as writer:
        layout = lay_out(program.constants, compiler.outside(segment, program.constants), writer)
        with pytest.raises(CompileError) as caught:
            compiler.compile(
                segment, program.constants, layout, CompileOptions(tmp_path, writer.blobs_dir)
            )
    assert caught.value.where is not None
    assert "test_onnx_compile.py" in caught.value.where
