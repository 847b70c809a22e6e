"""Asking the library: planted wrong rows are found, crashes are answers, absence is said."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import fx

from partitioner.backends import find_backend
from partitioner.backends.execution import BackendInfo
from partitioner.backends.onnx.support import table
from partitioner.backends.probing import probe
from partitioner.backends.support_table import Evaluator, Row
from partitioner.backends.verdicts import Judge, Rejected, Supported
from partitioner.errors import CompileError
from partitioner.program import TensorType
from partitioner.targets import find_target

from .nodes import SOURCE, aten, node, typed

CPU = find_target("cpu")
X = torch.ones(2, 3)
UNKNOWN = TensorType((None, 3), torch.float32)


def planted(rows: dict[str, Row | None]) -> Judge:
    """The verdicts of the backend onnx with some rows changed, or taken out."""
    changed = {**table().rows, **rows}
    kept = {name: row for name, row in changed.items() if row is not None}
    return Judge("onnx", Evaluator(replace(table(), rows=kept), {}, dict).verdict)


def test_a_right_table_has_no_differences() -> None:
    nodes = [
        node(aten.sin.default, X),
        node(aten.sin.default, X),
        node(aten.split.Tensor, X, 1),
        node(aten.tan.default, X.double()),
        node(aten.special_bessel_j0.default, X),
        typed(aten.sin.default, (UNKNOWN,), UNKNOWN),
    ]
    report = probe(find_backend("onnx"), nodes, CPU)
    assert () == report.differences
    assert (4, 5) == (report.asked, report.nodes)


def test_planted_wrong_rows_are_found_in_both_directions() -> None:
    nodes = [
        node(aten.sin.default, X),
        node(aten.cos.default, X),
        node(aten.cos.default, X),
        node(aten.tan.default, X.double()),
    ]
    wrong = planted({"aten.cos.default": None, "aten.tan.default": Row()})
    timid, bold = probe(find_backend("onnx"), nodes, CPU, judge=wrong).differences

    assert ("aten.cos.default", False, "", 2) == (
        timid.op,
        timid.is_promise,
        timid.refusal,
        timid.count,
    )
    assert isinstance(timid.table, Rejected)
    assert (SOURCE,) == timid.sources
    assert "(float32[2, 3]) -> float32[2, 3]" == timid.types
    assert ("aten.tan.default", True) == (bold.op, bold.is_promise)
    assert "Tan" in bold.refusal


# --- a backend of which only the probe exists ----------------------------------------------------


def attempt(graph: fx.Graph, constants: Any, results: Any) -> None:
    """Crashes on cosines and refuses sines."""
    ops = {n.target for n in graph.nodes}
    if aten.cos.default in ops:
        os.kill(os.getpid(), signal.SIGSEGV)
    if aten.sin.default in ops:
        raise CompileError("no sines")


def info(probe: str, **changes: Any) -> BackendInfo:
    return BackendInfo("box", "", "", probe=probe, **changes)


ALL = Judge("box", lambda node, target: Supported())
NODES = [node(op, X) for op in (aten.neg.default, aten.cos.default, aten.sin.default)]


def test_a_crash_is_an_answer_and_the_rest_is_asked_all_the_same() -> None:
    box = info(f"{__name__}:attempt")
    found = probe(box, [*NODES, node(aten.cos.default, X[0])], CPU, judge=ALL).differences
    assert ["aten.cos.default", "aten.sin.default", "aten.cos.default"] == [d.op for d in found]
    assert "crashed: the compiler of the probe of backend 'box' crashed with SIGSEGV" == (
        found[0].refusal
    )
    assert "no sines" == found[1].refusal


def test_a_probe_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CompileError, match="the probe of backend 'box' failed"):
        probe(info("nowhere:attempt"), NODES, CPU, judge=ALL)


def test_a_library_that_is_not_installed_is_named() -> None:
    report = probe(info("a:b", build_requires=("no_such_module",)), NODES, CPU, judge=ALL)
    assert "not installed: no_such_module" == report.note
    assert (("no_such_module",), 0) == (report.missing, report.asked)


def test_a_backend_without_a_probe_says_so() -> None:
    assert "this version has no probe for it" == probe(info(""), NODES, CPU, judge=ALL).note
