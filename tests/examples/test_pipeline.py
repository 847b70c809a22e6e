import numpy as np
import pytest
import torch

from bernini import model
from bernini.config import CONDITIONS, SIZES
from bernini.weights import build, without_weights
from partitioner import Image
from partitioner.capture import capture


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def run(seed, **inputs):
    pipeline = model.pipeline()
    torch.manual_seed(seed)
    with torch.inference_mode():
        return pipeline(**(model.example_inputs() | inputs))


@pytest.mark.parametrize(
    ("size", "encoder", "denoiser", "decoder"),
    [
        ("tiny", 0.10, 0.67, 0.13),
        ("small", 0.91, 2.21, 0.45),
        ("base", 21.6, 97.4, 6.44),
        ("paper", 303.2, 956.5, 6.44),
    ],
)
def test_parameter_counts(size, encoder, denoiser, decoder):
    pipeline = without_weights(SIZES[size], "image")
    assert encoder == pytest.approx(millions(pipeline.encoder), rel=0.03)
    assert denoiser == pytest.approx(millions(pipeline.denoiser), rel=0.01)
    assert decoder == pytest.approx(millions(pipeline.decoder), rel=0.01)


@pytest.mark.parametrize(
    ("size", "latent", "low", "resolution"),
    [("tiny", 6, 22, 64), ("small", 6, 22, 64), ("base", 8, 30, 128), ("paper", 12, 46, 256)],
)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_shapes(size, latent, low, resolution, condition):
    config = SIZES[size]
    pipeline = without_weights(config, condition).to("meta")
    features = pipeline.encoder(torch.empty(config.input_shape(condition), device="meta"))
    tokens = {"image": 64 if size == "small" else 256, "cloud": 256, "voxels": 512}[condition]
    assert (1, tokens, config.encoder_width) == tuple(features.shape)
    sample = pipeline.sample(features, 1, 1.0)
    assert (1, 4, latent, latent, latent) == tuple(sample.shape)
    packed = pipeline.decoder(sample)
    assert (1, 64, low, low, low) == tuple(packed.shape)
    assert (resolution, resolution, resolution) == tuple(pipeline.wavelet(packed).shape)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_gives_a_mesh(condition):
    pipeline = model.pipeline(condition=condition)
    inputs = model.example_inputs(condition=condition)
    with torch.inference_mode():
        mesh = pipeline(**inputs)
    assert ["vertices", "faces"] == list(mesh)
    assert torch.float32 == mesh["vertices"].dtype
    assert torch.int32 == mesh["faces"].dtype
    assert len(mesh["faces"]) > 100
    assert len(mesh["vertices"]) > mesh["faces"].max()
    assert mesh["vertices"].abs().max() <= 1


@pytest.mark.parametrize("seed", range(6))
def test_random_weights_give_a_tame_field_of_both_signs(seed):
    pipeline = model.pipeline(seed=seed)
    torch.manual_seed(seed)
    with torch.inference_mode():
        features = pipeline.encoder(**model.example_inputs())
        sample = pipeline.sample(features, 5, 1.8)
        field = pipeline.wavelet(pipeline.decoder(sample))
    assert 0.2 < sample.std() < 2
    assert 0.02 < (field < 0).float().mean() < 0.98


def test_same_seed_gives_the_same_mesh():
    first, second, other = run(1), run(1), run(2)
    for name in first:
        np.testing.assert_array_equal(first[name].numpy(), second[name].numpy())
    assert not np.array_equal(first["vertices"].numpy(), other["vertices"].numpy())


def test_the_condition_matters():
    picture = model.example_inputs()["image"]
    assert not np.array_equal(run(1)["faces"].numpy(), run(1, image=-picture)["faces"].numpy())


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(SIZES["tiny"], "image", seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    second = build(SIZES["tiny"], "image", seed=3).state_dict()
    other = build(SIZES["tiny"], "image", seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["decoder.codes"], other["decoder.codes"])


def test_tiny_takes_a_few_megabytes():
    assert millions(model.pipeline()) * 4 < 5


def test_quantisation_takes_the_nearest_code():
    decoder = model.pipeline().decoder
    latent = torch.randn(1, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    vectors = latent.permute(0, 2, 3, 4, 1).reshape(-1, 4)
    expected = decoder.codes[torch.cdist(vectors, decoder.codes).argmin(dim=1)]
    actual = decoder.quantise(latent).permute(0, 2, 3, 4, 1).reshape(-1, 4)
    torch.testing.assert_close(actual, expected, atol=0, rtol=0)


def test_a_picture_is_normalised_by_the_runtime():
    assert {"image": Image((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))} == model.inputs()
    assert {} == model.inputs(condition="cloud")
    assert {"image"} == set(model.example_inputs())


@pytest.mark.parametrize("steps", [1, 5])
def test_the_whole_loop_is_captured(steps):
    captured = capture(model.pipeline(), model.example_inputs(), options={"steps": steps})
    assert steps == captured.stage_calls["denoiser"]
    assert [steps] * (steps > 1) == [loop.trips for loop in captured.loops]


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
def test_base_gives_a_mesh(condition):
    pipeline = model.pipeline("base", condition)
    with torch.inference_mode():
        mesh = pipeline(**model.example_inputs("base", condition), steps=2)
    assert len(mesh["faces"]) > 1000
