"""``partition run``: a bundle on inputs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from partitioner.arrayfiles import read_npy, read_npz
from partitioner.cli.loading import device_options, hash_option, loading_of, residence_options
from partitioner.cli.models import member_option
from partitioner.cli.outputs import check_output, flat_outputs, write_outputs
from partitioner.cli.printing import emit, json_option
from partitioner.cli.progress import progress_bar
from partitioner.cli.storing import allow_option, require_option
from partitioner.errors import InputError

__all__ = ["command", "parse_inputs"]


@click.command("run")
@click.argument("bundle")
@click.option(
    "-i",
    "--input",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A picture's file, FILE.npy, FILE.npz:KEY, or numbers: --input label=3.",
)
@click.option(
    "--set",
    "chosen",
    multiple=True,
    metavar="NAME=VALUE",
    help="Choose a schedule of the bundle: --set steps=20.",
)
@click.option(
    "--seed",
    metavar="NUMBER[,...]",
    callback=lambda _ctx, _param, text: _seed(text),
    help="Of all random numbers, or one for each of several requests; a fresh one by default.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="mesh.glb/.obj/.ply/.stl, picture.png, all.npz, or a directory.",
)
@device_options
@residence_options
@hash_option
@member_option
@require_option
@allow_option
@json_option
def command(bundle: str, given: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Run BUNDLE once and write what it gives.

    \b
      partition run my.bundle --input image=chair.png --seed 7 -o chair.glb
      partition run my.bundle --input latents=noise.npy -o picture.png
      partition run my.bundle --input image=chair.png --set steps=20
      partition run my.bundle -i image=chair.png -i image=lamp.png --seed 1,2 -o meshes/
      partition run my.bundle --input x=batch.npz:x -o all.npz
      partition run my.bundle --input image=chair.png --variant target=cpu
      partition run s3://models/prod/my@v3 --input x=1 --require-signature release.pub

    BUNDLE is a directory, or the address of a bundle in a store.
    """
    from partitioner.runtime import load

    if options["output"]:
        check_output(options["output"])
    start = time.perf_counter()
    with load(bundle, **loading_of(options)) as pipe:
        loaded = time.perf_counter()
        inputs = {**parse_inputs(given), **_choice(options["chosen"], pipe.variants)}
        with progress_bar(as_json) as progress:
            outputs = pipe(
                inputs,
                seed=options["seed"],
                callback=lambda event: progress(event.loop, event.step + 1, event.trips),
            )
        done = time.perf_counter()
    written = write_outputs(options["output"], outputs) if options["output"] else []
    document = {
        "member": {"labels": pipe.labels, "choice": list(pipe.choice)},
        "outputs": {
            name: {"dtype": array.dtype.name, "shape": list(array.shape)}
            for name, array in flat_outputs(outputs).items()
        },
        "written": [str(path) for path in written],
        "seconds": {"load": loaded - start, "run": done - loaded},
    }
    emit(as_json, document, lambda: _text(document))


def _choice(chosen: tuple[str, ...], variants: list[dict[str, Any]]) -> dict[str, Any]:
    """Options that choose a variant, with the values' types as the bundle has them."""
    known = list(dict.fromkeys(name for variant in variants for name in variant))
    choice: dict[str, Any] = {}
    for text in chosen:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InputError(
                f"--set {text}: the bundle has no variants by that name",
                advice=f"it has {', '.join(known)}" if known else "it has one schedule only",
            )
        values = [variant[name] for variant in variants]
        choice[name] = next((v for v in values if str(v) == value), value)
    return choice


def parse_inputs(texts: tuple[str, ...]) -> dict[str, Any]:
    """What is given by name; a name that is given again makes a list, an item for each request."""
    found: dict[str, Any] = {}
    several: dict[str, list[Any]] = {}
    for name, value in map(_input, texts):
        if name in found:
            found[name] = several.setdefault(name, [found[name]])
            several[name].append(value)
        else:
            found[name] = value
    return found


def _seed(text: str | None) -> Any:
    if text is None:
        return None
    try:
        seeds = [int(item) for item in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no whole number") from error
    return seeds if "," in text else seeds[0]


def _input(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InputError(
            f"--input takes NAME=VALUE, not {text!r}",
            advice="give a picture, .npy, .npz or numbers: --input label=3",
        )
    path, _, key = value.partition(":")
    if path.endswith((".npy", ".npz")):
        return name, _array(path, key)
    try:
        numbers = np.array([float(part) for part in value.split(",")])
    except ValueError:
        return name, _picture(value)
    # Whole numbers that int64 holds; NaN is none.
    fits = (numbers == np.round(numbers)) & (np.abs(numbers) < 2.0**63)
    whole = numbers.astype(np.int64) if fits.all() else numbers
    return name, whole if "," in value else whole[0]


def _picture(value: str) -> str:
    if not Path(value).is_file():
        raise InputError(
            f"there is no file {value}", advice="give a picture, .npy, .npz or numbers"
        )
    return value


def _array(path: str, key: str) -> Any:
    if path.endswith(".npz"):
        return read_npz(path, key)
    if key:
        raise InputError(
            f"{path} has one array, and none by the name {key!r}", advice=f"give {path} alone"
        )
    return read_npy(path)


def _text(document: dict[str, Any]) -> str:
    choice = document["member"]["choice"]
    lines = [f"variant {line}" for line in choice if len(choice) > 1]
    lines += [f"{n}: {o['dtype']}{o['shape']}" for n, o in document["outputs"].items()]
    lines += [f"wrote {path}" for path in document["written"]]
    seconds = document["seconds"]
    return "\n".join([*lines, f"load {seconds['load']:.2f} s, run {seconds['run']:.2f} s"])
