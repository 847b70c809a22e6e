"""``partition plan --probe``: checks of segments, for people and for exit codes."""

from __future__ import annotations

import json
import math
from pathlib import Path

from click.testing import CliRunner

from partitioner.backends.neuron.hlo_check import Finding, HloReport
from partitioner.backends.neuron.segment_check import SegmentCheck
from partitioner.cli import segment_report
from partitioner.cli.plan import command
from partitioner.errors import CompileError, ParityError

SORT = Finding(
    *("sort", "(float32[2]) -> float32[2]", "op-unsupported", "Neuron cannot sort"),
    *("use topk", "EVRF029", ("m.py:3 in f",), 2),
)
ODD = Finding("popcnt", "(int32[2]) -> int32[2]", "unproven", "no source", "", "", (), 1)
CLEAN = HloReport({"add": 3}, (ODD,), 4)


def entries(*checks: SegmentCheck) -> list[dict[str, object]]:
    segments = [segment_report.entry(one) for one in checks]
    return [{"backend": "neuron", "note": "", "segments": segments}]


def test_checks_for_people() -> None:
    refused = SegmentCheck("net", HloReport({"sort": 2}, (SORT,), 2000), 5_000_000, 1e-7)
    wrong = SegmentCheck("tail", CLEAN, None, math.inf)
    unknown = SegmentCheck("head", failure="torch-mlir does not lower it", source="m.py:9 in g")
    found = entries(refused, wrong, unknown)
    found = json.loads(json.dumps(found))
    assert [
        "check    neuron net: FAILED",
        "  2 instructions of HLO: 2 sort",
        "  about 2,000 of 5,000,000 instructions of the device",
        "  refused: sort  (float32[2]) -> float32[2], 2 times",
        "    op-unsupported (EVRF029): Neuron cannot sort",
        "    at m.py:3 in f",
        "    to do: use topk",
        "  relative error on the CPU: 1.0e-07",
        "check    neuron tail: FAILED",
        "  3 instructions of HLO: 3 add",
        "  about 4 instructions of the device",
        "  unproven: popcnt  (int32[2]) -> int32[2]",
        "    unproven: no source",
        "  relative error on the CPU: infinite",
        "check    neuron head: FAILED",
        "  torch-mlir does not lower it",
        "    at m.py:9 in g",
    ] == list(segment_report.lines(found))


def test_how_the_command_ends() -> None:
    right = SegmentCheck("a", CLEAN, None, 1e-5)
    wrong = SegmentCheck("b", CLEAN, None, 2e-4)
    refused = SegmentCheck("c", HloReport({}, (SORT,), 1), None, 0.0)
    assert None is segment_report.failure_of(entries(right))
    parity = segment_report.failure_of(entries(right, wrong))
    assert isinstance(parity, ParityError)
    assert "'b'" in parity.what
    compiled = segment_report.failure_of(entries(right, refused, wrong))
    assert isinstance(compiled, CompileError)
    assert "'c', 'b'" in compiled.what
    assert "m.py:3 in f" == compiled.where


MODEL = """
import torch
layer = torch.nn.Linear(3, 4)
def pipeline(x):
    return {"y": layer(x).tanh()}
example_inputs = {"x": torch.ones(1, 3)}
"""


def test_a_model_whose_segments_are_right(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    arguments = [str(tmp_path / "model.py"), "--target", "inf2", "--backends", "neuron,host"]
    run = CliRunner().invoke(command, [*arguments, "--probe", "--json"], catch_exceptions=False)
    assert 0 == run.exit_code
    (entry,) = json.loads(run.output)["checks"]
    assert [True] == [one["passed"] for one in entry["segments"]]
    assert entry["segments"][0]["error"] < 1e-6
