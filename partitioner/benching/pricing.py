"""What a million requests cost: a price of an hour, and how many are served in it."""

from __future__ import annotations

from dataclasses import dataclass

from partitioner.errors import UsageError
from partitioner.targets import find_target

__all__ = ["Cost", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """Of a million requests.

    Args:
        per_million: in ``currency``.
        per_hour: of one instance, in ``currency``.
        currency: such as ``USD``.
        source: where the price is from.
    """

    per_million: float
    per_hour: float
    currency: str
    source: str


def cost_of(target: str, requests_s: float, per_hour: float | None = None) -> Cost | str:
    """The cost of a million requests, if this host is what the price is of.

    Args:
        target: that the bundle is for.
        requests_s: how many are served in a second, on this host.
        per_hour: instead of the target's price, in USD.

    Returns:
        the reason where there is no price.

    Raises:
        UsageError: a negative price.
    """
    if per_hour is not None:
        if per_hour < 0:
            raise UsageError(f"a price is not negative: {per_hour}")
        return Cost(_per_million(per_hour, requests_s), per_hour, "USD", "given")
    try:
        price = find_target(target).price
    except UsageError as error:
        return error.what
    if price is None:
        return f"no price of {target} is known; --price gives one"
    source = f"{price.source}, {price.date}" + (f", {price.terms}" if price.terms else "")
    cost = _per_million(price.per_hour, requests_s)
    return Cost(cost, price.per_hour, price.currency, source)


def _per_million(per_hour: float, requests_s: float) -> float:
    return per_hour / (requests_s * 3600) * 1e6
