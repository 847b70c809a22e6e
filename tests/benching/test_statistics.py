"""Percentiles and ratios: against binomial tables, and what must hold of all samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from partitioner.benching.numbers import number
from partitioner.benching.statistics import percentile, ratio_of_pairs

SECONDS = st.floats(1e-6, 1e3)


@given(samples=st.lists(SECONDS, min_size=1, max_size=60), fraction=st.sampled_from([0.5, 0.9]))
def test_an_interval_is_of_samples_and_holds_the_percentile(
    samples: list[float], fraction: float
) -> None:
    found = percentile(samples, fraction)

    assert np.quantile(samples, fraction) == found.value
    assert found.low is None or (found.low in samples and found.low <= found.value)
    assert found.high is None or (found.high in samples and found.value <= found.high)


@pytest.mark.parametrize("count", [10, 100, 367, 368, 1000])
@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.99])
def test_bounds_have_the_ranks_that_the_binomial_distribution_gives(
    count: int, fraction: float
) -> None:
    found = percentile(list(map(float, range(count))), fraction)
    below = stats.binom.cdf(np.arange(count + 1), count, fraction)
    lows = np.flatnonzero(below[:count] <= 0.025)
    highs = [rank for rank in np.flatnonzero(below >= 0.975) if rank < count]

    assert (float(lows[-1]) if lows.size else None) == found.low
    assert (float(highs[0]) if highs else None) == found.high


def test_few_samples_do_not_bound_a_high_percentile() -> None:
    assert percentile(list(map(float, range(367))), 0.99).high is None
    assert 367.0 == percentile(list(map(float, range(368))), 0.99).high


def test_an_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        found = percentile(rng.exponential(size=50).tolist(), 0.5)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= np.log(2) <= found.high

    assert held >= 0.93 * 400


@given(pairs=st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=30))
def test_a_ratio_is_the_median_of_pairs(pairs: list[tuple[float, float]]) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    found = ratio_of_pairs(first, second)

    assert np.median(np.divide(first, second)) == pytest.approx(found.value)
    assert (len(pairs) < 6) == (found.low is None)
    if found.low is not None and found.high is not None:
        assert found.low <= found.value <= found.high
    assert found == ratio_of_pairs(first, second)


def test_what_slows_both_down_changes_no_ratio() -> None:
    disturbed = [1.0, 1.0, 7.0, 7.0, 1.0, 1.0, 3.0, 1.0]
    found = ratio_of_pairs([2 * second for second in disturbed], disturbed)

    assert (2.0, 2.0, 2.0) == (found.value, found.low, found.high)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.032861, "0.03286"), (12.5, "12.5"), (3363.7, "3,364"), (7e-7, "0.0000007")],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert text == number(value)
