"""XLA's text of HLO, as torch_xla writes it."""

from __future__ import annotations

import pytest

from partitioner.backends.neuron.hlo_check import check_program
from partitioner.backends.neuron.hlo_text import read_hlo
from partitioner.backends.neuron.instructions import Array
from partitioner.errors import CompileError

TEXT = """HloModule IrToHlo.9, entry_computation_layout={(f32[1,8,6,6]{3,2,1,0})->(f32[8])}

%AddComputation.1 (x.2: f32[], y.3: f32[]) -> f32[] {
  %x.2 = f32[] parameter(0)
  %y.3 = f32[] parameter(1)
  ROOT %add.4 = f32[] add(f32[] %x.2, f32[] %y.3)
}

ENTRY %IrToHlo.9 (p0.1: f32[16,8,3,3], p1.2: f32[1,8,6,6]) -> (f32[16], s64[2]) {
  %p0.1 = f32[16,8,3,3]{3,2,1,0} parameter(0)
  %p1.2 = f32[1,8,6,6]{3,2,1,0} parameter(1)
  %convolution.3 = f32[1,16,11,11]{3,2,1,0} convolution(f32[1,8,6,6]{3,2,1,0} %p1.2, f32[16,8,3,3]{3,2,1,0} %p0.1), window={size=3x3 pad=1_1x1_1 lhs_dilate=2x2 rhs_dilate=2x2}, dim_labels=bf01_oi01->bf01, metadata={op_type="aten__convolution" op_name="aten__convolution"}
  %constant.4 = f32[] constant(0)
  %reduce.5 = f32[16]{0} reduce(f32[1,16,11,11]{3,2,1,0} %convolution.3, f32[] %constant.4), dimensions={0,2,3}, to_apply=%AddComputation.1
  %reshape.6 = f32[4,4]{1,0} reshape(f32[16]{0} %reduce.5)
  %dot.7 = f32[4,4]{1,0} dot(f32[4,4]{1,0} %reshape.6, f32[4,4]{1,0} %reshape.6), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %constant.8 = s64[2]{0} constant({1, 8589934592})
  ROOT %tuple.9 = (f32[4,4]{1,0}, s64[2]{0}) tuple(f32[4,4]{1,0} %dot.7, s64[2]{0} %constant.8)
}
"""  # noqa: E501 - as XLA writes it


def test_the_entry_is_read_in_order() -> None:
    program = read_hlo(TEXT)
    assert ["convolution", "constant", "reduce", "reshape", "dot", "constant", "tuple"] == [
        one.opcode for one in program
    ]
    convolution, _, reduce, _, dot, _, both = program
    assert (Array("float32", (1, 8, 6, 6)), Array("float32", (16, 8, 3, 3))) == convolution.operands
    assert 16 == convolution.attributes["output_features"]
    assert "aten__convolution" == convolution.place
    assert ("add",) == reduce.attributes["computations"]
    assert {"contracted": 4, "batch": 1} == dict(dot.attributes)
    assert (Array("float32", (4, 4)), Array("int64", (2,))) == both.results


def test_what_is_wrong_in_it_is_found() -> None:
    findings = check_program(read_hlo(TEXT)).findings
    assert ["EVRF010", "ESFH002"] == [found.detail for found in findings]
    assert ("aten__convolution",) == findings[0].sources


def test_other_text_is_refused() -> None:
    with pytest.raises(CompileError, match="no entry computation"):
        read_hlo("module {}\n")
