"""Measurements are found again by what they depend on, and nothing damaged is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from partitioner.artifacts.cachedir import cache_dir
from partitioner.backends.base import CompileOptions
from partitioner.backends.facts import SHARED
from partitioner.errors import OutputError
from partitioner.planning.segments import Part
from partitioner.targets import find_target
from partitioner.tuning.pieces import pieces_of
from partitioner.tuning.records import Records, key_of
from tests.planning.figures import PAIR
from tests.planning.sketch import SHAPE, Judge, Sketch, aten

OPTIONS = CompileOptions(Path("work"), Path("blobs"))


def part(op: Any = aten.sin.default, name: str = "x", shape: tuple[int, ...] = SHAPE) -> Part:
    from partitioner.planning.plan import make_plan

    sketch = Sketch()
    x = sketch.op(op, sketch.input(name, shape))
    program = sketch.done(
        y=sketch.op(aten.mul.Tensor, x, sketch.constant(name + "w", torch.ones(1)))
    )
    planned = make_plan(program, PAIR, {"first": Judge()})
    return pieces_of(program, planned, PAIR)[0].part


def test_names_do_not_matter_and_ops_and_types_do():
    key = key_of(part(), "onnx", OPTIONS)
    assert key == key_of(part(name="other"), "onnx", OPTIONS)
    assert key["piece"] != key_of(part(aten.neg.default), "onnx", OPTIONS)["piece"]
    assert key["piece"] != key_of(part(shape=(3, 2)), "onnx", OPTIONS)["piece"]
    for library in ("onnxruntime", "onnxscript", "torch"):
        assert f"{library}=" in key["libraries"]


def test_how_a_piece_is_compiled_matters():
    with_options = replace(OPTIONS, settings={"onnx": {"level": 1}, "other": {"level": 2}})
    keys = [
        key_of(part(), "onnx", options)
        for options in (
            OPTIONS,
            replace(OPTIONS, precision="bf16"),
            with_options,
            replace(with_options, settings={"onnx": {"level": 2}}),
            replace(OPTIONS, target=find_target("xeon")),
        )
    ]
    assert 5 == len({tuple(key.values()) for key in keys})
    # What another backend is told, and how long a compiler may take, are not of this measurement.
    same = replace(with_options, settings={"onnx": {"level": 1}}, timeout_s=5.0, memory_bytes=1)
    assert keys[2] == key_of(part(), "onnx", same)


def test_the_code_of_the_backend_and_of_measuring_matters(monkeypatch: pytest.MonkeyPatch):
    named: list[str] = []

    def digest(*names: str) -> str:
        named.extend(names)
        return "digest"

    monkeypatch.setattr("partitioner.tuning.records.code_digest", digest)
    assert "digest" == key_of(part(), "openvino", OPTIONS)["code"]
    assert {"partitioner.backends.openvino", "partitioner.tuning", *SHARED} <= set(named)


def test_what_was_kept_is_found(tmp_path: Path):
    records = Records(tmp_path / "deep" / "er")
    key = key_of(part(), "onnx", OPTIONS)
    assert records.find(key) is None
    records.keep(key, 0.25)
    assert 0.25 == records.find(key)
    assert records.find({**key, "threads": "64"}) is None
    assert ["json"] == [path.suffix[1:] for path in records.path.iterdir()]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"seconds": 1.0}', '{"key": {}, "seconds": "fast"}'],
)
def test_a_damaged_file_is_no_measurement(tmp_path: Path, text: str):
    records = Records(tmp_path)
    key = key_of(part(), "onnx", OPTIONS)
    records.keep(key, 0.25)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert records.find(key) is None


@pytest.mark.parametrize("seconds", [-1.0, 0.0, float("nan"), float("inf"), 1])
def test_nor_is_a_figure_that_cannot_be_one(tmp_path: Path, seconds: float):
    key = key_of(part(), "onnx", OPTIONS)
    records = Records(tmp_path)
    records.keep(key, 0.25)
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps({"key": key, "seconds": seconds}))
    assert records.find(key) is None


def test_where_a_host_keeps_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PARTITIONER_CACHE", str(tmp_path / "own"))
    assert tmp_path / "own" / "measurements" == cache_dir("measurements") == Records().path
    monkeypatch.delenv("PARTITIONER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert tmp_path / "xdg" / "partitioner" / "blobs" == cache_dir("blobs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Path.home() / ".cache" / "partitioner" / "blobs" == cache_dir("blobs")


def test_where_nothing_can_be_kept_it_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as caught:
        Records(tmp_path / "file").keep(key_of(part(), "onnx", OPTIONS), 0.25)
    assert str(tmp_path / "file") == caught.value.where
