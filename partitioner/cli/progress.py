"""How far a long piece of work is, drawn on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(quiet: bool) -> Generator[Callable[[str, int, int], None], None, None]:
    """A callback (label, done, total) that draws a bar on a terminal and else does nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda label, done, total: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda label, done, total: click.echo(
            f"\r{label} {done}/{total} ", err=True, nl=False
        )
        click.echo(err=True)
        return
    columns = (TextColumn("{task.description:>10}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield show
