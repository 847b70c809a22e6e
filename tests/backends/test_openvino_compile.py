"""Segments to OpenVINO: numbers, bytes, weights outside, packed weights, and the ladder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from partitioner.artifacts.writer import BundleWriter
from partitioner.backends.base import CompileOptions, Rejected, Supported
from partitioner.backends.execution import ArtifactFiles, DeviceOptions
from partitioner.backends.onnx.compile import OnnxCompiler
from partitioner.backends.openvino.compile import OpenvinoCompiler
from partitioner.backends.openvino.execute import OpenvinoExecutor
from partitioner.backends.openvino.library import core, openvino
from partitioner.backends.openvino.table import OPS
from partitioner.backends.worker import run_job, stop_worker
from partitioner.capture import capture
from partitioner.compression.ops import OVERLOAD, matmul_nbits
from partitioner.compression.quantise import by_block
from partitioner.errors import CompileError
from partitioner.passes.pipeline import DEFAULT, parse_pipeline, run_pipeline
from partitioner.planning.cuts import info_of
from partitioner.planning.segments import Segment
from partitioner.program import TensorType, add_node
from partitioner.targets import find_target
from partitioner.weights import lay_out
from tests.backends.openvino_ops import EXAMPLES
from tests.backends.test_onnx_compile import Attention, Volume


def segment_of(module: nn.Module, x: torch.Tensor) -> tuple[Segment, dict[str, torch.Tensor]]:
    """All of a module as one segment, and its constants."""
    program = capture(module, {"x": x}).program
    program, _ = run_pipeline(program, parse_pipeline(DEFAULT))
    placeholders = [n for n in program.main.nodes if n.op == "placeholder"]
    results = tuple(n.name for n in program.main.output_node().args[0])
    names = tuple(n.name for n in placeholders)
    segment = Segment("all", "openvino", program.main, names, results, ("inner",), ("m.py:3",))
    return segment, program.constants


def compiled(
    segment: Segment, constants: dict[str, torch.Tensor], folder: Path, **options: Any
) -> tuple[Any, Any, Any]:
    """(executable, what the compiler gave, the files)."""
    compiler = OpenvinoCompiler()
    writer = BundleWriter(folder / "bundle")
    writer.__enter__()
    layout = lay_out(constants, compiler.outside(segment, constants), writer)
    made = compiler.compile(
        segment, constants, layout, CompileOptions(folder, writer.blobs_dir, **options)
    )
    weights = made.weight_files(writer.blob_path)
    files = ArtifactFiles(made.graph, writer.blobs_dir, weights, made.options, info_of(segment))
    executable = OpenvinoExecutor().load(files, DeviceOptions(cache=False))
    return executable, made, files


class Stem(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.mark.parametrize(("inner", "shape"), [(Attention, (1, 10, 32)), (Volume, (1, 2, 5, 5, 5))])
def test_the_numbers_are_torchs(inner: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    module, x = Stem(inner()).eval(), torch.randn(shape, generator=torch.Generator().manual_seed(3))
    segment, constants = segment_of(module, x)
    executable, made, _ = compiled(segment, constants, tmp_path)
    (actual,) = executable(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(actual, module(x).numpy(), rtol=1e-4, atol=1e-5)
    assert [{"settings": "normal", "outcome": "runs"}] == made.report["steps"]
    assert {"precision": "f32"} == made.options


def test_both_backends_read_the_same_weights(tmp_path: Path) -> None:
    segment, constants = segment_of(Stem(Attention()).eval(), torch.randn(1, 10, 32))
    ours, theirs = OpenvinoCompiler(), OnnxCompiler()
    assert theirs.outside(segment, constants) == ours.outside(segment, constants)
    _, made, files = compiled(segment, constants, tmp_path)
    assert 1 == len(made.weights)
    # Beside the weights there are but small numbers, such as shapes.
    assert files.weights[-1].stat().st_size < 2000
    text = files.graph.read_text()
    assert 1 == text.count('type="Parameter"')


def test_the_same_segment_gives_the_same_bytes(tmp_path: Path) -> None:
    """In one worker and in another; the converter's own names hold a counter."""
    found = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        segment, constants = segment_of(Stem(Attention()).eval(), torch.randn(1, 10, 32))
        _, _, files = compiled(segment, constants, tmp_path / name)
        found.append((files.graph.read_bytes(), files.weights[-1].read_bytes()))
        if name == "b":
            stop_worker()
    assert found[0] == found[1] == found[2]
    for text in (str(tmp_path), str(Path.home()) + "/", "test_openvino_compile"):
        assert text.encode() not in found[0][0]


