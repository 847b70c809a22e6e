"""Where two ONNX graphs that should be the same give different values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from partitioner.artifacts.manifest import Tolerance
from partitioner.backends.onnx.pool import apply_pool
from partitioner.runtime.compare import Difference, compare_gists, gist_of

__all__ = ["GraphDifference", "first_difference"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class GraphDifference:
    """The first value that differs.

    Attributes:
        value: its name in the graphs.
        op, expected_op: the operator that makes it in the wrong graph, and in the right one.
        expected: what it should be.
        difference: how far the wrong one is off.
    """

    value: str
    op: str
    expected_op: str
    expected: Array
    difference: Difference


def first_difference(
    right: Path,
    right_blobs: Path,
    wrong: Path,
    wrong_blobs: Path,
    inputs: Mapping[str, Array],
    tolerance: Tolerance,
) -> GraphDifference | None:
    """Run both graphs, unoptimised, and compare the values that have one name in both.

    Args:
        right_blobs, wrong_blobs: where the graphs' external data lie.
        inputs: of both, by name.

    Returns:
        the first in the order of the wrong graph; None where all that can be compared agree.
    """
    ops, want = _values(right, right_blobs, inputs)
    own_ops, have = _values(wrong, wrong_blobs, inputs)
    for name, array in have.items():
        if name not in want:
            continue
        difference = compare_gists(gist_of(want[name]), gist_of(array), tolerance)
        if not difference.ok:
            return GraphDifference(name, own_ops[name], ops[name], want[name], difference)
    return None


def _values(
    path: Path, blobs: Path, inputs: Mapping[str, Array]
) -> tuple[dict[str, str], dict[str, Array]]:
    """The operator and the value of every tensor that the graph's nodes make, in their order."""
    import onnx
    import onnxruntime as ort

    model = onnx.load(str(path), load_external_data=False)
    ops = {name: node.op_type for node in model.graph.node for name in node.output if name}
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in ops)
    options = cast(Any, ort).SessionOptions()
    options.graph_optimization_level = cast(Any, ort).GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(blobs)
    )
    apply_pool(ort, options, None)
    session = cast(Any, ort).InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted = {value.name for value in session.get_inputs()}
    given = {name: np.asarray(array, order="C") for name, array in inputs.items() if name in wanted}
    return ops, dict(zip(ops, session.run(list(ops), given), strict=True))
