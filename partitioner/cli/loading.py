"""Options of how a bundle is loaded, the same in every verb that loads one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from partitioner.hostops import import_host_op

__all__ = [
    "compute_options",
    "device_options",
    "hash_option",
    "host_op_option",
    "loading_of",
    "residence_options",
]

Command = Callable[..., Any]

#: Options that :func:`partitioner.load` knows by the same name.
_NAMES = (
    "threads",
    "memory",
    "mode",
    "pinning",
    "lazy",
    "max_memory",
    "verify",
    "allow_executable",
)


def host_op_option(function: Command) -> Command:
    """``--host-op MODULE:NAME``, any number of times."""
    return click.option(
        "--host-op",
        "host_ops",
        multiple=True,
        metavar="MODULE:NAME",
        help="A host op that is not installed as a plugin.",
    )(function)


def compute_options(function: Command) -> Command:
    """``--threads``, ``--memory``, ``--host-op``."""
    return _all(
        function,
        click.option("--threads", type=int, help="Worker threads of a call; all CPUs by default."),
        click.option(
            "--memory",
            type=click.Choice(["fast", "shared", "low"]),
            default="fast",
            show_default=True,
        ),
        host_op_option,
    )


def device_options(function: Command) -> Command:
    """As :func:`compute_options`, and ``--mode`` and ``--pinning``."""
    return _all(
        function,
        compute_options,
        click.option(
            "--mode",
            type=click.Choice(["latency", "throughput"]),
            default="latency",
            show_default=True,
            help="One call at a time, or many from several threads (OpenVINO).",
        ),
        click.option("--pinning", is_flag=True, help="Tie worker threads to CPUs (OpenVINO)."),
    )


def residence_options(function: Command) -> Command:
    """``--lazy`` and ``--max-memory``."""
    return _all(
        function,
        click.option("--lazy", is_flag=True, help="Load a segment at its first use."),
        click.option(
            "--max-memory",
            metavar="AMOUNT",
            help="4GiB: refuse what needs more; with --lazy, close segments to stay within.",
        ),
    )


def hash_option(function: Command) -> Command:
    """``--verify always|once|never``."""
    return click.option(
        "--verify",
        type=click.Choice(["always", "once", "never"]),
        default="once",
        show_default=True,
        help="When blobs are hashed before they are used.",
    )(function)


def loading_of(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of :func:`partitioner.load`, of the options that a verb has.

    Args:
        options: those of this module, of ``member_option``, ``require_option``, ``allow_option``.

    Raises:
        InputError: a host op cannot be imported.
    """
    return {
        **{name: options[name] for name in _NAMES if name in options},
        "host_ops": [import_host_op(text) for text in options["host_ops"]],
        "require_signature": options["keys"],
        "variant": options["wanted"],
    }


def _all(function: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        function = option(function)
    return function
