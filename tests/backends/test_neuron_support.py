"""What Neuron takes: evidence of each row, refusals with Neuron's codes, and whole pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx

from partitioner.backends.neuron.checks import CHECKS
from partitioner.backends.neuron.support import table, verdict
from partitioner.backends.verdicts import Rejected, Supported
from partitioner.capture import capture
from partitioner.modelfile import load_model
from partitioner.passes.pipeline import DEFAULT, parse_pipeline, run_pipeline
from partitioner.planning.graphs import is_op, is_structural, reachable_graphs
from partitioner.program import Program, is_getitem
from tests.diffusion import LatentPipeline, dit, scheduler, unet, vae

from .nodes import INF2, aten, node

X = torch.ones(2, 3)
WHOLE = torch.ones(2, 3, dtype=torch.int64)
ROW = torch.zeros(1, 3, dtype=torch.int64)
IMAGE, KERNEL = torch.ones(1, 2, 6, 6), torch.ones(2, 2, 3, 3)
TRANSPOSED = (None, [2, 2], [0, 0], [0, 0], 1)

REFUSED: list[tuple[str, str, fx.Node]] = [
    ("op-unsupported", "EVRF029", node(aten.sort.default, X)),
    ("op-unsupported", "EUOC002", node(aten.fft_fft.default, X)),
    (
        "op-unsupported",
        "EUOC002, EVRF001",
        node(aten.linalg_solve_triangular.default, torch.eye(2), X, upper=True),
    ),
    ("op-unsupported", "EVRF015", node(aten.linalg_cholesky.default, torch.eye(2))),
    ("dtype", "EVRF004", node(aten.sin.default, X.to(torch.complex64))),
    ("dtype", "EVRF051", node(aten.clone.default, X.to(torch.float8_e4m3fn))),
    ("dtype", "EVRF005", node(aten.clone.default, X.to(torch.float8_e4m3fnuz))),
    ("dtype", "", node(aten.sin.default, X.double())),
    ("dtype", "EVRF035", node(aten.mm.default, WHOLE, WHOLE.T)),
    ("dtype", "EVRF062", node(aten.pow.Tensor_Scalar, WHOLE, 2)),
    ("dtype", "EVRF013", node(aten.topk.default, WHOLE, 1)),
    ("configuration", "", node(aten.topk.default, X, 1, 0)),
    ("configuration", "", node(aten.topk.default, X, 1, -1, True, False)),
    ("rank", "", node(aten.topk.default, X[None], 1)),
    ("dtype", "EVRF016", node(aten.scatter_add.default, WHOLE, 0, ROW, ROW)),
    ("dtype", "EVRF016", node(aten.index_put.default, WHOLE, [ROW[0]], ROW, True)),
    ("dtype", "EVRF060", node(aten.scatter.src, WHOLE, 0, ROW, ROW)),
    ("dtype", "EVRF022", node(aten.bitwise_right_shift.Tensor_Scalar, WHOLE, 1)),
    ("configuration", "ESFH002", node(aten.add.Tensor, WHOLE, 2**40)),
    (
        "configuration",
        "EVRF010",
        node(aten.conv_transpose2d.input, IMAGE, KERNEL, *TRANSPOSED, [2, 2]),
    ),
    (
        "configuration",
        "EVRF010",
        node(
            aten.convolution.default, IMAGE, KERNEL, None, [2, 2], [0, 0], [2, 2], True, [0, 0], 1
        ),
    ),
    (
        "configuration",
        "EVRF018",
        node(aten.max_pool2d.default, IMAGE, [2, 2], [1, 1], [0, 0], [2, 2]),
    ),
    (
        "configuration",
        "EVRF019",
        node(aten.max_pool2d_with_indices.default, IMAGE, [2, 2], reads=(0, 1)),
    ),
]

TAKEN: list[fx.Node] = [
    node(aten.topk.default, X, 1),
    node(aten.mm.default, X, X.T),
    node(aten.pow.Tensor_Scalar, X, 2.5),
    node(aten.pow.Tensor_Scalar, WHOLE.int(), 2),
    node(aten.scatter_add.default, X, 0, ROW, X[:1]),
    node(aten.bitwise_right_shift.Tensor_Scalar, WHOLE.int(), 1),
    node(aten.add.Tensor, WHOLE, 2**20),
    node(aten.add.Tensor, X, 2**40),
    node(aten.conv_transpose2d.input, IMAGE, KERNEL, *TRANSPOSED, [1, 1]),
    node(aten.conv2d.default, IMAGE, KERNEL, None, [2, 2], [0, 0], [2, 2]),
    node(aten.max_pool2d.default, IMAGE, [2, 2]),
    node(aten.max_pool2d_with_indices.default, IMAGE, [2, 2], reads=(0,)),
    node(aten.matmul.default, X, X.T),
    node(aten.upsample_trilinear3d.vec, torch.ones(1, 1, 2, 2, 2), None, False, [2.0, 2.0, 2.0]),
    node(aten.linear.default, X, X),
    node(aten.sin.default, X.bfloat16()),
]


@pytest.mark.parametrize(("code", "detail", "one"), REFUSED)
def test_refusals_have_neurons_own_code(code: str, detail: str, one: fx.Node) -> None:
    found = verdict(one, INF2)
    assert isinstance(found, Rejected)
    assert (code, detail) == (found.code, found.detail)
    assert found.advice


@pytest.mark.parametrize("one", TAKEN)
def test_what_is_next_to_a_refusal_is_taken(one: fx.Node) -> None:
    found = verdict(one, INF2)
    assert isinstance(found, Supported), found
    assert found.evidence


def test_every_row_rests_on_something_and_every_check_is_used() -> None:
    rows = table().rows
    assert [] == [op for op, row in rows.items() if not row.evidence and row.refusal is None]
    assert set(CHECKS) == {name for row in rows.values() for name in row.checks}


def test_every_row_is_an_op_of_torch() -> None:
    for name in table().rows:
        namespace, op, *overload = name.split(".")
        found = getattr(getattr(torch.ops, namespace), op)
        assert not overload or hasattr(found, overload[0])


def bernini(size: str) -> Program:
    model = Path(__file__).parents[2] / "examples" / "bernini" / "model.py"
    loaded = load_model(str(model), {"size": size, "steps": 2})
    return optimised(loaded.pipeline, loaded.example_inputs, loaded.options)


def optimised(pipeline: Any, inputs: dict[str, Any], options: dict[str, Any]) -> Program:
    program = capture(pipeline, inputs, options=options).program
    return run_pipeline(program, parse_pipeline(DEFAULT))[0]


def latent(denoiser: Any, condition: torch.Tensor) -> Program:
    pipeline = LatentPipeline(denoiser, scheduler("DDIMScheduler"), vae())
    return optimised(pipeline, {"condition": condition}, {"steps": 2})


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: bernini("tiny"), id="bernini-tiny"),
        pytest.param(lambda: bernini("base"), id="bernini-base", marks=pytest.mark.slow),
        pytest.param(lambda: latent(unet(), torch.ones(1, 4, 16)), id="unet"),
        pytest.param(lambda: latent(dit(), torch.tensor([3])), id="dit"),
    ],
)
def test_of_whole_pipelines_nearly_all_is_taken(make: Callable[[], Program]) -> None:
    nodes = [
        n
        for _, _, live in reachable_graphs(make())
        for n in live
        if is_op(n) and not is_structural(n) and not is_getitem(n)
    ]
    verdicts = [verdict(n, INF2) for n in nodes]
    refused = [v for v in verdicts if isinstance(v, Rejected)]
    assert len(refused) <= 0.01 * len(nodes), refused
    assert [] == [v for v in refused if not (v.message and v.source)]
