"""How much memory a loaded bundle takes, as a multiple of its weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from partitioner.plan import Call
from partitioner.specs import InputSpec
from tests.bundles import Maker, node, spec

pytest.importorskip("psutil")

WIDTH, LAYERS = 1600, 20
WEIGHTS = 4 * WIDTH * WIDTH * LAYERS

CODE = """
import sys
import numpy as np, psutil, onnxruntime
import partitioner

before = psutil.Process().memory_info().rss
pipe = partitioner.load(sys.argv[1], memory=sys.argv[2])
for _ in range(2):
    pipe(x=np.zeros((16, 1600), np.float32))
print(psutil.Process().memory_info().rss - before)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 MB of weights in two segments, some of them transposed as exporters write them."""
    maker = Maker(tmp_path_factory.mktemp("large") / "bundle")
    shape = f"float32[16, {WIDTH}]"
    for name in ("one", "two"):
        nodes, last = [], "x"
        for index in range(LAYERS // 2):
            factor = f"w{index}"
            if index % 2:
                nodes.append(node("Transpose", [factor], [f"t{index}"], perm=[1, 0]))
                factor = f"t{index}"
            nodes.append(node("MatMul", [last, factor], [f"m{index}"]))
            last = "y" if index == LAYERS // 2 - 1 else f"a{index}"
            nodes.append(node("Tanh", [f"m{index}"], [last]))
        weights = {
            f"w{index}": np.full((WIDTH, WIDTH), (len(name) + index) * 1e-4, np.float32)
            for index in range(LAYERS // 2)
        }
        weights["w0"][0] = 1.0 if name == "one" else 2.0
        maker.onnx(name, {"x": shape}, {"y": shape}, nodes, weights=weights)
    return maker.write(
        [InputSpec("x", spec(shape))],
        [Call("one", ("x",), ("h",)), Call("two", ("h",), ("y",))],
        {"y": "y"},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "limit"), [("fast", 2.2), ("low", 1.2)])
def test_resident_memory(bundle: Path, memory: str, limit: float) -> None:
    printed = subprocess.check_output([sys.executable, "-c", CODE, str(bundle), memory], text=True)

    assert int(printed) / WEIGHTS <= limit
