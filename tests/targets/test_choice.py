"""The order of several targets, and whose error it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from partitioner.errors import CompileError, UsageError
from partitioner.frontend import prepare
from partitioner.planning.estimate import estimate_plan
from partitioner.targets import find_target
from partitioner.targets.choice import by_preference, naming_target, with_backends
from tests.targets.files import refused


def test_accelerators_come_first_and_any_cpu_last() -> None:
    names = ("cpu", "graviton", "xeon", "trn1", "inf2")
    order = [target.name for target in by_preference([find_target(name) for name in names])]
    assert ["trn1", "inf2", "graviton", "xeon", "cpu"] == order


def test_an_error_names_the_target() -> None:
    with pytest.raises(CompileError) as caught, naming_target("xeon"):
        raise CompileError("it crashed", where="model.py:3")
    assert "building for the target 'xeon': it crashed" == caught.value.what
    assert "see the log; or leave out --target xeon" == caught.value.advice
    with pytest.raises(UsageError, match=r"^no\n  to do: yes$"), naming_target(""):
        raise UsageError("no", advice="yes")


def test_instructions(tmp_path: Path) -> None:
    levels = {name: find_target(name).instructions for name in ("xeon6", "graviton4", "graviton2")}
    assert {"xeon6": "x86-64-v4", "graviton4": "armv9-a", "graviton2": "armv8.2-a"} == levels
    assert "" == find_target("cpu").instructions
    error = refused(tmp_path, '[targets.mine]\nbase = "cpu"\ninstructions = "mmx"\n')
    assert "'mmx' is none of x86-64" in error.what


def test_who_is_named_first_loses_the_factor_against_it():
    xeon = find_target("xeon")
    factors = {
        names: dict(with_backends(xeon, names.split(",")).devices[0].time_factor)
        for names in ("openvino,onnx", "onnx,openvino", "onnx", "openvino")
    }
    onnx = {"onnx": xeon.devices[0].time_factor["onnx"]}
    assert {"openvino,onnx": onnx, "onnx,openvino": {}, "onnx": onnx, "openvino": {}} == factors


def test_factors_decide_and_are_estimated():
    """Five products, 256 wide: calls would weigh more than the order of backends."""
    estimates: dict[str, float] = {}
    chosen: dict[str, set[str]] = {}
    for names in ("openvino,onnx", "onnx,openvino", "onnx"):
        one = prepare(
            nn.Sequential(*(nn.Linear(256, 256) for _ in range(5))),
            {"input": torch.zeros(64, 256)},
            target=with_backends(find_target("xeon"), names.split(",")),
        )
        chosen[names] = {info.backend for info in one.planned.plan.segments.values()}
        found = estimate_plan(one.planned, one.program, one.target)
        assert found is not None
        (own,) = found.segments
        estimates[names] = own.compute_s + own.memory_s
    assert {"openvino,onnx": {"openvino"}, "onnx,openvino": {"onnx"}, "onnx": {"onnx"}} == chosen
    assert estimates["onnx"] > 1.3 * estimates["openvino,onnx"]
    assert estimates["onnx,openvino"] < estimates["onnx"]
