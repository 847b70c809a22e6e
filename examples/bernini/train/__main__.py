"""Trains the small size of the example, from nothing to weights, figures and pictures.

python examples/bernini/train all --folder build/training

takes, by shorter runs, about two hours on 2 free CPU cores; it uses a GPU if there is one.
Each part can be run by itself (data, autoencoder, diffusion, refinement, export, evaluate), and
goes on where it was stopped.

python examples/bernini/train cloud --folder build/cloud
python examples/bernini/train evaluate-cloud --folder build/cloud

train an encoder of point clouds for the image's weights as they are, and measure it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import torch

from bernini.config import SIZES
from bernini.pipeline import MeshPipeline
from bernini.train.cloud import CloudTraining
from bernini.train.dataset import Dataset, Recipe, make_dataset
from bernini.train.evaluate import evaluate, summary, write_report
from bernini.train.export import export
from bernini.train.gallery import draw_gallery
from bernini.train.plots import plot_curves
from bernini.train.running import device, history_of
from bernini.train.train_autoencoder import (
    AutoencoderSettings,
    Coder,
    train_autoencoder,
)
from bernini.train.train_cloud import CloudSettings
from bernini.train.train_diffusion import DiffusionSettings, train_diffusion
from bernini.train.train_latents import LatentSettings
from bernini.train.train_refinement import RefinementSettings, train_refinement
from bernini.weights import TRAINED, trained

PARTS = ("data", "autoencoder", "diffusion", "refinement", "export", "evaluate")
CLOUD_PARTS = ("cloud", "evaluate-cloud")
SIZE, CONDITION = "small", "image"
#: Shapes that the figures are of.
HELD_OUT = 64
#: Each checkpoint under the name of its run.
CHECKPOINTS = {
    "autoencoder": "autoencoder.pt",
    "diffusion": "diffusion.pt",
    "refinement": "refinement.pt",
}


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    for part in PARTS if options.part == "all" else [options.part]:
        print(f"-- {part}", flush=True)
        {
            "data": lambda: (_train_set(options), _check_set(options)),
            "autoencoder": lambda: _coder(options),
            "diffusion": lambda: _diffusion(options, _coder(options)),
            "refinement": lambda: _refined(options),
            "export": lambda: _export(options),
            "evaluate": lambda: _evaluate(options),
            "cloud": lambda: _cloud(options).export(options.cloud_out),
            "evaluate-cloud": lambda: _cloud(options).evaluate(options.cloud_out),
        }[part]()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, "all", *CLOUD_PARTS])
    parser.add_argument("--folder", type=Path, required=True, help="for data and checkpoints")
    parser.add_argument("--out", type=Path, default=TRAINED[SIZE, CONDITION], help="weights file")
    parser.add_argument(
        "--cloud-out", type=Path, default=TRAINED[SIZE, "cloud"], help="the cloud encoder's file"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch; all CPUs by default")
    parser.add_argument("--shapes", type=int, help=f"{Recipe.count}, of the cloud's parts 2000")
    parser.add_argument("--autoencoder-steps", type=int, default=AutoencoderSettings.steps)
    parser.add_argument("--encoder-steps", type=int, default=AutoencoderSettings.encoder_steps)
    parser.add_argument("--diffusion-steps", type=int, default=DiffusionSettings.steps)
    parser.add_argument("--refinement-steps", type=int, default=RefinementSettings.steps)
    parser.add_argument("--latent-steps", type=int, default=LatentSettings.steps)
    parser.add_argument("--cloud-steps", type=int, default=CloudSettings.steps)
    return parser


def _cloud(options: argparse.Namespace) -> CloudTraining:
    return CloudTraining(
        options.folder,
        options.out,
        options.out.with_name("figures.json"),
        shapes=options.shapes or CloudTraining.shapes,
        latents=LatentSettings(options.latent_steps, seed=options.seed),
        settings=CloudSettings(options.cloud_steps, seed=options.seed),
        size=SIZE,
        seed=options.seed,
    )


def _train_set(options: argparse.Namespace) -> Dataset:
    recipe = Recipe(options.shapes or Recipe.count, seed=options.seed)
    return make_dataset(options.folder / "train", recipe)


def _check_set(options: argparse.Namespace) -> Dataset:
    recipe = Recipe(HELD_OUT, seed=options.seed, split="check")
    return make_dataset(options.folder / "check", recipe)


def _coder(options: argparse.Namespace) -> Coder:
    settings = AutoencoderSettings(
        steps=options.autoencoder_steps, encoder_steps=options.encoder_steps, seed=options.seed
    )
    path = options.folder / CHECKPOINTS["autoencoder"]
    return train_autoencoder(SIZES[SIZE], _train_set(options), _check_set(options), path, settings)


def _diffusion(options: argparse.Namespace, coder: Coder) -> MeshPipeline:
    settings = DiffusionSettings(steps=options.diffusion_steps, seed=options.seed)
    path = options.folder / CHECKPOINTS["diffusion"]
    return train_diffusion(
        SIZES[SIZE], coder, _train_set(options), _check_set(options), path, settings
    )


def _refined(options: argparse.Namespace) -> tuple[MeshPipeline, Coder]:
    """The whole, and the autoencoder with the decoder that it has in the end."""
    coder = _coder(options)
    pipeline = _diffusion(options, coder)
    settings = RefinementSettings(steps=options.refinement_steps, seed=options.seed)
    path = options.folder / CHECKPOINTS["refinement"]
    sets = _train_set(options), _check_set(options)
    train_refinement(coder, pipeline, *sets, path, settings)
    return pipeline, coder


def _export(options: argparse.Namespace) -> None:
    pipeline, _ = _refined(options)
    runs = {name: history_of(options.folder / file) for name, file in CHECKPOINTS.items()}
    facts = {f"{name}_steps": str(history[-1]["step"]) for name, history in runs.items()}
    facts |= {"size": SIZE, "condition": CONDITION, "shapes": str(options.shapes or Recipe.count)}
    export(pipeline, options.out, facts)
    plot_curves(options.out.with_name("losses.png"), runs)
    print(f"{options.out}: {options.out.stat().st_size / 2**20:.1f} MiB")


def _evaluate(options: argparse.Namespace) -> None:
    recipe = Recipe(HELD_OUT, seed=options.seed, split="held-out")
    held_out = make_dataset(options.folder / "held-out", recipe)
    pipeline = trained(SIZES[SIZE], CONDITION, options.out).to(device())
    train = _train_set(options)
    draw_gallery(options.out.with_name("gallery.png"), pipeline, train, held_out)
    _, coder = _refined(options)
    rows = evaluate(pipeline, coder, train, held_out)
    figures = summary(rows)
    write_report(options.out.with_name("figures.json"), figures, rows)
    print("\n".join(f"{name} {value:.4g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
