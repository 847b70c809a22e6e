"""Limits of what compiles one segment: options of the verbs that compile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from partitioner.cli.amounts import Amount
from partitioner.wholefiles import check_target

__all__ = ["limit_options", "limits_of"]


def limit_options(timeout_s: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--timeout`` (seconds, this by default), ``--memory-limit`` (GiB) and ``--log``."""
    options = (
        click.option(
            "--timeout",
            type=Amount(0, min_open=True),
            default=timeout_s,
            show_default=True,
            help="Seconds for compiling one segment.",
        ),
        click.option(
            "--memory-limit",
            type=Amount(0, min_open=True),
            help="GiB of address space for compiling one segment.",
        ),
        click.option(
            "--log", type=click.Path(path_type=Path), help="Keep the compilers' output here."
        ),
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def limits_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options' values, as ``build`` and ``finish_bundle`` take them."""
    limit = given["memory_limit"]
    if given["log"] is not None:
        check_target(given["log"])
    return {
        "timeout_s": given["timeout"],
        "memory_bytes": None if limit is None else int(limit * 2**30),
        "log": given["log"],
    }
