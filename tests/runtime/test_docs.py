"""The examples of docs/runtime.md run, in their order, on a bundle like theirs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.plan import Call, Carry, Loop
from partitioner.specs import Image, InputSpec, Noise
from tests.bundles import Maker, node, spec

PAGE = Path(__file__).parents[2] / "docs" / "runtime.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def make_pictures(path: Path) -> Path:
    """An image and noise in; ten steps towards the image's mean."""
    maker = Maker(path)
    image, latent = "float32[1, 3, 224, 224]", "float32[1, 3]"
    mean = [
        node("GlobalAveragePool", ["image"], ["pooled"]),
        node("Flatten", ["pooled"], ["mean"]),
    ]
    maker.onnx("encode", {"image": image}, {"mean": latent}, mean)
    step = [node("Add", ["x", "mean"], ["s"]), node("Mul", ["s", "half"], ["y"])]
    half = {"half": np.array(0.5, np.float32)}
    maker.onnx("step", {"x": latent, "mean": latent}, {"y": latent}, step, weights=half)
    loop = Loop(
        "sampler",
        10,
        (Carry("noise", "x", "y", "latent"),),
        (),
        (),
        (Call("step", ("x", "mean"), ("y",)),),
    )
    inputs = [
        InputSpec("image", spec(image), Image((224, 224))),
        InputSpec("noise", spec(latent), Noise()),
    ]
    return maker.write(inputs, [Call("encode", ("image",), ("mean",)), loop], {"latent": "latent"})


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image as Pictures

    make_pictures(tmp_path / "my.bundle")
    Pictures.new("RGB", (60, 40), "white").save(tmp_path / "chair.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    for block in blocks:
        exec(block, names)
    served = asyncio.run(names["serve"]())
    np.testing.assert_array_equal(names["outputs"]["latent"], served["latent"])
    assert [["latent"], ["latent"]] == [list(preview) for preview in names["previews"]]
    names["pipe"].close()
