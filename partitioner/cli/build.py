"""``partition build``: a pipeline becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from partitioner.cli.common import emit, json_option, progress_bar
from partitioner.errors import MissingDependencyError, UsageError

__all__ = ["command"]


@click.command("build")
@click.argument("model")
@click.option("--target", default="cpu", show_default=True, help="See `partition targets`.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The bundle's directory.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Fix an argument of the pipeline or its factory: --set steps=20.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="NAME=PATH",
    help="Name a stage by its attribute path: --stage denoiser=unet.",
)
@click.option("--name", help="The bundle's label; the file's name by default.")
@click.option("--version-label", default="0", show_default=True, help="The bundle's version label.")
@click.option("--passes", help="A pass pipeline instead of the default one.")
@click.option(
    "--dump-passes",
    type=click.Path(path_type=Path),
    help="Write the program after each pass to this directory.",
)
@click.option("--parity/--no-parity", default=True, help="Compare with the eager pipeline.")
@click.option("--tolerance", type=float, help="Relative tolerance, instead of the target's.")
@click.option(
    "--timeout",
    type=float,
    default=1800.0,
    show_default=True,
    help="Seconds for compiling one segment.",
)
@click.option("--memory-limit", type=float, help="GiB of address space for compiling one segment.")
@click.option("--log", type=click.Path(path_type=Path), help="Keep the compilers' output here.")
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@json_option
def command(model: str, output: Path | None, as_json: bool, **given: Any) -> None:
    """Compile the pipeline of MODEL into a bundle.

    MODEL is FILE.py[:NAME] or package.module:NAME; NAME is `pipeline` unless given. The file also
    names `example_inputs`, and may name `inputs` and `stages`; see docs/model-file.md.

    \b
      partition build model.py
      partition build model.py:make --set steps=20 -o twenty.bundle
      partition build my.package.models:turbo --stage denoiser=unet --dump-passes dump/
    """
    try:
        from partitioner.builder import build
        from partitioner.modelfile import load_model, parse_setting
        from partitioner.passes.pipeline import DEFAULT
    except ImportError as error:
        raise MissingDependencyError(
            f"building needs {error.name}, which is not installed",
            advice="pip install 'partitioner[build]'",
        ) from error
    from partitioner.targets import find_target

    find_target(given["target"])
    loaded = load_model(model, dict(parse_setting(s) for s in given["settings"]))
    limit = given["memory_limit"]
    with progress_bar(as_json) as progress:
        result = build(
            loaded.pipeline,
            loaded.example_inputs,
            target=given["target"],
            output=output or Path(f"{loaded.name}.bundle"),
            inputs=loaded.inputs,
            stages={**loaded.stages, **dict(_pair(s) for s in given["stages"])},
            options=loaded.options,
            name=given["name"] or loaded.name,
            version=given["version_label"],
            passes=given["passes"] if given["passes"] is not None else DEFAULT,
            parity=given["parity"],
            tolerance=given["tolerance"],
            dump_passes=given["dump_passes"],
            timeout_s=given["timeout"],
            memory_bytes=None if limit is None else int(limit * 2**30),
            log=given["log"],
            overwrite=given["overwrite"],
            progress=progress,
        )
    document = {"path": str(result.path), "digest": result.digest, **result.report}
    emit(as_json, document, lambda: _text(document))


def _pair(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals:
        raise UsageError(f"--stage takes NAME=PATH, not {text!r}")
    return name, path


def _text(document: dict[str, Any]) -> str:
    lines = [f"warning: {warning}" for warning in document["warnings"]]
    for loop in document["loops"]:
        lines.append(f"{loop['name']}: {loop['trips']} trips of {', '.join(loop['stages'])}")
    outputs = document["parity"].get("outputs", {})
    for name, error in outputs.items():
        lines.append(f"output {name}: differs from eager by {error:.2g} relative")
    seconds = ", ".join(f"{phase} {s:.1f}" for phase, s in document["seconds"].items())
    lines += [f"seconds: {seconds}", f"{document['path']}  {document['digest']}"]
    return "\n".join(lines)
