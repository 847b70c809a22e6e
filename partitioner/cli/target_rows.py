"""Targets in a line each, and whether they can be built and run with what is installed."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

from partitioner.cli.libraries import BUILD, RUN, version_of
from partitioner.targets import all_targets
from partitioner.targets.available import missing_to_build, missing_to_run, unable_backends

__all__ = ["target_line", "target_rows", "yes_or_no"]


def target_rows(files: Sequence[str | os.PathLike[str]] = ()) -> list[dict[str, Any]]:
    """Every target, and whether it can be built and run with what is installed.

    Args:
        files: the user's files of targets.
    """
    can_run = all(version_of(name) is not None for name in RUN)
    can_build = can_run and all(version_of(name) is not None for name in BUILD)
    rows: list[dict[str, Any]] = []
    for target in all_targets(files):
        fits = not target.machine or platform.machine() in target.machine
        rows.append(
            {
                "name": target.name,
                "backends": list(target.backends),
                "build": can_build and not missing_to_build(target) and not unable_backends(target),
                "run": can_run and fits and not missing_to_run(target),
                "note": target.note,
            }
        )
    return rows


def target_line(row: dict[str, Any]) -> str:
    """One target for people, in a line."""
    here = f"build {yes_or_no(row['build'])}, run {yes_or_no(row['run'])}"
    return f"{row['name']:<10} {', '.join(row['backends']):<20} {here:<19} {row['note']}"


def yes_or_no(value: bool) -> str:
    """For a cell of a table."""
    return "yes" if value else "no"
