"""``partition targets``: what can be built for."""

from __future__ import annotations

from typing import Any

import click

from partitioner.cli.common import emit, json_option
from partitioner.cli.doctor import target_rows

__all__ = ["command"]


@click.command("targets")
@json_option
def command(as_json: bool) -> None:
    """List targets, their backends in order of preference, and what works here."""
    rows = target_rows()
    emit(as_json, rows, lambda: "\n".join(line(row) for row in rows))


def line(row: dict[str, Any]) -> str:
    """One target for people."""
    here = f"build {'yes' if row['build'] else 'no'}, run {'yes' if row['run'] else 'no'}"
    return f"{row['name']:<10} {', '.join(row['backends']):<16} {here}  {row['note']}"
