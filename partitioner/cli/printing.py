"""What verbs print: for a program as JSON, or for a person."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, cast

import click

__all__ = ["emit", "json_option", "json_text"]


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``: the result, or the error, as one JSON document on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def emit(as_json: bool, document: Any, text: Callable[[], str]) -> None:
    """Print a result for a program or for a person."""
    click.echo(json_text(document) if as_json else text())


def json_text(document: Any) -> str:
    """A document as JSON; NaN and infinity, for which JSON has no word, are null."""
    try:
        return json.dumps(document, indent=2, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
