"""Percentiles and ratios, each with an interval that says how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["CONFIDENCE", "Estimate", "percentile", "ratio_of_pairs"]

#: With which the true value lies within an interval.
CONFIDENCE = 0.95

_RESAMPLES = 2000

#: Fewer never hold a median with that confidence, whatever they say: all lie on one side of it with
#: a probability of 2 / 2**5 > 0.05.
_PAIRS = 6


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval of confidence.

    Args:
        value: of the sample.
        low, high: None where there are too few samples for a bound.
    """

    value: float
    low: float | None
    high: float | None


def percentile(samples: Sequence[float], fraction: float) -> Estimate:
    """A percentile, and an interval between two samples that assumes nothing of their distribution.

    The number of samples below the true percentile is binomial, so the samples of two ranks bound
    it (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2). There is no upper bound
    for the 99th percentile of less than 368 samples, for instance.

    Args:
        samples: at least one, independent of each other.
        fraction: 0.99 for the 99th.
    """
    ordered = sorted(samples)
    low, high = _ranks(len(ordered), fraction)
    return Estimate(
        float(np.quantile(ordered, fraction)),
        None if low is None else ordered[low],
        None if high is None else ordered[high],
    )


def _ranks(count: int, fraction: float) -> tuple[int | None, int | None]:
    """Places, from 0, of the samples that bound a percentile; None where none does."""
    tail, below = (1 - CONFIDENCE) / 2, 0.0
    low: int | None = None
    for rank in range(count):
        below += _binomial(count, rank, fraction)
        # Now: the probability that at most ``rank`` samples lie below.
        if below <= tail:
            low = rank
        if below >= 1 - tail:
            # Rank + 1 samples lie below it at most, so the next one is above; counted from 0.
            return low, rank if rank < count else None
    return low, None


def _binomial(count: int, hits: int, fraction: float) -> float:
    ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return math.exp(ways + hits * math.log(fraction) + (count - hits) * math.log1p(-fraction))


def ratio_of_pairs(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The median of ``first / second``, pair by pair, with a bootstrap interval.

    What disturbs the machine for longer than a pair takes disturbs both alike. The interval is that
    of percentiles of resampled medians (Efron and Tibshirani, An Introduction to the Bootstrap,
    chapter 13), the same for the same numbers. There is none for less than 6 pairs.

    Args:
        first, second: of equal length, at least one; positive.
    """
    ratios = np.asarray(first, float) / np.asarray(second, float)
    if ratios.size < _PAIRS:
        return Estimate(float(np.median(ratios)), None, None)
    picks = np.random.default_rng(0).integers(0, ratios.size, (_RESAMPLES, ratios.size))
    medians = np.median(ratios[picks], axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return Estimate(float(np.median(ratios)), float(low), float(high))
