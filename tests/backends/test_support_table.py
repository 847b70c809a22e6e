"""The evaluator of support tables, and the reading of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partitioner.backends.decomposed import parts_of, signature
from partitioner.backends.support_table import (
    Evaluator,
    Evidence,
    Refusal,
    Row,
    SupportTable,
    read_table,
)
from partitioner.backends.verdicts import CODES, Rejected, Supported
from partitioner.errors import BackendError
from partitioner.program import TensorType

from .nodes import INF2, SOURCE, aten, node, typed

DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.int32, torch.bool)}
X = torch.ones(2, 3)


def evaluator(decompositions: Any = None, **changes: Any) -> Evaluator:
    fields: dict[str, Any] = {
        "label": "Box",
        "version": "1",
        "date": "2026-01-01",
        "evidence": {"list": Evidence("the manual", "documented", frozenset(["Sine"]))},
        "dtypes": frozenset(DTYPES),
    }
    checks = {"never": lambda node, target: Refusal("not so", "configuration", "do so", "E1")}
    return Evaluator(SupportTable(**{**fields, **changes}), checks, lambda: decompositions or {})


def verdict(one: Any, **changes: Any) -> Any:
    return evaluator(**changes).verdict(one, INF2)


def test_evidence_says_where_it_stands() -> None:
    found = verdict(node(aten.sin.default, X), rows={"aten.sin": Row(("list:Sine",))})
    assert "documented: Sine, the manual" == found.evidence


def test_the_row_of_an_overload_goes_before_that_of_its_op() -> None:
    rows = {"aten.add": Row(), "aten.add.Tensor": Row(refusal=Refusal("not of tensors"))}
    assert isinstance(verdict(node(aten.add.Scalar, X, 1), rows=rows), Supported)
    assert isinstance(verdict(node(aten.add.Tensor, X, X), rows=rows), Rejected)


def test_an_own_row_goes_before_the_family() -> None:
    given = {"rows": {"aten.sin": Row()}, "families": {"aten.s*": Refusal("no s")}}
    assert isinstance(verdict(node(aten.sin.default, X), **given), Supported)
    refused = verdict(node(aten.sort.default, X), **given)
    assert Rejected("op-unsupported", "no s", SOURCE) == refused


@pytest.mark.parametrize(("closed", "code"), [(True, "op-unsupported"), (False, "unproven")])
def test_an_op_that_is_nowhere(closed: bool, code: str) -> None:
    assert code == verdict(node(aten.sin.default, X), closed=closed).code


def test_a_check_gives_everything_of_its_refusal() -> None:
    rows = {"aten.sin": Row(checks=("never",))}
    expected = Rejected("configuration", "not so", SOURCE, "do so", "E1")
    assert expected == verdict(node(aten.sin.default, X), rows=rows)


def test_an_op_is_judged_by_its_parts() -> None:
    silu, table = node(aten.silu.default, X), torch.export.default_decompositions()
    both = {"aten.mul": Row(), "aten.sigmoid": Row()}
    taken = verdict(silu, decompositions=table, rows=both)
    assert "made of aten.mul.Tensor, aten.sigmoid.default" == taken.evidence
    refused = verdict(silu, decompositions=table, rows={"aten.mul": Row()}, closed=True)
    assert SOURCE == refused.source
    assert "aten.silu.default is made of aten.sigmoid.default: " in refused.message


def test_an_op_that_does_nothing_is_taken() -> None:
    one, table = node(aten.contiguous.default, X), torch.export.default_decompositions()
    assert () == parts_of(one, table)
    assert isinstance(verdict(one, decompositions=table), Supported)


def test_verdicts_on_parts_are_remembered_but_not_their_lines() -> None:
    judge = evaluator(closed=True)
    first = node(aten.sort.default, X)
    second = node(aten.sort.default, X)
    second.meta["source"] = "other.py:1"
    assert [SOURCE, "other.py:1"] == [judge.verdict(n, INF2).source for n in (first, second)]  # pyright: ignore


@given(
    st.sampled_from(sorted(DTYPES)),
    st.integers(1, 4),
    st.sets(st.sampled_from(sorted(DTYPES))),
    st.sets(st.sampled_from(sorted(DTYPES))),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_a_row_takes_what_it_says(
    dtype: str, rank: int, dtypes: set[str], refuses: set[str], low: int, high: int
) -> None:
    type_ = TensorType((2,) * rank, DTYPES[dtype])
    row = Row(dtypes=frozenset(dtypes) or None, refuses=frozenset(refuses), ranks=(low, high))
    found = verdict(typed(aten.neg.default, (type_,), type_), rows={"aten.neg": row})
    if (dtypes and dtype not in dtypes) or dtype in refuses:
        assert "dtype" == found.code
    elif not low <= rank <= high:
        assert "rank" == found.code
    else:
        assert isinstance(found, Supported)


@given(st.integers(0, 3), st.integers(0, 3), st.sampled_from([torch.float32, torch.int64]))
def test_nodes_have_one_signature_if_they_do_the_same(
    left: int, right: int, dtype: torch.dtype
) -> None:
    def one(number: int) -> str:
        return signature(node(aten.add.Scalar, torch.ones(2, dtype=dtype), number))

    assert (left == right) == (one(left) == one(right))


# --- reading ------------------------------------------------------------------------------------

DOCUMENT: dict[str, Any] = {
    "label": "Box",
    "version": "1",
    "date": "2026-01-01",
    "dtypes": ["float32"],
    "evidence": {"list": {"source": "the manual", "grade": "documented", "names": ["Sine"]}},
    "rows": {"aten.sin": {"evidence": ["list:Sine"], "ranks": [1, 2]}},
}


def read(folder: Path, **changes: Any) -> SupportTable:
    (folder / "table.json").write_text(json.dumps({**DOCUMENT, **changes}))
    return read_table(folder / "table.json")


def test_a_table_is_read(tmp_path: Path) -> None:
    assert Row(("list:Sine",), ranks=(1, 2)) == read(tmp_path).rows["aten.sin"]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ({"aten.sin": {"evidence": ["hearsay"]}}, "rests on 'hearsay', which is no evidence"),
        ({"aten.sin": {"evidence": ["list:Cosine"]}}, "'Cosine', which 'list' does not list"),
        ({"aten.sin": {"dtype": ["float32"]}}, r"unknown keys \['dtype'\]"),
        ({"aten.sin": {"refusal": {"message": "", "code": "x"}}}, "unknown code 'x'"),
        ({"aten.sin": {"refusal": {}}}, "KeyError: 'message'"),
    ],
)
def test_a_malformed_table_is_an_error(tmp_path: Path, rows: Any, what: str) -> None:
    with pytest.raises(BackendError, match=what) as caught:
        read(tmp_path, rows=rows)
    assert str(tmp_path / "table.json") == caught.value.where


def test_a_table_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("{")
    with pytest.raises(BackendError, match="malformed: JSONDecodeError"):
        read_table(tmp_path / "table.json")


def test_a_check_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BackendError, match=r"no checks \{'absent'\}"):
        evaluator(rows={"aten.sin": Row(checks=("absent",))})


def test_codes_of_refusals_are_of_the_closed_set() -> None:
    assert "op-unsupported" in CODES
    assert "op-unsupported" == Refusal("m").at("s").code
