"""``partition plan --probe``."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from partitioner.cli import probe_report
from partitioner.cli.plan import command
from partitioner.targets import Target
from tests.planning.sketch import Sketch, aten

MODEL = """
import torch
layer = torch.nn.Linear(3, 4)
def pipeline(x):
    return {"y": layer(x).tanh()}
example_inputs = {"x": torch.ones(1, 3)}
"""


def test_a_program_that_the_table_is_right_about(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    arguments = [str(tmp_path / "model.py"), "--probe"]
    run = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    (entry,) = json.loads(run.output)["probe"]
    assert ("onnx", "", []) == (entry["backend"], entry["note"], entry["differences"])
    assert 0 < entry["asked"] <= entry["nodes"]


def test_a_backend_that_is_not_installed_is_named() -> None:
    sketch = Sketch()
    program = sketch.done(y=sketch.op(aten.sin.default, sketch.input("x")))
    target = Target("inf2", ("neuron", "host"), 1e-2, 1e-3, (), "for planning")
    (line,) = probe_report.lines(probe_report.document(program, target))
    assert "probe    neuron: not asked, not installed: torch_neuronx, neuronxcc" == line


def test_differences_for_people() -> None:
    taken = {"taken": True, "message": ""}
    common = {"types": "(float32[2]) -> float32[2]", "sources": ["m.py:3 in f"]}
    refused = {"taken": False, "message": "no kernel"}
    rejected = {"taken": False, "code": "dtype", "message": "not in it"}
    differences = [
        {
            "op": "aten.tan.default",
            "table": {"taken": True},
            "probe": refused,
            "count": 2,
            **common,
        },
        {"op": "aten.cos.default", "table": rejected, "probe": taken, "count": 1, **common},
    ]
    entry = {"backend": "onnx", "asked": 5, "nodes": 9, "note": "", "differences": differences}
    assert [
        "probe    onnx: asked about 5 distinct ops (9 in all); 2 differ from the table",
        "  aten.tan.default  (float32[2]) -> float32[2], 2 times",
        "    table: taken; library: no kernel",
        "    at m.py:3 in f",
        "  aten.cos.default  (float32[2]) -> float32[2]",
        "    table: dtype: not in it; library: taken",
        "    at m.py:3 in f",
    ] == list(probe_report.lines([entry]))
