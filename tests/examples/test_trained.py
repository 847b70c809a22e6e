"""The weights that come with the example."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bernini import model
from bernini.metrics import field_iou
from bernini.train.dataset import Recipe, make_shape
from bernini.train.evaluate import generate_field
from bernini.train.fields import to_distances
from bernini.weights import TRAINED

WEIGHTS = TRAINED["small", "image"]


@pytest.fixture(scope="module")
def pipeline():
    return model.pipeline(size="small")


@pytest.fixture(scope="module")
def figures():
    return json.loads(WEIGHTS.with_name("figures.json").read_text())


def test_they_fit_into_a_repository():
    assert WEIGHTS.stat().st_size <= 12 * 2**20


def test_the_file_says_what_it_is_of():
    with safe_open(WEIGHTS, "pt") as file:
        facts = file.metadata()
    assert ("small", "image") == (facts["size"], facts["condition"])
    assert int(facts["diffusion_steps"]) > 0


def test_they_are_taken_unless_random_ones_are_asked_for(pipeline):
    other = model.pipeline(size="small", weights="random")
    assert not torch.equal(pipeline.decoder.codes, other.decoder.codes)
    given = model.pipeline(size="small", weights=str(WEIGHTS))
    for name, value in pipeline.state_dict().items():
        assert torch.equal(value, given.state_dict()[name])


def test_figures_are_those_of_the_weights(pipeline, figures):
    """Two of the held-out shapes, made once more."""
    for index in range(2):
        name, field, pictures = make_shape(Recipe(split="held-out"), index)
        made = generate_field(pipeline, pictures[0], index, 5, 1.8)
        recorded = figures["rows"][index]
        assert recorded["family"] == name
        iou = field_iou(made, to_distances(field))
        assert recorded["iou"]["pipeline"] == pytest.approx(iou, abs=0.02)


def test_figures_are_of_64_shapes(figures):
    rows = figures["rows"]
    assert 64 == len(rows) == figures["figures"]["shapes"]
    mean = np.mean([row["iou"]["pipeline"] for row in rows])
    assert figures["figures"]["iou_pipeline_mean"] == pytest.approx(mean)


def test_the_metric_tells_shapes_apart():
    inputs = [model.example_inputs(size="small"), *model.quality_inputs(size="small")]
    assert 8 == len(inputs)
    assert all((1, 3, 224, 224) == tuple(one["image"].shape) for one in inputs)
    assert not torch.equal(inputs[0]["image"], inputs[1]["image"])
    with torch.inference_mode():
        meshes = []
        for one in inputs[:2]:
            torch.manual_seed(0)
            mesh = model.pipeline(size="small")(**one)
            meshes.append({name: value.numpy() for name, value in mesh.items()})
    assert 1.0 == model.quality(meshes[0], meshes[0])
    assert model.quality(meshes[0], meshes[1]) < 0.95