# --- the ladder ---------------------------------------------------------------------------------


class Chain(nn.Module):
    """Residual MLP blocks, on which OpenVINO 2026.4 crashes."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Linear(width, width)) for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def test_a_crash_is_an_outcome(tmp_path: Path) -> None:
    """A segmentation fault of OpenVINO's with the default settings; other versions may differ."""
    module, x = Stem(Chain()).eval(), torch.randn(4, 64)
    segment, constants = segment_of(module, x)
    log = tmp_path / "log.txt"
    executable, made, _ = compiled(segment, constants, tmp_path, log=log)

    (actual,) = executable(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(actual, module(x).numpy(), rtol=1e-4, atol=1e-5)
    steps = made.report["steps"]
    if openvino().__version__.startswith("2026.4"):
        assert [
            {"settings": "normal", "outcome": "crashed with SIGSEGV"},
            {"settings": "snippets off", "outcome": "runs"},
        ] == steps
        assert {"snippets": False, "precision": "f32"} == made.options
        assert not made.limited
    for step in steps:
        assert f"segment 'all': {step['settings']}: {step['outcome']}" in log.read_text()


def test_a_segment_that_runs_under_no_settings_says_what_was_tried(tmp_path: Path) -> None:
    """Too little address space for OpenVINO's own threads and libraries, whatever the settings."""
    segment, constants = segment_of(Stem(Attention()).eval(), torch.randn(1, 10, 32))
    from partitioner.backends.openvino.ladder import climb

    _, made, files = compiled(segment, constants, tmp_path)
    (tmp_path / "again").mkdir()
    options = CompileOptions(tmp_path, files.blobs_dir, memory_bytes=2**28)
    with pytest.raises(CompileError, match=r"normal: .*snippets off: .*dynamic shapes: ") as caught:
        climb(segment, made.graph, files.weights, tmp_path / "again", options)
    assert "m.py:3" in str(caught.value)


def test_settings_found_after_a_time_limit_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every first rung is one that does not end in time."""
    segment, constants = segment_of(Stem(Attention()).eval(), torch.randn(1, 10, 32))

    def run(function: str, job: Path, **rest: Any) -> Any:
        if job.name == "rung_0":
            rest["timeout_s"] = 0.0
        return run_job(function, job, **rest)

    monkeypatch.setattr("partitioner.backends.openvino.ladder.run_job", run)
    _, made, _ = compiled(segment, constants, tmp_path)
    outcomes = [step["outcome"] for step in made.report["steps"]]
    assert (["did not end within 0 s", "runs"], True) == (outcomes, made.limited)
    assert (
        OpenvinoCompiler()
        .cache_facts(segment, find_target("cpu"), CompileOptions(tmp_path, tmp_path))
        .limited
    )


def test_a_graph_that_cannot_be_converted_names_the_line(tmp_path: Path) -> None:
    segment, constants = segment_of(Stem(Attention()).eval(), torch.randn(1, 10, 32))
    node = next(n for n in segment.graph.nodes if "gelu" in str(n.target))
    node.target, node.args, node.kwargs = (
        torch.ops.aten.special_bessel_j0.default,
        node.args[:1],
        {},
    )
    with pytest.raises(CompileError, match="OpenVINO cannot convert") as caught:
        compiled(segment, constants, tmp_path)
    assert "test_onnx_compile.py" in str(caught.value.where)


# --- packed weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("k", [64, 1024])
def test_packed_weights_stay_packed(bits: int, k: int, tmp_path: Path) -> None:
    """Of both kinds: inside of the graph (small) and in a blob."""
    generator = torch.Generator().manual_seed(0)
    n = 256
    packed = by_block(torch.randn(k, n, generator=generator), bits, 32)
    constants = {"s.packed": packed.packed, "s.scales": packed.scales}
    x_type, y_type = TensorType((8, k), torch.float32), TensorType((8, n), torch.float32)
    graph = torch.fx.Graph()
    x = add_node(graph, "placeholder", "x", type=x_type, name="x")
    codes, scales = (
        add_node(graph, "get_attr", name, type=TensorType.of(tensor))
        for name, tensor in constants.items()
    )
    y = add_node(graph, "call_function", OVERLOAD, (x, codes, scales, k, n, bits, 32), type=y_type)
    graph.output((y,))
    segment = Segment("packed", "openvino", graph, ("x",), (y.name,), (), ())
    given = torch.randn(8, k, generator=generator)

    executable, made, _ = compiled(segment, constants, tmp_path)
    (actual,) = executable(given.numpy())

    expected = matmul_nbits(given, packed.packed, packed.scales, k, n, bits, 32)
    # The reference rounds the other operand to 8 bits, OpenVINO does not.
    assert np.linalg.norm(actual - expected.numpy()) < 0.01 * np.linalg.norm(expected.numpy())
    if k == 1024:
        assert made.graph.read_text().count(f'element_type="u{bits}"') == 1


# --- verdicts -----------------------------------------------------------------------------------


def verdict(op: Any, dtype: torch.dtype, shape: tuple[Any, ...] = (2,)) -> Any:
    type_ = TensorType(shape, dtype)
    graph = torch.fx.Graph()
    x = add_node(graph, "placeholder", "x", type=type_, name="x")
    node = add_node(graph, "call_function", op, (x,), type=type_, source="m.py:5")
    return OpenvinoCompiler().verdict(node, find_target("cpu"))


@pytest.mark.parametrize(
    ("dtype", "op", "shape", "code"),
    [
        (torch.float32, torch.ops.aten.special_bessel_j0.default, (2,), "unproven"),
        (torch.float64, torch.ops.aten.sin.default, (2,), "dtype"),
        (torch.bfloat16, torch.ops.aten.sin.default, (2,), "dtype"),
        (torch.float32, torch.ops.aten.sin.default, (None,), "dynamic-shape"),
        (torch.float32, torch.ops.aten.sin.default, (0, 3), "configuration"),
    ],
)
def test_verdicts_say_why(dtype: torch.dtype, op: Any, shape: Any, code: str) -> None:
    found = verdict(op, dtype, shape)
    assert isinstance(found, Rejected)
    assert (code, "m.py:5") == (found.code, found.source)
    assert Supported() == verdict(torch.ops.aten.sin.default, torch.float32)


def test_the_table_is_what_there_are_examples_of() -> None:
    assert EXAMPLES.keys() == OPS


@pytest.mark.parametrize("part", range(8))
def test_every_op_of_the_table_gives_torchs_numbers(part: int) -> None:
    """An eighth of the ops in one model, converted and compiled by the installed OpenVINO."""
    names = list(EXAMPLES)[part::8]
    module = _Calls(names)
    given = module.tensors
    expected = module(*given)
    ov = openvino()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, given, strict=False)
        types = [(ov.PartialShape(list(t.shape)), ov.Type(t.numpy().dtype)) for t in given]
        named = dict(zip(exported.graph_signature.user_inputs, types, strict=True))
        model = ov.convert_model(exported, input=named)
    run = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    # Not in the order of the arguments, where those are many.
    arrays = {name: t.numpy() for name, t in zip(named, given, strict=True)}
    actual = run([arrays[parameter.get_friendly_name()] for parameter in model.get_parameters()])
    wrong = {
        name
        for index, (name, want) in enumerate(zip(module.made_by, expected, strict=True))
        if not np.allclose(actual[index], want.numpy(), rtol=1e-4, atol=1e-5)
    }
    assert set() == wrong


class _Calls(nn.Module):
    """Calls ops on their examples, whose tensors are the inputs.

    Attributes:
        made_by: the op that makes each output; of the last call.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.leaves, self.spec = pytree.tree_flatten([EXAMPLES[name] for name in names])
        self.at = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, torch.Tensor)]
        self.tensors = tuple(self.leaves[i] for i in self.at)
        self.made_by: list[str] = []

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = list(self.leaves)
        for index, tensor in zip(self.at, tensors, strict=True):
            leaves[index] = tensor
        results: list[torch.Tensor] = []
        self.made_by = []
        calls = pytree.tree_unflatten(leaves, self.spec)
        for name, (args, kwargs) in zip(self.names, calls, strict=True):
            _, op, overload = name.split(".")
            found = getattr(getattr(torch.ops.aten, op), overload)(*args, **kwargs)
            own = [t for t in pytree.tree_leaves(found) if isinstance(t, torch.Tensor)]
            self.made_by += [name] * len(own)
            results += own
        return tuple(results)
