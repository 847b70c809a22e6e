"""Which ONNX Runtime a graph needs."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from onnx import TensorProto, helper

from partitioner.artifacts.manifest import Requirement
from partitioner.backends.onnx.requirements import requirements


def write(path: Path, opset: int, form: int, domain: str = "") -> Path:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    node = helper.make_node("Gelu", ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", [info], [])
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=form)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("opset", "form", "version"),
    [(17, 8, "1.12"), (20, 9, "1.17"), (20, 10, "1.18"), (13, 8, "1.12"), (21, 10, "1.18")],
)
def test_the_first_version_that_knows_opset_and_format(
    tmp_path: Path, opset: int, form: int, version: str
) -> None:
    reason = f"opset {opset}, IR version {form}"
    assert [Requirement("library", "onnxruntime", version, reason=reason)] == requirements(
        [write(tmp_path / "g", opset, form)]
    )


def test_of_several_graphs_the_most(tmp_path: Path) -> None:
    graphs = [write(tmp_path / str(opset), opset, 8) for opset in (17, 20, 18)]
    assert ["1.17"] == [one.at_least for one in requirements(graphs)]
    assert [] == requirements([])


@pytest.mark.parametrize(("opset", "domain"), [(20, "com.microsoft"), (99, "")])
def test_what_no_table_has_needs_what_compiled_it(tmp_path: Path, opset: int, domain: str) -> None:
    here = ".".join(onnxruntime.__version__.split(".")[:2])
    (found,) = requirements([write(tmp_path / "g", opset, 10, domain)])
    assert here == found.at_least
    assert (domain or "opset 99") in found.reason
