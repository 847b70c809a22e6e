"""The encoder of point clouds that comes with the example."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bernini import model
from bernini.metrics import field_iou
from bernini.train.clouds import shape_cloud
from bernini.train.dataset import Recipe, make_shape
from bernini.train.evaluate_cloud import field_of_cloud
from bernini.train.fields import to_distances
from bernini.weights import PARTIAL, TRAINED

WEIGHTS = TRAINED["small", "cloud"]
HELD_OUT = Recipe(views=0, split="held-out")


@pytest.fixture(scope="module")
def pipeline():
    return model.pipeline(size="small", condition="cloud")


@pytest.fixture(scope="module")
def figures():
    return json.loads(WEIGHTS.with_name("cloud-figures.json").read_text())


def test_all_weights_fit_into_a_repository():
    assert sum(path.stat().st_size for path in WEIGHTS.parent.iterdir()) <= 12 * 2**20


def test_the_file_says_what_it_is_of():
    with safe_open(WEIGHTS, "pt") as file:
        facts, names = file.metadata(), list(file.keys())
    assert ("small", "cloud") == (facts["size"], facts["condition"])
    assert int(facts["cloud_steps"]) > 0
    assert all(name.startswith(PARTIAL) for name in names)


def test_all_but_the_encoder_is_that_of_the_image(pipeline):
    image = model.pipeline(size="small").state_dict()
    own = pipeline.state_dict()
    shared = [name for name in own if not name.startswith(PARTIAL)]
    assert shared
    assert all(torch.equal(image[name], own[name]) for name in shared)


def test_figures_are_those_of_the_weights(pipeline, figures):
    """Two of the held-out shapes, made once more."""
    for index in range(2):
        name, field, _ = make_shape(HELD_OUT, index)
        made = field_of_cloud(pipeline, shape_cloud(HELD_OUT, index), index)
        recorded = figures["rows"][index]
        assert recorded["family"] == name
        iou = field_iou(made, to_distances(field))
        assert recorded["iou"]["pipeline"] == pytest.approx(iou, abs=0.02)


def test_figures_are_of_the_shapes_that_the_image_is_measured_with(figures):
    image = json.loads(TRAINED["small", "image"].with_name("figures.json").read_text())
    assert 64 == len(figures["rows"]) == figures["figures"]["shapes"]
    for other, own in zip(image["rows"], figures["rows"], strict=True):
        assert other["family"] == own["family"]
        assert other["iou"]["autoencoder"] == own["iou"]["autoencoder"]
    mean = np.mean([row["iou"]["pipeline"] for row in figures["rows"]])
    assert figures["figures"]["iou_pipeline_mean"] == pytest.approx(mean)


def test_clouds_to_measure_a_build_with_are_not_trained_on():
    given = {"size": "small", "condition": "cloud"}
    inputs = [model.example_inputs(**given), *model.quality_inputs(**given)]
    assert 8 == len(inputs)
    for index, one in enumerate(inputs):
        np.testing.assert_array_equal(shape_cloud(HELD_OUT, index), one["cloud"][0].numpy())
