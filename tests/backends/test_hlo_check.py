"""Instructions of HLO against the documents: each refusal, what is promised, and sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitioner.backends.neuron.hlo_check import check_program
from partitioner.backends.neuron.hlo_size import instructions_of
from partitioner.backends.neuron.instructions import Array, Instruction
from partitioner.backends.neuron.opcodes import opcode_rows, refused_dtype
from partitioner.backends.neuron.support import table

X = Array("float32", (4, 8))
WHOLE = Array("int64", (4, 8))
BYTE = Array("int8", (4, 8))


def one(opcode: str, *operands: Array, result: Array | None = None, **attributes: Any) -> Any:
    gives = (result or (operands[0] if operands else X),)
    return Instruction(opcode, operands, gives, attributes, place=7)


REFUSED = [
    ("EMOD025", "dynamic-shape", one("add", Array("float32", (None, 8)), X)),
    ("EVRF004", "dtype", one("add", Array("complex64", (4,)), Array("complex64", (4,)))),
    ("EVRF005", "dtype", one("convert", Array("float8_e4m3fnuz", (4,)), result=X)),
    ("EVRF051", "dtype", one("convert", Array("float8_e4m3fn", (4,)), result=X)),
    ("ESPP004", "dtype", one("convert", Array("float8_e4m3b11fnuz", (4,)), result=X)),
    ("", "dtype", one("convert", X, result=Array("float64", (4, 8)))),
    ("EVRF029", "op-unsupported", one("sort", X)),
    ("EUOC002", "op-unsupported", one("fft", X)),
    ("EUOC002, EVRF001", "op-unsupported", one("triangular-solve", X, X)),
    ("EVRF015", "op-unsupported", one("cholesky", X)),
    ("EVRF010", "configuration", one("convolution", X, X, lhs_dilation=(2,), rhs_dilation=(2,))),
    ("EVRF011", "configuration", one("convolution", X, X, lhs_dilation=(2,), window_strides=(2,))),
    ("EVRF017", "configuration", one("reduce-window", X, X, base_dilations=(2,))),
    ("EVRF018", "configuration", one("reduce-window", X, X, window_dilations=(2,))),
    ("EVRF019", "configuration", one("reduce-window", X, X, X, X)),
    ("EVRF016", "dtype", one("scatter", WHOLE, WHOLE, WHOLE, computations=("add",))),
    ("EVRF060", "dtype", one("scatter", WHOLE, WHOLE, WHOLE)),
    ("EVRF035", "dtype", one("dot", WHOLE, WHOLE)),
    ("EVRF062", "dtype", one("power", WHOLE, WHOLE)),
    ("EVRF013", "dtype", one("topk", WHOLE)),
    ("EVRF022", "dtype", one("shift-right-arithmetic", BYTE, BYTE)),
    ("EVRF006", "configuration", one("rng-bit-generator", WHOLE, algorithm="PHILOX")),
    ("EHCA005, EVRF015", "op-unsupported", one("custom-call", X, target="mine")),
    ("ESFH002", "configuration", one("constant", result=WHOLE, integers=(0, 2**40))),
]

PROMISED = [
    one("add", X, X),
    one("convolution", X, X, rhs_dilation=(2,), window_strides=(2,)),
    one("convolution", X, X, lhs_dilation=(2,)),
    one("reduce-window", X, X),
    one("scatter", X, WHOLE, X, computations=("add",)),
    one("scatter", BYTE, WHOLE, BYTE),
    one("reduce", X, X, computations=("maximum",)),
    Instruction(
        "reduce", (X, WHOLE, X, WHOLE), (X, WHOLE), {"computations": ("compare", "select")}
    ),
    one("custom-call", X, target="AwsNeuronGelu"),
    one("rng-bit-generator", WHOLE, algorithm="rng_default"),
    one("power", X, X),
    one("gather", X, WHOLE, indexed=(0,), collapsed=(0, 1)),
    one("constant", result=WHOLE, integers=(-(2**31), 2**31 - 1)),
]

UNPROVEN = [
    one("popcnt", WHOLE),
    one("reduce", X, X, computations=("and",)),
    one("dynamic-update-slice", X, X, WHOLE, constant_indices=False),
    one("gather", X, WHOLE, indexed=(0,), collapsed=(1,)),
]


@pytest.mark.parametrize(("detail", "code", "instruction"), REFUSED)
def test_what_an_error_code_forbids_is_refused(detail: str, code: str, instruction: Any) -> None:
    (found,) = check_program(
        [one("add", X, X), instruction], lambda place: f"m.py:{place}"
    ).findings
    assert (detail, code, True) == (found.detail, found.code, found.refused)
    assert (instruction.opcode, instruction.types) == (found.opcode, found.types)
    assert ("m.py:7",) == found.sources
    assert found.message
    assert found.advice


@pytest.mark.parametrize("instruction", PROMISED)
def test_what_a_source_promises_is_taken(instruction: Any) -> None:
    assert () == check_program([instruction]).findings


@pytest.mark.parametrize("instruction", UNPROVEN)
def test_what_no_source_knows_is_said_and_not_refused(instruction: Any) -> None:
    (found,) = check_program([instruction]).findings
    assert ("unproven", False) == (found.code, found.refused)


def test_what_compilers_compute_beforehand_may_have_any_dtype() -> None:
    double = Array("float64", ())
    folded = Instruction("convert", (double,), (Array("float32", ()),), constant=True)
    assert () == check_program([folded]).findings


def test_findings_that_are_alike_are_one() -> None:
    sorts = [one("sort", X), one("sort", WHOLE), one("sort", X)]
    (found,) = check_program(sorts, lambda place: "m.py:7").findings
    assert (3, ("m.py:7",)) == (found.count, found.sources)


def test_a_program_over_the_limit_is_refused() -> None:
    large = Array("float32", (128, 512, 100))
    (found,) = check_program([one("add", large, large)], limit=99).findings
    assert ("EBVF030, EXTP004", True) == (found.detail, found.refused)
    assert () == check_program([one("add", large, large)], limit=100).findings


def test_rows_rest_on_evidence_of_the_table() -> None:
    rows = opcode_rows()
    assert all(row.evidence or row.refusal for row in rows.values())
    documented = [r for row in rows.values() for r in row.evidence if r.startswith("hlo:")]
    assert len(documented) > 50


def test_dtypes_are_those_of_the_table() -> None:
    assert all(refused_dtype(name) is None for name in table().dtypes)
    assert all(refused_dtype(name) is not None for name in table().refused_dtypes)


# --- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "instruction"),
    [
        (0, one("reshape", Array("float32", (10**6,)))),
        (1, one("add", X, X)),
        (2, one("add", Array("float32", (128 * 512 + 1,)))),
        (
            2 * 3 * 4,
            one(
                "dot",
                Array("float32", (1024, 384)),
                Array("float32", (384, 512)),
                result=Array("float32", (1024, 512)),
                contracted=384,
                batch=1,
            ),
        ),
        (
            5,
            one(
                "dot",
                Array("float32", (5, 8, 8)),
                Array("float32", (5, 8, 8)),
                contracted=8,
                batch=5,
            ),
        ),
        (
            2 * 9 * 2,
            one(
                "convolution",
                Array("float32", (1, 128, 32, 32)),
                Array("float32", (256, 128, 3, 3)),
                result=Array("float32", (1, 256, 32, 32)),
                output_features=256,
            ),
        ),
        (1, one("slice", Array("float32", (10**7,)), result=X)),
    ],
)
def test_one_instruction_a_tile(expected: int, instruction: Any) -> None:
    assert expected == instructions_of([instruction])


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_larger_programs_have_no_fewer_instructions(small: int, more: int) -> None:
    few, many = (
        one("multiply", Array("float32", (size,)), Array("float32", (size,)))
        for size in (small, small + more)
    )
    assert instructions_of([few]) <= instructions_of([many]) <= instructions_of([few, many])
