"""``partition doctor``: what is installed, what works here, what to install otherwise."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import click

from partitioner.cli.libraries import BUILD, OPTIONAL, RUN, version_of
from partitioner.cli.printing import emit, json_option
from partitioner.cli.target_rows import target_line, target_rows

__all__ = ["command"]


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@json_option
def command(bundle: Path | None, as_json: bool) -> None:
    """Tell which libraries are here and which targets can be built and run.

    With BUNDLE: what each of its members requires, what of that is lacking here, and what to do.

    Exit code 0 if bundles can be run here, 13 if not; 10 if BUNDLE cannot.
    """
    if bundle is not None:
        _diagnose(bundle, as_json)
        return
    groups = {"run": RUN, "build": BUILD, "optional": OPTIONAL}
    libraries = {
        group: {name: version_of(name) for name in names} for group, names in groups.items()
    }
    from partitioner.runtime.cpus import usable_cpus

    rows = target_rows()
    document = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": usable_cpus(),
        "libraries": libraries,
        "targets": rows,
        "advice": _advice(libraries),
    }
    emit(as_json, document, lambda: _text(document))
    if not any(row["run"] for row in rows):
        raise click.exceptions.Exit(13)


def _diagnose(bundle: Path, as_json: bool) -> None:
    from partitioner.artifacts.index import BundleIndex
    from partitioner.errors import IncompatibleBundleError
    from partitioner.runtime.choosing import judge
    from partitioner.runtime.requirements import requirement_text

    index = BundleIndex.open(bundle, "never")
    rows: list[dict[str, Any]] = []
    for member in index.matching():
        required: list[str] = []
        try:
            lacking = [one.error for one in judge(index, member)]
            required = [requirement_text(r) for r in index.bundle(member).manifest.requirements]
        except IncompatibleBundleError as error:
            lacking = [error]
        rows.append(
            {
                "labels": member.labels,
                "requires": required,
                "lacking": [{"what": one.what, "advice": one.advice} for one in lacking],
            }
        )
    emit(as_json, {"digest": index.digest, "members": rows}, lambda: _diagnosis(rows))
    if all(row["lacking"] for row in rows):
        raise click.exceptions.Exit(IncompatibleBundleError.exit_code)


def _diagnosis(rows: list[dict[str, Any]]) -> str:
    from partitioner.artifacts.oci import label_text

    lines: list[str] = []
    for row in rows:
        verdict = "cannot be run here" if row["lacking"] else "can be run here"
        lines.append(f"{label_text(row['labels'])}: {verdict}")
        lines += [f"  requires {text}" for text in row["requires"]]
        for one in row["lacking"]:
            lines += [f"  lacking  {one['what']}", f"    to do  {one['advice']}"]
    return "\n".join(lines)


def _advice(libraries: dict[str, dict[str, str | None]]) -> list[str]:
    advice: list[str] = []
    if None in libraries["run"].values():
        advice.append("to run bundles: pip install 'partitioner[onnx]'")
    if None in libraries["build"].values():
        advice.append("to build bundles: pip install 'partitioner[build]'")
    if libraries["optional"].get("torch-neuronx"):
        from partitioner.backends.neuron.sdk import namesake

        advice += [text for text in (namesake(),) if text]
    return advice


def _text(document: dict[str, Any]) -> str:
    lines = [
        f"python {document['python']} on {document['machine']}, {document['cpus']} CPUs usable"
    ]
    purposes = {**RUN, **BUILD, **OPTIONAL}
    for group in document["libraries"].values():
        for name, version in group.items():
            lines.append(f"  {name:<14} {version or 'missing':<12} {purposes[name]}")
    # Instances are many, and differ in figures only.
    lines += [target_line(row) for row in document["targets"] if "." not in row["name"]]
    return "\n".join([*lines, *document["advice"]])
