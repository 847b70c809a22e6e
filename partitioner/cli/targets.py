"""``partition targets``: what can be built and planned for, and the figures that plans rest on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from partitioner.cli.models import target_files
from partitioner.cli.printing import emit, json_option
from partitioner.cli.tables import aligned, count_text, size_text
from partitioner.cli.target_rows import target_line, target_rows, yes_or_no
from partitioner.targets import Device, Target, all_targets, find_target

__all__ = ["command"]

_HEADER = (
    "target",
    "build",
    "run",
    "device",
    "cores",
    "memory",
    "bandwidth",
    "float32",
    "bfloat16",
)


@click.command("targets")
@click.argument("name", required=False)
@click.option("--all", "instances", is_flag=True, help="Instances too, not only families.")
@target_files
@json_option
def command(
    name: str | None, instances: bool, target_files: tuple[str, ...], as_json: bool
) -> None:
    """List targets and their figures; with NAME, all figures of one and where they come from.

    Figures are those of one copy of the pipeline: all cores of a CPU, or one core of an
    accelerator and its share of the host. Operations count a multiplication or an addition as one.

    \b
      partition targets --all
      partition targets inf2.8xlarge
      partition targets mine --target-file mine.toml --json
    """
    here = {row["name"]: row for row in target_rows(target_files)}
    if name is not None:
        target = find_target(name, target_files)
        document = _document(target, here[target.name])
        emit(as_json, document, lambda: "\n".join(_in_full(target, here[target.name])))
        return
    targets = all_targets(target_files)
    shown = [t for t in targets if instances or "." not in t.name]
    emit(
        as_json,
        [_document(target, here[target.name]) for target in targets],
        lambda: "\n".join(_table(shown, here)),
    )


def _document(target: Target, here: dict[str, Any]) -> dict[str, Any]:
    return {**asdict(target), "build": here["build"], "run": here["run"]}


# --- the table ----------------------------------------------------------------------------------


def _table(targets: list[Target], here: dict[str, dict[str, Any]]) -> Iterator[str]:
    cells = [[*_HEADER, "copies", "an hour"]]
    for target in targets:
        device = target.device_of(target.backends[0])
        row = here[target.name]
        cells.append(
            [
                target.name,
                yes_or_no(row["build"]),
                yes_or_no(row["run"]),
                device.name,
                str(device.cores),
                size_text(device.memory_bytes),
                f"{count_text(device.bandwidth)}B/s",
                *(_speed(device, dtype) for dtype in ("float32", "bfloat16")),
                str(device.copies),
                _price(target),
            ]
        )
    yield from aligned(cells)


def _speed(device: Device, dtype: str) -> str:
    return f"{count_text(device.flops[dtype])}op/s" if dtype in device.flops else "-"


def _price(target: Target) -> str:
    price = target.price
    return f"{price.per_hour:.4f} {price.currency}" if price else "-"


# --- one in full --------------------------------------------------------------------------------


def _in_full(target: Target, here: dict[str, Any]) -> Iterator[str]:
    yield target_line(here)
    shares = f"family {target.family}"
    if target.instance:
        shares += f", figures of {target.instance}"
    yield f"{shares}; from {target.origin}"
    yield f"dtypes     {', '.join(target.dtypes)}"
    yield f"products   also in {', '.join(target.arithmetic) or 'no small float'}"
    yield f"shapes     {'static' if target.static_shapes else 'static or dynamic'}"
    level = f", from {target.instructions} on" if target.instructions else ""
    yield f"machines   {', '.join(target.machine) or 'any'}{level}"
    if target.price is not None:
        price = target.price
        yield f"price      {price.per_hour:g} {price.currency} an hour, {price.date}, {price.terms}"
        yield f"           {price.source}"
    yield from aligned(list(_figures(target)))
    yield from (f"source     {source}" for source in target.sources)


def _figures(target: Target) -> Iterator[list[str]]:
    """Each figure as the table's file has it, and its source."""
    for key, source in target.figure_sources.items():
        yield [key, f"{target.figures[key]:.6g}", source]
