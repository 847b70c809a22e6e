"""Training of the cloud's encoder on a few shapes, with the rest of the pipeline as it is."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from bernini.config import SIZES
from bernini.train.cloud import CloudTraining
from bernini.train.dataset import PICTURE_SIDE
from bernini.train.evaluate import Row, write_report
from bernini.train.export import export, export_encoder
from bernini.train.running import history_of
from bernini.train.train_cloud import CloudSettings, begin_cloud
from bernini.train.train_latents import LatentSettings
from bernini.weights import PARTIAL, build, trained

SIZE = "tiny"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The file of an image pipeline with random weights."""
    path = tmp_path_factory.mktemp("weights") / "tiny-image.safetensors"
    export(build(SIZES[SIZE], "image"), path, {})
    return path


@pytest.fixture(scope="module")
def training(image, tmp_path_factory):
    return CloudTraining(
        tmp_path_factory.mktemp("run"),
        image,
        image.with_name("figures.json"),
        shapes=3,
        taught=2,
        held_out=1,
        latents=LatentSettings(steps=25, taught_steps=20, batch=2),
        settings=CloudSettings(steps=50, batch=2, points=64),
        size=SIZE,
    )


@pytest.fixture(scope="module")
def exported(training, image):
    """The file of the encoder, trained for a few steps."""
    path = image.with_name("tiny-cloud.safetensors")
    training.export(path)
    return path


def test_the_file_holds_what_was_trained_and_names_the_rest(exported, image):
    with safe_open(exported, "pt") as file:
        names, facts = list(file.keys()), file.metadata()
        dtypes = {file.get_tensor(name).dtype for name in names}
    assert all(name.startswith(PARTIAL) for name in names)
    assert {torch.float16} == dtypes
    assert (image.name, "tiny", "cloud") == (facts["rest"], facts["size"], facts["condition"])
    assert ("25", "50") == (facts["latents_steps"], facts["cloud_steps"])


def test_the_rest_is_as_it_was_and_the_encoder_is_not(exported, training, image):
    loaded = trained(SIZES[SIZE], "cloud", exported).state_dict()
    rest = trained(SIZES[SIZE], "image", image).state_dict()
    begun = begin_cloud(SIZES[SIZE], trained(SIZES[SIZE], "image", image), 0).state_dict()
    made = training.train().state_dict()
    for name, value in loaded.items():
        if not name.startswith("encoder."):
            assert torch.equal(rest[name], value), name
        else:
            torch.testing.assert_close(value, made[name], atol=2e-3, rtol=2e-3)
    assert not torch.equal(begun["encoder.queries"], made["encoder.queries"])


def test_the_loss_falls_and_is_logged(exported, training):
    rows = history_of(training.folder / "cloud.pt")
    assert [25, 50] == [row["step"] for row in rows]
    assert rows[1]["loss"] < rows[0]["loss"]


def test_a_training_that_was_stopped_gives_what_it_gives_without(exported, training, tmp_path):
    for name in ("taught", "train-shapes", "check-shapes"):
        shutil.copytree(training.folder / name, tmp_path / name)
    again = dataclasses.replace(training, folder=tmp_path)
    stopped = 0

    class Stop(Exception):
        pass

    def stop_at(step, original=again.settings.steps):
        nonlocal stopped
        stopped = step
        raise Stop

    # Up to a checkpoint in the middle, whose learning rates are those of the whole.
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        from bernini.train import running

        save = running.Run.save

        def save_and_stop(run):
            save(run)
            if "average" in run.parts and run.step == 25:
                stop_at(run.step)

        patch.setattr(running, "_CHECKPOINT_SECONDS", -1.0)
        patch.setattr(running.Run, "save", save_and_stop)
        again.train()
    assert 25 == stopped
    expected, actual = training.train().state_dict(), again.train().state_dict()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_without_a_condition_it_begins_as_the_image_pipeline(size):
    image = build(SIZES[size], "image")
    cloud = begin_cloud(SIZES[size], image, 0)
    config = SIZES[size]
    noisy, timestep = torch.randn(1, 4, *[config.latent] * 3), torch.tensor([700])
    with torch.inference_mode():
        made = [
            p.denoiser(
                noisy,
                timestep,
                p.context(torch.zeros(1, config.context_tokens(p.condition), config.encoder_width)),
            )
            for p in (image, cloud)
        ]
    torch.testing.assert_close(*made, atol=1e-4, rtol=1e-4)


def test_another_rest_is_refused(exported, image, tmp_path):
    shutil.copy(exported, tmp_path)
    with pytest.raises(FileNotFoundError, match=image.name):
        trained(SIZES[SIZE], "cloud", tmp_path / exported.name)
    export(build(SIZES[SIZE], "image", seed=1), tmp_path / image.name, {})
    with pytest.raises(ValueError, match="trained with another tiny-image"):
        trained(SIZES[SIZE], "cloud", tmp_path / exported.name)


def test_an_encoder_belongs_beside_the_rest(image, tmp_path):
    pipeline = build(SIZES[SIZE], "cloud")
    with pytest.raises(ValueError, match="belongs beside"):
        export_encoder(pipeline, tmp_path / "cloud.safetensors", image, {})


def test_figures_are_written_with_the_bounds_of_the_image(exported, training):
    family = json.loads((training.folder / "train-shapes/recipe.json").read_text())["names"]
    assert 3 == len(family)
    held_out, _ = training.data("held-out", 1)
    bound = Row(held_out.names[0], {"autoencoder": 0.5}, {"autoencoder": 0.25})
    write_report(training.figures, {}, [bound])
    training.evaluate(exported)
    report = json.loads(exported.with_name("cloud-figures.json").read_text())
    assert 1 == report["figures"]["shapes"]
    assert 0.5 == report["figures"]["iou_autoencoder_mean"]
    assert 0.25 == report["rows"][0]["chamfer"]["autoencoder"]
    assert np.isfinite(report["rows"][0]["iou"]["pipeline"])
    with Image.open(exported.with_name("cloud-gallery.png")) as picture:
        assert (PICTURE_SIDE, 4 * PICTURE_SIDE) == picture.size
    write_report(training.figures, {}, [dataclasses.replace(bound, family="another")])
    with pytest.raises(ValueError, match="not of these held-out shapes"):
        training.evaluate(exported)
