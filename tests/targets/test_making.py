"""What no single value of a table shows."""

import re
from pathlib import Path

import pytest

from tests.targets.files import WHOLE, refused


@pytest.mark.parametrize(
    ("taken", "table", "key"),
    [
        ("note =", "targets.board", "note"),
        ("copies =", "targets.board", "copies"),
        ("parity =", "targets.board", "parity"),
        ("memory_gib = 2", "targets.board.devices.cpu", "memory_gib"),
        ("bandwidth_per_core = {", "targets.board.devices.chip", "bandwidth_per_core"),
        ("transfer_s =", "targets.board.devices.chip", "transfer_s"),
    ],
)
def test_a_missing_figure_is_named(tmp_path: Path, taken: str, table: str, key: str):
    text = re.sub(rf"^{re.escape(taken)}.*\n", "", WHOLE, flags=re.MULTILINE)
    error = refused(tmp_path, text, "board")
    assert f"a target is incomplete: {table} has no {key}" == error.what
    assert f"{tmp_path / 'mine.toml'}, table {table}, key {key}" == error.where
    assert "say it, or name a 'base' that does" == error.advice


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('["onnx", "host"]', "[]", "a target has one backend at least"),
        ('["onnx", "host"]', '["openvino", "host"]', "no device has the backend 'openvino'"),
        ('["bool", "int32", "float32"]', "[]", "a target has one dtype at least"),
        ("devices.cpu", "devices.main", "is incomplete: targets.board.devices.main has no trans"),
        ('backends = ["onnx"]', 'backends = ["onnx", "host"]', "a backend runs on two devices"),
        ("call_s = { onnx", "call_s = { other", "no 'call_s' for the backend 'onnx'"),
        ("limits.onnx", "limits.neuron", "not among the target's backends: 'neuron'"),
        ("copies = 2", 'copies = 2\narithmetic = ["float16"]', "not among the dtypes: 'float16'"),
        ("{ float32 = 1e12 }", "{ int8 = 1e12 }", "chip has no 'flops_per_core' in float32"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, old: str, new: str, what: str):
    assert old in WHOLE
    assert what in refused(tmp_path, WHOLE.replace(old, new), "board").what
