"""The table of the backend onnx is what the installed versions say."""

from __future__ import annotations

import json
from pathlib import Path

import partitioner.backends.onnx.table as onnx_table
from partitioner.backends.onnx.support import table
from partitioner.backends.onnx.table import make_table, write_table

FILE = Path(onnx_table.__file__).with_name("table.json")
ADVICE = "run python -m partitioner.backends.onnx.table and commit what it writes"


def test_the_table_is_that_of_the_installed_versions() -> None:
    made, stored = make_table(), json.loads(FILE.read_text())
    for key in ("closed", "dtypes", "refused_dtypes", "rows"):
        assert stored[key] == made[key], ADVICE


def test_the_table_says_what_it_is_about() -> None:
    assert "torch 2." in table().version
    assert "onnxruntime 1." in table().version
    assert 10 == len(table().date)


def test_a_table_is_written_whole(tmp_path: Path) -> None:
    write_table(tmp_path / "table.json")
    assert ["table.json"] == [p.name for p in tmp_path.iterdir()]
    assert (
        json.loads(FILE.read_text())["rows"]
        == json.loads((tmp_path / "table.json").read_text())["rows"]
    )


def test_kernels_that_are_missing_are_known() -> None:
    rows = table().rows
    assert frozenset(["float64"]) == rows["aten.tan.default"].refuses
    assert frozenset(["int8", "int16"]) == rows["aten.pow.Tensor_Tensor"].refuses
    assert frozenset() == rows["aten.sin.default"].refuses
