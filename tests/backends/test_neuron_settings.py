"""Options of a segment, and neuronx-cc's arguments for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from partitioner.backends.neuron.settings import (
    HLO_LIMIT,
    Settings,
    compiler_args,
    decided,
    read_settings,
    warnings_of,
)
from partitioner.builder import build
from partitioner.errors import UsageError
from tests.neuron_pipeline import EXAMPLE, Pipeline


def args(family: str = "inf2", compiler: str = "2.27.5334.0", **given: Any) -> str:
    kind = given.pop("kind", "transformer")
    settings = decided(read_settings(given), kind, given.pop("precision", "f32"), 10)
    return " ".join(compiler_args(settings, family, compiler))


def test_target_model_type_and_casts_are_always_said() -> None:
    assert (
        "--target inf2 --model-type transformer --auto-cast none --auto-cast-type bf16 "
        "--optlevel 2 --enable-fast-loading-neuron-binaries"
    ) == args()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "unet-inference"}, "--model-type unet-inference"),
        ({"model_type": "generic"}, "--model-type generic"),
        ({"auto_cast": "matmult", "auto_cast_type": "tf32"}, "matmult --auto-cast-type tf32"),
        ({"optlevel": 1}, "--optlevel 1"),
        ({"saturate": True}, "--enable-saturate-infinity"),
        ({"family": "trn2"}, "--target trn2"),
        ({"family": "trn2"}, "--lnc 2 --native-int64 disabled"),
        ({"family": "trn3", "lnc": 1}, "--lnc 1"),
        ({"family": "trn1n", "lnc": 1}, "--target trn1n"),
    ],
)
def test_what_is_asked_for_is_said(given: dict[str, Any], said: str) -> None:
    assert said in args(**given)


def test_fast_loading_is_not_for_unets_unless_asked_for() -> None:
    flag = "--enable-fast-loading-neuron-binaries"
    assert flag not in args(kind="unet-inference")
    assert flag in args(kind="unet-inference", fast_loading="on")
    assert flag not in args(fast_loading="off")


def test_integer_arguments_are_for_compilers_and_targets_that_have_them() -> None:
    assert "native-int64" not in args("trn2", "2.26.6360.0")
    assert "native-int64" not in args("inf2")
    assert "--lnc" not in args("inf2")


def test_products_are_cast_where_the_build_is_in_bf16() -> None:
    assert "matmult" == decided(Settings(), "transformer", "bf16", 1).auto_cast
    assert "none" == decided(Settings(auto_cast="none"), "transformer", "bf16", 1).auto_cast


def test_weights_are_inlined_while_an_hlo_can_hold_them() -> None:
    assert "inline" == decided(Settings(), "generic", "f32", HLO_LIMIT).weights
    large = decided(Settings(), "generic", "f32", HLO_LIMIT + 1)
    assert "separate" == large.weights
    assert "moved to the device" in warnings_of(large, "inf2", HLO_LIMIT + 1)[0]
    forced = decided(Settings(weights="inline"), "generic", "f32", 3 * 2**30)
    assert "ends at 2 GiB" in warnings_of(forced, "inf2", 3 * 2**30)[0]


def test_trn3_and_casts_of_convolutions_are_warned_about() -> None:
    cast = decided(Settings(auto_cast="matmult"), "unet-inference", "f32", 1)
    assert ["no document", "--auto-cast"] == [w[:11].strip() for w in warnings_of(cast, "trn3", 1)]


def test_a_stage_has_options_of_its_own() -> None:
    given = {"optlevel": 1, "decoder.optlevel": 3, "encoder.saturate": True}
    assert Settings(optlevel=3) == read_settings(given, ("decoder",))
    assert Settings(optlevel=1, saturate=True) == read_settings(given, ("encoder", "context"))


@pytest.mark.parametrize(
    ("given", "what", "advice"),
    [
        ({"optlvel": 1}, "no option 'optlvel'", "did you mean 'optlevel'?"),
        ({"dynamic_batch": True}, "never with another batch", "--batch ROWS"),
        ({"decoder.dynamic_batch": False}, "no option 'dynamic_batch'", "--batch ROWS"),
        ({"optlevel": 4}, "neuron.optlevel cannot be 4", "one of 1, 2, 3"),
        ({"optlevel": True}, "cannot be True", "one of"),
        ({"auto_cast": "matmul"}, "cannot be 'matmul'", "matmult"),
        ({"saturate": 1}, "cannot be 1", "true, false"),
    ],
)
def test_what_there_is_not_is_refused(given: dict[str, Any], what: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings(given)
    assert what in caught.value.what
    assert advice in str(caught.value.advice)


@pytest.mark.parametrize(("family", "lnc"), [("inf2", 2), ("trn1", 2)])
def test_logical_cores_that_a_target_does_not_have(family: str, lnc: int) -> None:
    with pytest.raises(UsageError, match="NCC_EARG001"):
        args(family, lnc=lnc)


def test_other_hardware_is_refused() -> None:
    with pytest.raises(UsageError, match="does not compile for 'inf1'"):
        args("inf1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"neuron": {"optlvel": 1}}, "no option 'optlvel'"),
        ({"openvino": {"threads": 1}}, "has a backend 'openvino'"),
        ({"onnx": {"level": 1}}, "has no options"),
    ],
)
def test_options_are_looked_at_before_the_work(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        build(
            "no pipeline at all",
            EXAMPLE,
            target="inf2",
            defer_compile=True,
            backend_options=options,
            output=tmp_path / "b",
        )


def test_options_of_a_stage_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        build(
            Pipeline(),
            EXAMPLE,
            target="inf2",
            defer_compile=True,
            backend_options={"neuron": {"decodr.optlevel": 1}},
            output=tmp_path / "b",
        )
    assert "no stage 'decodr'" in caught.value.what
    assert "did you mean 'decoder'?" == caught.value.advice
