"""Codes of verdicts: closed, each given for a real node, and without any backend installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import fx

from partitioner.backends import BackendInfo, find_backend
from partitioner.backends.base import Rejected as FromBase
from partitioner.backends.verdicts import CODES, Code, Rejected, Supported
from partitioner.errors import BackendError, IncompatibleBundleError
from partitioner.program import TensorType
from partitioner.targets import find_target

from .nodes import INF2, SOURCE, aten, node, typed

X = torch.ones(2, 3)
UNKNOWN = TensorType((None, 3), torch.float32)
IMAGE, KERNEL = torch.ones(1, 2, 5, 5), torch.ones(2, 2, 3, 3)

CASES: list[tuple[str, str, fx.Node]] = [
    ("op-unsupported", "neuron", node(aten.sort.default, X)),
    ("op-unsupported", "onnx", node(aten.special_bessel_j0.default, X)),
    ("unproven", "neuron", node(aten.special_bessel_j0.default, X)),
    ("dtype", "onnx", node(aten.sin.default, X.bfloat16())),
    ("dtype", "onnx", node(aten.sin.default, X.to(torch.complex64))),
    ("dtype", "onnx", node(aten.tan.default, X.double())),
    ("dtype", "neuron", node(aten.sin.default, X.double())),
    ("rank", "neuron", node(aten.topk.default, X[None], 1)),
    ("dynamic-shape", "onnx", typed(aten.sin.default, (UNKNOWN,), UNKNOWN)),
    ("dynamic-shape", "neuron", typed(aten.sin.default, (UNKNOWN,), UNKNOWN)),
    ("data-dependent", "onnx", typed(aten.nonzero.default, (X,), UNKNOWN)),
    ("data-dependent", "neuron", typed(aten.nonzero.default, (X,), UNKNOWN)),
    (
        "configuration",
        "neuron",
        node(aten.conv_transpose2d.input, IMAGE, KERNEL, None, [2, 2], [0, 0], [0, 0], 1, [2, 2]),
    ),
    ("policy", "host", node(aten.sin.default, X)),
]


@pytest.mark.parametrize(("code", "backend", "node"), CASES)
def test_each_code_is_given_for_a_node(code: str, backend: str, node: fx.Node) -> None:
    verdict = find_backend(backend).make_judge().verdict(node, INF2)
    assert isinstance(verdict, Rejected)
    assert (code, SOURCE) == (verdict.code, verdict.source)
    assert verdict.message


@pytest.mark.parametrize("backend", ["onnx", "neuron"])
def test_an_index_of_whole_numbers_has_a_known_size(backend: str) -> None:
    judge = find_backend(backend).make_judge()
    rows = torch.tensor([1, 0], dtype=torch.int32)
    assert isinstance(judge.verdict(node(aten.index.Tensor, X, [rows]), INF2), Supported)


def test_no_code_is_without_a_node() -> None:
    assert set(CODES) == {code for code, _, _ in CASES}


def test_the_documented_codes_are_the_typed_ones() -> None:
    assert get_args(Code) == tuple(CODES)


def test_the_page_has_each_code_with_its_meaning() -> None:
    page = (Path(__file__).parents[2] / "docs" / "backends.md").read_text()
    assert [] == [code for code, text in CODES.items() if f"| `{code}` | {text} |" not in page]


def test_an_unknown_code_is_refused() -> None:
    code: Any = "because"
    with pytest.raises(BackendError, match="unknown code 'because': no") as caught:
        Rejected(code, "no", SOURCE)
    assert SOURCE == caught.value.where


def test_verdicts_compare_as_data() -> None:
    assert Rejected("dtype", "m", "s") == FromBase("dtype", "m", "s")
    assert Rejected("dtype", "m", "s") != Rejected("rank", "m", "s")
    assert Supported("a list") == Supported("another")


def test_a_backend_that_only_plans_says_so() -> None:
    later = BackendInfo("later", "", "", support="partitioner.backends.neuron.support:verdict")
    assert isinstance(later.make_judge().verdict(node(aten.sin.default, X), INF2), Supported)
    with pytest.raises(BackendError, match="plans for the backend 'later', but does not compile"):
        later.make_compiler()
    with pytest.raises(IncompatibleBundleError, match=r"does not run .* 'later'"):
        later.make_executor()


def test_the_compilers_verdict_is_that_of_the_judge() -> None:
    info = find_backend("onnx")
    for _, _, one in CASES:
        given = info.make_compiler().verdict(one, find_target("cpu"))
        assert given == info.make_judge().verdict(one, find_target("cpu"))


def test_verdicts_need_none_of_the_backends_libraries() -> None:
    program = """
        import sys
        from importlib.machinery import PathFinder

        ABSENT = {"onnx", "onnxscript", "onnx_ir", "onnxruntime", "openvino", "torch_neuronx"}

        class Finder(PathFinder):
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                if name.partition(".")[0] in ABSENT:
                    return None
                return super().find_spec(name, path, target)

        sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
        from partitioner.backends import find_backend
        from tests.backends.test_verdicts import CASES
        from tests.backends.nodes import INF2

        for code, backend, node in CASES:
            judge = find_backend(backend).make_judge()
            print(judge.name, judge.verdict(node, INF2).code == code)
        print(find_backend("onnx").missing_to_build(), ABSENT & sys.modules.keys())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "" == done.stderr
    expected = [f"{backend} True" for _, backend, _ in CASES]
    expected.append("['onnx', 'onnxscript', 'onnxruntime'] set()")
    assert expected == done.stdout.splitlines()
