"""Each part of the training on a few tiny shapes, and all of them one after the other."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from bernini.config import SIZES
from bernini.metrics import field_iou
from bernini.train.autoencoder import LEVELS, Autoencoder, lattice
from bernini.train.beginning import fill_decoder, untrained
from bernini.train.dataset import PICTURE_SIDE, Recipe, make_dataset
from bernini.train.evaluate import evaluate, summary
from bernini.train.export import export
from bernini.train.gallery import draw_gallery
from bernini.train.keeping import load_kept
from bernini.train.plots import plot_curves
from bernini.train.running import Average, Run, history_of, learning_rate
from bernini.train.sensitivity import loss_weights
from bernini.train.train_autoencoder import (
    AutoencoderSettings,
    fields_of,
    iou,
    train_autoencoder,
)
from bernini.train.train_diffusion import DiffusionSettings, draw_timesteps, train_diffusion
from bernini.train.train_refinement import RefinementSettings, train_refinement
from bernini.weights import trained

CONFIG = dataclasses.replace(
    SIZES["tiny"], autoencoder_width=8, width=32, conv_channels=8, encoder_width=16, patch_side=56
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), Recipe(count=3, views=1))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """A few steps of all trainings: the autoencoder, the pipeline, and their folder."""
    folder = tmp_path_factory.mktemp("runs")
    settings = AutoencoderSettings(steps=25, encoder_steps=12, batch=1)
    coder = train_autoencoder(CONFIG, data, data, folder / "autoencoder.pt", settings)
    settings = DiffusionSettings(steps=25, batch=2)
    pipeline = train_diffusion(CONFIG, coder, data, data, folder / "diffusion.pt", settings)
    settings = RefinementSettings(steps=25, samples=2, batch=2)
    train_refinement(coder, pipeline, data, data, folder / "refinement.pt", settings)
    return coder, pipeline, folder


def advance(path, steps):
    """A run of a small regression up to a step, from its checkpoint if there is one."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 1)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1)
    average = Average(layer, 0.9)
    run = Run(path, {"layer": layer, "optimiser": optimiser, "average": average})
    run.restore()

    def train(step):
        batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss = (layer(batch) - batch.sum(dim=1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        average.update(step)
        return loss

    run.go(steps, train, lambda: {"checked": 1.0}, check_every=50)
    return average.values, [(row["step"], row["loss"]) for row in run.history]


def test_a_run_that_was_stopped_gives_what_it_gives_without(tmp_path):
    values, history = advance(tmp_path / "once.pt", 100)
    advance(tmp_path / "twice.pt", 50)
    again, same = advance(tmp_path / "twice.pt", 100)
    assert all(torch.equal(values[name], again[name]) for name in values)
    assert same == history
    assert history[-1][1] < history[0][1]
    assert history == [(row["step"], row["loss"]) for row in history_of(tmp_path / "once.pt")]


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 1000, 1e-3) for step in range(1001)]
    assert 99 == int(np.argmax(rates))
    assert 0.0 == pytest.approx(rates[-1])
    assert rates[550] == pytest.approx(5e-4)


