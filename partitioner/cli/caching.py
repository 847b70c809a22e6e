"""What verbs say of the compile cache: options of a build, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import click

__all__ = ["cache_lines", "cache_of", "cache_options", "lookup_line"]


def cache_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a build that are about the compile cache."""
    for option in (
        click.option(
            "--cache-failures", is_flag=True, help="Keep, and believe, failures of compilers, too."
        ),
        click.option(
            "--compile-cache",
            metavar="STORE",
            help="s3://BUCKET/PREFIX or file:///DIRECTORY behind the compile cache on disk; `off` "
            "for no cache at all.",
        ),
        click.option(
            "--cache",
            "cache_mode",
            type=click.Choice(["use", "read", "verify", "off"]),
            help="The compile cache: use it, only read it, compile all the same and compare with "
            "it, or leave it alone.  [default: use]",
        ),
    ):
        function = option(function)
    return function


def cache_of(given: dict[str, Any]) -> Any:
    """The options as a build takes them; what is not given comes from the environment."""
    from partitioner.caching.options import CacheOptions

    found = CacheOptions.from_environment(given["cache_mode"], given["compile_cache"])
    return replace(found, failures=given["cache_failures"])


def cache_lines(record: dict[str, Any]) -> Iterator[str]:
    """What a build did with the cache, for people; of misses only what they can learn from."""
    if not record:
        return
    yield from (f"warning: {warning}" for warning in record["warnings"])
    lookups = record["lookups"]
    found = [row for row in lookups if row["where"]]
    for row in lookups:
        if row["nearest"]:
            yield lookup_line(row)
    if found:
        yield f"compile cache: {len(found)} of {len(lookups)} found"


def lookup_line(row: dict[str, Any]) -> str:
    """One look-up of a build's record."""
    from partitioner.artifacts.codec import decode
    from partitioner.caching.history import Lookup

    lookup: Any = decode(Lookup, row)
    return lookup.text()
