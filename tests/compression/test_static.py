"""Products in 8 bits on both sides: what NNCF finds, what is built of it, what is kept instead."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.backends.base import CompileOptions
from partitioner.backends.openvino.quantise import quantise
from partitioner.cli.bisect import command as bisect_verb
from partitioner.cli.build import command as build_verb
from partitioner.compressing import compress
from partitioner.compression.rewrite import STATIC, compressed
from partitioner.compression.static import LARGEST, StaticProduct, merged
from partitioner.errors import ModelError, UsageError
from partitioner.frontend import prepare
from partitioner.prepared import Prepared
from partitioner.program import Program
from tests.backends.test_openvino_compile import segment_of

WIDTH = 64
CODES, SCALES = torch.zeros(2, 2, dtype=torch.int8), torch.ones(1, 2)
FAKE = torch.ops.aten.fake_quantize_per_tensor_affine.default

numbers = st.floats(2**-20, 2**20, width=32) | st.just(0.0)


def product(low: float, high: float) -> StaticProduct:
    return StaticProduct(CODES, SCALES, low, high)


@given(numbers, numbers, st.floats(0, 1))
def test_numbers_of_the_range_are_off_by_half_a_step(low: float, high: float, share: float) -> None:
    found = product(-low, high)
    x = torch.tensor(-low + share * (low + high))
    rounded = FAKE(x, found.step, found.zero, 0, LARGEST)
    # The zero is a whole code, so either end may lie half a step outside.
    assert abs(float(rounded - x)) <= found.step * 1.001
    assert 0.0 == float(FAKE(torch.zeros(()), found.step, found.zero, 0, LARGEST))


def test_ranges_of_several_segments_are_widened() -> None:
    found = merged([{"w": product(-1, 2)}, {"w": product(-3, 1), "v": product(0, 1)}, {}])
    assert {"w": (-3, 2), "v": (0, 1)} == {n: (p.low, p.high) for n, p in found.items()}


class Blocks(nn.Module):
    """A loop of a residual block with a convolution, whose weights are just worth it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(WIDTH, WIDTH)
        self.denoiser = Block()

    def forward(self, x: torch.Tensor, steps: int = 3) -> torch.Tensor:
        state = self.encoder(x)
        for step in range(steps):
            state = state - self.denoiser(state) / (step + 2)
        return state


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Linear(WIDTH, 2 * WIDTH)
        self.contract = nn.Linear(2 * WIDTH, WIDTH)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.contract(nn.functional.gelu(self.expand(x)))
        return x + self.conv(x.transpose(1, 2)).transpose(1, 2)


X = torch.randn(1, 5, WIDTH, generator=torch.Generator().manual_seed(1))
OPENVINO = ["openvino", "host"]


@dataclass(frozen=True)
class Built:
    path: Path
    digest: str
    report: dict[str, Any]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("static") / "bundle")


def build(path: Path, **changes: Any) -> Built:
    options = {"backends": OPENVINO, "quantize": "int8", "accuracy_budget": 0.05, **changes}
    made = partitioner.build(Blocks().eval(), {"x": X}, output=path, **options)
    return Built(made.path, made.digest, made.report)


def test_both_operands_are_in_8_bits(built: Built) -> None:
    manifest = Bundle.open(built.path).manifest
    assert {"openvino"} == {artifact.backend for artifact in manifest.artifacts.values()}
    for trade in built.report["compression"]:
        assert ("int8-static", "") == (trade["level"], trade["reason"])
        assert 0 < trade["error"] == trade["tried"]["int8-static"] <= 0.05
        assert trade["bytes_after"] < 0.3 * trade["bytes_before"]
    graphs = [
        Bundle.open(built.path).blob_path(str(artifact.graph)).read_text()
        for artifact in manifest.artifacts.values()
    ]
    kinds = ('type="MatMul"', 'type="Convolution"')
    products = sum(text.count(kind) for text in graphs for kind in kinds)
    # Weights are lifted as 8-bit constants, and read by products whose other operand is rounded.
    assert products == sum(text.count('element_type="i8"') for text in graphs)
    assert 0 < sum(text.count('type="FakeQuantize"') for text in graphs) <= products
    assert "int8" == manifest.options["quantize"]


def test_the_results_are_within_the_budget(built: Built) -> None:
    module = Blocks().eval()
    with partitioner.load(built.path) as pipe, torch.no_grad():
        (actual,) = pipe(x=X.numpy()).values()
        expected = module(X).numpy()
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert 1e-5 < error <= 0.05


def test_the_kernels_round_as_the_reference_does(built: Built) -> None:
    """So what is left is rounding of float32, and a few codes that lie between two."""
    assert max(built.report["parity"]["segments"].values()) < 0.01


@pytest.mark.slow
def test_two_builds_have_one_digest(built: Built, tmp_path: Path) -> None:
    assert built.digest == build(tmp_path / "again", parity=True).digest


def test_a_backend_that_cannot_keeps_more(tmp_path: Path) -> None:
    found = build(tmp_path / "onnx", backends=["onnx", "host"])
    for trade in found.report["compression"]:
        assert "int8" == trade["level"]
        assert "the backend 'onnx' quantises weights only" == trade["reason"]
        assert "int8-static" not in trade["tried"]


