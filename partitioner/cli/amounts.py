"""Numbers as options of the command line."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["Amount"]


class Amount(click.FloatRange):
    """A number within bounds that is one: ``nan``, which compares with nothing and so would switch
    off what it is a limit of, and ``inf`` are refused."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """As of click; fails for what is not finite."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
