"""What verbs that load a bundle to serve requests share: how it is loaded, and what is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from partitioner.cli.loading import device_options
from partitioner.cli.models import member_option
from partitioner.cli.storing import allow_option, require_option

if TYPE_CHECKING:
    from partitioner.benching.serving import Serving

__all__ = ["parse_counts", "serving_of", "serving_options"]

_OPTIONS = (
    click.option(
        "-i",
        "--input",
        "given",
        multiple=True,
        metavar="NAME=VALUE",
        help="As of `partition run`; the bundle's own sample by default, or made-up numbers.",
    ),
    click.option("--seed", type=int, default=7, show_default=True, help="Of each request."),
    device_options,
    member_option,
    require_option,
    allow_option,
)


def serving_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How a bundle is loaded and what each request is."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def serving_of(bundle: str, given: dict[str, Any]) -> Serving:
    """The bundle with those options of a verb that say how it is loaded."""
    from partitioner.benching.serving import Serving

    names = ("threads", "memory", "mode", "pinning", "host_ops", "allow_executable")
    keys = tuple(str(key) for key in given["keys"] or ())
    options = {name: given[name] for name in names}
    return Serving(bundle, **options, variant=given["wanted"], require_signature=keys)


def parse_counts(text: str) -> tuple[int, ...]:
    """Whole numbers by commas: ``1,2,8``.

    Raises:
        click.BadParameter: they are none, or not positive.
    """
    try:
        counts = tuple(int(item) for item in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of whole numbers") from error
    if min(counts) < 1:
        raise click.BadParameter(f"{text!r} has a number below 1")
    return counts