@pytest.mark.slow
def test_a_bucket_is_bisected_as_it_was_built(tmp_path: Path) -> None:
    """By the verbs, which read the calibration inputs from the model file."""
    model, path = tmp_path / "model.py", str(tmp_path / "b")
    model.write_text(
        "from tests.compression.test_static import Blocks, X\n"
        "pipeline, example_inputs = Blocks(), {'x': X}\n"
        "calibration_inputs = [{'x': 3 * X}]\n"
    )
    wanted = ["--backends", "openvino,host", "--quantize", "int8", "--accuracy-budget", "0.05"]
    arguments = [str(model), "-o", path, "--batch", "2", *wanted]
    made = CliRunner().invoke(build_verb, arguments, catch_exceptions=False)
    assert 0 == made.exit_code, made.output
    assert "int8-static" in made.output
    found = CliRunner().invoke(bisect_verb, [path, str(model), "--json"], catch_exceptions=False)
    assert "healthy" == json.loads(found.stdout)["kind"]


def prepared() -> Prepared:
    return prepare(Blocks().eval(), {"x": X}, backends=OPENVINO)


def test_a_compiler_that_dies_is_a_reason() -> None:
    """Too little address space for OpenVINO's own libraries."""
    found = compress(prepared(), {"x": X}, 0.05, quantize="int8", memory_bytes=2**28)
    for trade in found.trades:
        assert "int8" == trade.level
        assert trade.reason


@pytest.mark.slow
def test_a_budget_that_nothing_keeps() -> None:
    found = compress(prepared(), {"x": X}, 1e-9, quantize="int8")
    assert {"float"} == {trade.level for trade in found.trades}
    for trade in found.trades:
        assert ["int8-static", "int8", "int8-weights"] == list(trade.tried)
    assert not steps(found.program)


@pytest.mark.parametrize("sizes", [[2], pytest.param([1, 2], marks=pytest.mark.slow)])
def test_buckets_are_calibrated_with_their_rows(sizes: list[int], tmp_path: Path) -> None:
    """On the examples of one request, repeated as the example inputs are."""
    found = build(tmp_path / "b", calibration=[{"x": 2 * X}], batch=sizes)
    for member in found.report.get("members", {"": found.report}).values():
        assert {"int8-static"} == {trade["level"] for trade in member["compression"]}
        assert max(member["parity"]["segments"].values()) < 0.01
    with partitioner.load(found.path) as pipe, torch.no_grad():
        (actual,) = pipe(x=np.concatenate([X, 2 * X])).values()
        expected = Blocks().eval()(torch.cat([X, 2 * X])).numpy()
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) <= 0.05


@pytest.mark.slow
def test_more_examples_widen_the_ranges() -> None:
    few = compress(prepared(), {"x": X}, 0.5, quantize="int8")
    more = compress(prepared(), {"x": X}, 0.5, quantize="int8", calibration=[{"x": 10 * X}])
    assert len(steps(few.program)) == len(steps(more.program))
    assert all(a < b for a, b in zip(steps(few.program), steps(more.program), strict=True))


def steps(program: Program) -> list[float]:
    nodes = [n for _, graph in program.all_graphs() for n in graph.nodes if n.target is FAKE]
    return sorted(float(node.args[1]) for node in nodes)


def test_weights_in_half_of_the_range(tmp_path: Path) -> None:
    segment, constants = segment_of(Stem(), X)
    calls = [(X.numpy(),), (2 * X.numpy(),)]
    makes: list[dict[str, StaticProduct]] = []
    for index, largest in enumerate((127, 64, 64)):
        options = CompileOptions(tmp_path / str(index), tmp_path)
        makes.append(quantise(segment, constants, calls, options, half_range=largest == 64))
        found = makes[-1]
        assert 3 == len(found)
        for name, one in found.items():
            assert (torch.int8, constants[name].shape) == (one.codes.dtype, one.codes.shape)
            assert largest - 1 <= int(one.codes.abs().max()) <= largest
            again = one.codes.float() * one.scales
            assert float((again - constants[name]).norm() / constants[name].norm()) < 0.02
        # As wide as the widest call: nothing is clipped.
        widest = max(found.values(), key=lambda one: one.high)
        assert widest.high == pytest.approx(2 * float(X.max()), rel=0.01)
    # The same numbers each time, so that bundles have the same digest.
    for one, other in zip(makes[1].values(), makes[2].values(), strict=True):
        assert torch.equal(one.codes, other.codes)
        assert torch.equal(one.scales, other.scales)
        assert (one.low, one.high) == (other.low, other.high)


def test_a_product_of_which_nothing_is_known_has_its_weight_in_8_bits() -> None:
    segment, constants = segment_of(Stem(), X)
    name = next(name for name, tensor in constants.items() if tensor.shape == (WIDTH, 2 * WIDTH))
    codes = torch.zeros(WIDTH, 2 * WIDTH, dtype=torch.int8)
    known = {name: StaticProduct(codes, torch.ones(1, 2 * WIDTH), -1.0, 1.0)}
    whole = Program(main=segment.graph, constants=constants)
    small = compressed(whole, lambda _: STATIC, known)
    assert 1 == len(steps(small))
    assert 3 == sum(tensor.dtype == torch.int8 for tensor in small.constants.values())


class Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = Block()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int8"}, "how far results may be off"),
        ({"quantize": "int3", "accuracy_budget": 0.1}, "no quantisation 'int3'"),
        ({"calibration": [{"x": X}]}, "nothing is quantised"),
    ],
)
def test_what_cannot_be_meant(options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        partitioner.build(Blocks(), {"x": X}, output=tmp_path / "b", **options)


@pytest.mark.parametrize("other", [X[:, :3], X.double()])
def test_an_example_of_another_form(other: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"calibration inputs differ .* \['x'\]"):
        compress(prepared(), {"x": X}, 0.1, quantize="int8", calibration=[{"x": other}])
