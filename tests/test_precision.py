"""Dtypes: those a target has, those that were asked for, and what becomes of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import partitioner
from partitioner.artifacts.bundle import Bundle
from partitioner.errors import PassError, UsageError
from partitioner.interpreter import run_program
from partitioner.passes.autocast import LOW, WIDE
from partitioner.passes.ops import op_name
from partitioner.passes.pipeline import DEFAULT, parse_pipeline
from partitioner.precision import check_stages, for_target, parse_precision, tolerance_of
from partitioner.program import Program, TensorType, is_getitem
from partitioner.targets import find_target
from tests.passes.models import WIDTH, Guided
from tests.passes.running import after, captured, difference, values_of

CONDITION = torch.randn(1, 5, WIDTH, generator=torch.Generator().manual_seed(3))
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@pytest.fixture(scope="module")
def guided() -> Program:
    program, _ = after(captured(Guided(), condition=CONDITION), DEFAULT)
    return program


def dtypes(program: Program) -> set[torch.dtype]:
    found: set[torch.dtype] = set()
    for _, graph in program.all_graphs():
        for node in graph.nodes:
            type_: Any = node.meta.get("type")
            parts = type_ if isinstance(type_, tuple) else (type_,)
            found |= {part.dtype for part in parts if part is not None}
    return found


# --- what a target has --------------------------------------------------------------------------


class Doubles(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = x.double() * torch.tensor(0.1, dtype=torch.float64)
        for _ in range(4):
            y = y + y.sin() * 0.5
        order = y.argsort(-1)
        picked = torch.gather(y, -1, order + torch.zeros(4, dtype=torch.int64))
        return {"y": y, "order": order, "picked": picked.float(), "best": y.argmax(-1) + 1}


def test_dtypes_that_a_target_lacks() -> None:
    program = captured(Doubles(), x=torch.randn(3, 4))
    passes = f"{DEFAULT},legalise-dtypes{{dtypes=bool+int32+float32}},eliminate-dead"
    legal, (*_, record, _) = after(program, passes)
    assert record.modified
    given = values_of(program)
    expected, actual = run_program(program, given), run_program(legal, given)
    for name, tensor in expected.items():
        assert tensor.dtype == actual[name].dtype
        torch.testing.assert_close(actual[name], tensor, rtol=1e-5, atol=1e-6)
    (body,) = legal.graphs.values()
    inside = {n.meta["type"].dtype for n in body.nodes if n.op == "call_function"}
    assert {torch.float32} == inside
    again, (record,) = after(legal, "legalise-dtypes{dtypes=bool+int32+float32}")
    assert 0.0 == difference(legal, again)


class Whole(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + torch.tensor([3, -7], dtype=torch.int16)) * 2


class Indices(nn.Module):
    """Whole numbers as indices and as values of the same op; several indices; a mask."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        order = x.argsort(-1)
        counted = torch.zeros_like(order).scatter(-1, order, order + 1)
        put = torch.index_put(torch.zeros_like(order), (order[:, 0] % 3, order[:, 1]), order[:, 2])
        return {
            "counted": counted,
            "added": torch.zeros_like(order).scatter_add(-1, order, counted),
            "put": put,
            "picked": x[:, order[0]],
            "pairs": x[order[:, 0] % 3, order[:, 1]],
            "masked": torch.where(order > 1, counted, put),
        }


def test_indices_stay_what_ops_want_and_values_do_not() -> None:
    target = find_target("inf2")
    program = captured(Indices(), x=torch.randn(3, 4))
    legal, _ = after(program, for_target(f"{DEFAULT},eliminate-dead", target, None))
    given = values_of(program)
    actual = run_program(legal, given)
    for name, tensor in run_program(program, given).items():
        assert tensor.dtype == actual[name].dtype
        assert torch.equal(tensor, actual[name]), name
    assert set() == _computed(legal) - set(target.dtypes)


def test_indices_of_a_target_without_int64_compile(tmp_path: Path) -> None:
    x = torch.randn(3, 4)
    partitioner.build(Indices(), {"x": x}, target="inf2", backends=["onnx"], output=tmp_path / "b")
    with partitioner.load(tmp_path / "b") as pipe:
        outputs = pipe(x=x.numpy())
    for name, tensor in Indices()(x).items():
        np.testing.assert_array_equal(outputs[name], tensor.numpy())


@pytest.mark.parametrize("name", ["inf2", "trn1", "trn2.48xlarge", "trn3"])
def test_dtypes_that_an_accelerator_lacks(name: str) -> None:
    target = find_target(name)
    for model, x in ((Doubles(), torch.randn(3, 4)), (Whole(), torch.ones(2, dtype=torch.int16))):
        program = captured(model, x=x)
        legal, _ = after(program, for_target(f"{DEFAULT},eliminate-dead", target, None))
        given = values_of(program)
        expected, actual = run_program(program, given), run_program(legal, given)
        for output, tensor in expected.items():
            assert tensor.dtype == actual[output].dtype
            torch.testing.assert_close(actual[output], tensor, rtol=1e-5, atol=1e-6)
        assert set() == _computed(legal) - set(target.dtypes)


