"""Inputs of a pipeline: missing ones, unknown ones, sizes, images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from partitioner.errors import InputError
from partitioner.plan import Call
from partitioner.runtime import Pipeline, load
from partitioner.specs import Image, InputSpec, Noise
from tests.bundles import Maker, node, spec
from tests.runtime.samples import IMAGE


def test_missing_inputs(pipe: Pipeline) -> None:
    with pytest.raises(InputError) as caught:
        pipe()

    assert "input missing: image (float32[1, 8])" == caught.value.what
    assert "call it with image=..." == caught.value.advice


def test_unknown_inputs_are_met_with_the_nearest_name(pipe: Pipeline) -> None:
    with pytest.raises(InputError) as caught:
        pipe(image=IMAGE, imgae=IMAGE)
    assert "this pipeline has no input 'imgae'" == caught.value.what
    assert "did you mean 'image'?" == caught.value.advice

    with pytest.raises(InputError) as caught:
        pipe(image=IMAGE, zzz=1)
    assert "its inputs are image, noise, prompt" == caught.value.advice


def test_symbolic_sizes(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.onnx(
        "add",
        {"a": "float32[n, 2]", "b": "float32[n, 2]"},
        {"c": "float32[n, 2]"},
        [node("Add", ["a", "b"], ["c"])],
    )
    maker.write(
        [
            InputSpec("a", spec("float32[n, 2]")),
            InputSpec("b", spec("float32[n, 2]"), Noise("uniform")),
        ],
        [Call("add", ("a", "b"), ("c",))],
        {"c": "c"},
    )
    pipe = load(maker.path)
    ones = np.ones((3, 2), np.float32)

    np.testing.assert_array_equal(ones * 3, pipe(a=ones, b=ones * 2)["c"])
    drawn = pipe(a=ones, seed=0)["c"]
    assert (3, 2) == drawn.shape
    assert bool(np.all((drawn >= 1) & (drawn < 2)))
    with pytest.raises(InputError, match=r"'b' has the shape \[2, 2\]"):
        pipe(a=ones, b=ones[:2])


def test_images_are_resized_and_normalised(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "b")
    maker.onnx(
        "copy",
        {"a": "float32[1, 3, 4, 6]"},
        {"b": "float32[1, 3, 4, 6]"},
        [node("Identity", ["a"], ["b"])],
    )
    maker.write(
        [InputSpec("image", spec("float32[1, 3, 4, 6]"), Image((4, 6)))],
        [Call("copy", ("image",), ("y",))],
        {"y": "y"},
    )
    pipe = load(maker.path)
    picture = np.full((4, 6, 3), 255, np.uint8)

    np.testing.assert_array_equal(np.ones((1, 3, 4, 6)), pipe(image=picture)["y"])
    with pytest.raises(InputError, match="an image of 4 x 6"):
        pipe()