def test_codes_are_a_grid_and_the_nearest_is_the_rounded_latent():
    assert np.prod(LEVELS) == len(np.unique(lattice(), axis=0))
    model = Autoencoder(CONFIG, torch.zeros(64), torch.ones(64))
    latent = torch.rand(1, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent.requires_grad_()
    levels = torch.tensor(LEVELS)[:, None, None, None] - 1.0
    expected = ((latent + 1) / 2 * levels).round() / levels * 2 - 1
    torch.testing.assert_close(model.round(latent), expected)
    model.round(latent).sum().backward()
    torch.testing.assert_close(latent.grad, torch.ones_like(latent))


def test_the_pipeline_decodes_as_the_autoencoder_does():
    torch.manual_seed(0)
    model = Autoencoder(CONFIG, torch.randn(64), torch.rand(64) + 0.5)
    scale = torch.tensor([0.5, 0.7, 0.9, 1.1])
    pipeline = untrained(CONFIG, "image", 0)
    fill_decoder(pipeline, model, scale)
    latent = torch.rand(1, 4, 6, 6, 6) * 2 - 1
    with torch.inference_mode():
        expected = model.decode(model.round(latent))
        actual = pipeline.decoder(latent / scale[:, None, None, None])
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_refinement_goes_on_from_its_checkpoint_to_the_same_decoder(data, runs):
    coder, pipeline, folder = runs
    before = {name: value.clone() for name, value in pipeline.decoder.state_dict().items()}
    kept = load_kept(folder / "autoencoder.pt", torch.device("cpu"))
    unrefined = kept["parts"]["model"]
    trained_on = coder.model.decoder.last.weight
    assert not torch.equal(unrefined["decoder.last.weight"], trained_on)
    coder.model.load_state_dict(unrefined)
    settings = RefinementSettings(steps=25, samples=2, batch=2)
    train_refinement(coder, pipeline, data, data, folder / "refinement.pt", settings)
    after = pipeline.decoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_latents_count_as_they_show(data, runs):
    coder, _, _ = runs
    with torch.no_grad():
        latents = coder.encode(fields_of(data, np.arange(3)))
    weights = loss_weights(coder, latents)
    assert weights.shape == latents.shape[1:]
    assert 1.0 == pytest.approx(float(weights.mean()), rel=1e-4)
    assert 0.2 <= float(weights.min()) < 1 < float(weights.max())


def test_half_of_the_timesteps_are_those_that_the_pipeline_takes():
    drawn = draw_timesteps(64, torch.Generator().manual_seed(0))
    assert {999, 749, 500, 250} == set(drawn[1::2].tolist())
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < 1000
    assert len(set(drawn[::2].tolist())) > 16


def test_the_same_seed_begins_with_the_same_weights():
    first, second = (untrained(CONFIG, "image", 3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.isfinite(value).all() for name, value in first.items() if "codes" not in name)


def test_iou_in_training_is_that_of_the_figures():
    fields = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = field_iou(fields[0].numpy(), fields[1].numpy())
    assert expected == pytest.approx(float(iou(fields[:1], fields[1:])))


def test_what_was_trained_was_logged(runs):
    _, _, folder = runs
    for name in ("autoencoder", "diffusion"):
        rows = history_of(folder / f"{name}.pt")
        assert [25] == [row["step"] for row in rows]
        assert np.isfinite(rows[0]["loss"])


def test_what_is_exported_is_what_is_loaded(runs, tmp_path):
    _, pipeline, _ = runs
    path = tmp_path / "weights.safetensors"
    export(pipeline, path, {"size": "tiny"})
    loaded = trained(CONFIG, "image", path).state_dict()
    for name, value in pipeline.state_dict().items():
        assert torch.float32 == loaded[name].dtype
        tolerance = 0 if name.startswith("decoder.") else 1e-3
        torch.testing.assert_close(loaded[name], value, atol=tolerance, rtol=tolerance)


def test_weights_of_another_size_are_refused(runs, tmp_path):
    export(runs[1], tmp_path / "weights.safetensors", {})
    with pytest.raises(RuntimeError, match="size mismatch"):
        trained(SIZES["small"], "image", tmp_path / "weights.safetensors")


def test_figures(runs, data):
    coder, pipeline, _ = runs
    rows = evaluate(pipeline, coder, data, data, steps=2)
    assert data.names == [row.family for row in rows]
    # The held-out shapes are those of the training set here, so the nearest is the same.
    assert [1.0] * 3 == [row.iou["nearest"] for row in rows]
    figures = summary(rows)
    assert 3 == figures["shapes"]
    assert 0.0 == figures["beats_nearest_chamfer"]
    assert 1.0 == figures["iou_nearest_mean"]


def test_gallery(runs, data, tmp_path):
    draw_gallery(tmp_path / "gallery.png", runs[1], data, data, count=2, steps=1)
    with Image.open(tmp_path / "gallery.png") as picture:
        assert (2 * PICTURE_SIDE, 4 * PICTURE_SIDE) == picture.size


def test_curves(tmp_path):
    history = [{"step": 25, "loss": 1.0}, {"step": 50, "loss": 0.5, "held_out_iou": 0.4}]
    plot_curves(tmp_path / "curves.png", {"one": history, "other": history})
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