def _computed(program: Program) -> set[str]:
    """Dtypes that ops compute in: neither those of casts nor those of indices that torch makes."""
    free = ("_to_copy", "argmax")
    return {
        str(node.meta["type"].dtype).removeprefix("torch.")
        for _, graph in program.all_graphs()
        for node in graph.nodes
        if node.op == "call_function" and isinstance(node.meta["type"], TensorType)
        if not is_getitem(node) and op_name(node) not in free
    }


def test_products_compute_in_the_small_dtype_on_an_accelerator() -> None:
    passes = for_target("a", find_target("inf2"), "bf16")
    assert passes.endswith(",autocast{dtype=bfloat16},eliminate-common,eliminate-dead")


def test_a_target_that_has_them_all_changes_nothing() -> None:
    program = captured(Doubles(), x=torch.randn(3, 4))
    _, (record,) = after(program, "legalise-dtypes{dtypes=bool+int64+int32+float32+float64}")
    assert not record.modified


def test_a_number_that_does_not_fit_is_an_error() -> None:
    def pipeline(x: torch.Tensor) -> torch.Tensor:
        return x.long() + torch.tensor([2**40, 1])

    program = captured(pipeline, x=torch.randn(2))
    with pytest.raises(PassError, match="holds 1099511627776, which int32 cannot hold") as caught:
        after(program, "normalise,legalise-dtypes{dtypes=int32+float32}")
    assert "test_precision.py" in (caught.value.where or "")


def test_bfloat16_models_compute_in_float32_on_a_cpu(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)).to(torch.bfloat16)

    class Pipeline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x.to(torch.bfloat16)).float()

    x = torch.randn(2, 8)
    partitioner.build(Pipeline(), {"x": x}, output=tmp_path / "b", tolerance=2e-2)
    with partitioner.load(tmp_path / "b") as pipe:
        (actual,) = pipe(x=x.numpy()).values()
    expected = nn.Sequential(*model).float()(x).detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


# --- autocast -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_products_compute_in_the_small_dtype(dtype: str, guided: Program) -> None:
    low, _ = after(guided, f"autocast{{dtype={dtype}}},eliminate-common,eliminate-dead")
    small = getattr(torch, dtype)
    bound = {torch.bfloat16: 3e-2, torch.float16: 4e-3}[small]
    assert 1e-6 < difference(guided, low) < bound
    seen = {True: 0, False: 0}
    for _, graph in low.all_graphs():
        for node in graph.nodes:
            operands = [n.meta["type"] for n in node.all_input_nodes if node.op == "call_function"]
            floats = {t.dtype for t in operands if isinstance(t, TensorType)} & set(FLOATS)
            if op_name(node) in LOW:
                assert {small} == floats
                seen[True] += 1
            elif op_name(node) in WIDE:
                assert {torch.float32} == floats
                seen[False] += 1
    assert min(seen.values()) > 0
    kept = {n.target: n.meta["type"].dtype for n in low.main.nodes if n.op == "placeholder"}
    assert {torch.float32} == set(kept.values())


def test_a_value_is_cast_once(guided: Program) -> None:
    low, _ = after(guided, "autocast,eliminate-common,eliminate-dead")
    for _, graph in low.all_graphs():
        casts = [(n.args[0], n.kwargs["dtype"]) for n in graph.nodes if op_name(n) == "_to_copy"]
        assert len(casts) == len(set(casts))


def test_a_stage_may_stay_in_float32(guided: Program) -> None:
    low, _ = after(guided, "autocast{dtype=bfloat16 stages=denoiser:float32},eliminate-dead")
    stages = {
        node.meta["stage"].split(".")[0]
        for _, graph in low.all_graphs()
        for node in graph.nodes
        if op_name(node) in LOW and node.meta["type"].dtype == torch.bfloat16
    }
    assert {"encoder"} == stages


def test_nothing_to_cast(guided: Program) -> None:
    _, (record,) = after(guided, "autocast{dtype=float32}")
    assert not record.modified


@pytest.mark.parametrize(
    "options",
    [
        *("dtype=float8", "dtype=int8", "dtype=float64", "stages=decoder", "stages=decoder:f8"),
        *("stages=decoder:int8", "stages=denoiser:f16+denoiser:f32"),
    ],
)
def test_options_that_cannot_be_meant(options: str, guided: Program) -> None:
    with pytest.raises(PassError):
        after(guided, f"autocast{{{options}}}")
    with pytest.raises(PassError):
        after(guided, f"store-weights{{{options}}}")


def test_options_print_and_parse() -> None:
    text = "autocast{dtype=float16 stages=vae.decoder:float32},hoist-invariants{budget=5}"
    assert text == ",".join(map(str, parse_pipeline(text)))
    for wrong in ("hoist-invariants{budget=many}", "autocast{dtype=a/b}", "autocast{no=1}"):
        with pytest.raises(UsageError, match="does not take"):
            parse_pipeline(wrong)


# --- stored weights -----------------------------------------------------------------------------


def weight_bytes(path: Path) -> int:
    manifest = Bundle.open(path).manifest
    used = {digest for artifact in manifest.artifacts.values() for digest in artifact.weights}
    return sum(blob.size for blob in manifest.blobs if blob.digest in used)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_cpu_stores_what_it_does_not_compute_in(precision: str, tmp_path: Path) -> None:
    example = {"condition": CONDITION}
    partitioner.build(Guided(), example, output=tmp_path / "wide")
    built = partitioner.build(Guided(), example, output=tmp_path / "b", precision=precision)
    assert weight_bytes(tmp_path / "b") < 0.65 * weight_bytes(tmp_path / "wide")
    (error,) = built.report["parity"]["outputs"].values()
    assert 1e-6 < error < tolerance_of(precision)
    assert any(
        "cast up where they are read" in n for p in built.report["passes"] for n in p["notes"]
    )
    outputs = []
    for name in ("wide", "b"):
        with partitioner.load(tmp_path / name) as pipe:
            outputs.append(pipe(condition=CONDITION.numpy(), seed=1)["output"])
    error = np.linalg.norm(outputs[1] - outputs[0]) / np.linalg.norm(outputs[0])
    assert 0 < error < tolerance_of(precision)


def test_the_precision_of_one_stage(guided: Program) -> None:
    stored, _ = after(guided, "store-weights{dtype=float32 stages=encoder:bfloat16}")
    small = {n for n, t in stored.constants.items() if t.dtype == torch.bfloat16}
    assert {"encoder.weight.permute.bfloat16"} == small


def test_which_passes_a_precision_adds() -> None:
    cpu = find_target("cpu")
    assert "a,legalise-dtypes{dtypes=" + "+".join(cpu.dtypes) + "}" == for_target("a", cpu, "f32")
    given = parse_precision(("bf16", "decoder=f32"))
    assert {"": "bf16", "decoder": "f32"} == given
    added = "store-weights{dtype=bfloat16 stages=decoder:float32}"
    assert for_target("a", cpu, given).endswith(f",{added}")
    # What was recorded is replayed as it is.
    recorded = for_target("a", cpu, given)
    assert recorded == for_target(recorded, cpu, None)
    with pytest.raises(UsageError, match="no precision 'bf61'"):
        parse_precision(("bf61",))
    with pytest.raises(UsageError, match="two precisions are given for all stages: bf16 and f16"):
        parse_precision(("bf16", "f16"))
    with pytest.raises(UsageError, match="two precisions are given for the stage 'decoder'"):
        parse_precision(("decoder=bf16", "bf16", "decoder=f32"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": {"denoise": "bf16"}}, "there is no stage 'denoise'"),
        ({"precision": {"denoiser.block": "f32"}}, "there is no stage 'denoiser.block'"),
        ({"passes": "autocast{stages=decoder:f16}"}, "there is no stage 'decoder'"),
        ({"accuracy_budget": 0}, "the accuracy budget is 0"),
        ({"accuracy_budget": -1e-2}, "the accuracy budget is -0.01"),
        ({"accuracy_budget": float("nan")}, "the accuracy budget is nan"),
        ({"tolerance": -1.0}, "the tolerance is -1.0"),
        ({"tolerance": float("inf")}, "the tolerance is inf"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_work(
    options: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        partitioner.build(Guided(), {"condition": CONDITION}, output=tmp_path / "b", **options)
    assert [] == list(tmp_path.iterdir())


def test_a_part_of_a_stage_has_a_precision_of_its_own() -> None:
    program = captured(Guided(), condition=CONDITION)
    passes = parse_pipeline("autocast{stages=denoiser.blocks.0:f32+encoder:f16}")
    check_stages(passes, {"": "f16", "denoiser.first": "f32"}, program)


def test_a_tolerance_of_nothing_is_one(tmp_path: Path) -> None:
    example = {"condition": CONDITION}
    partitioner.build(Guided(), example, output=tmp_path / "b", tolerance=0)
    sample = Bundle.open(tmp_path / "b").manifest.parity
    assert sample is not None
    assert 0.0 == sample.tolerance.relative


def test_the_lists_have_nothing_in_common() -> None:
    assert not LOW & WIDE
