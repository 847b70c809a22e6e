"""Quality in what users care about: a pipeline's own metric of a result beside the eager one's.

A metric is a NumPy function of the model file, ``quality(expected, actual) -> float``: what the
eager pipeline gave for a request and what something else gave, arrays by output name; 1 if they are
as good as one another, 0 if nothing is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from partitioner.errors import ModelError, UsageError
from partitioner.modelfile import LoadedModel

__all__ = ["Metric", "QualityBudget", "judge", "metric_of", "parse_share"]

Array = npt.NDArray[Any]
Metric = Callable[[Mapping[str, Array], Mapping[str, Array]], float]


@dataclass(frozen=True)
class QualityBudget:
    """How good results have to be, by the pipeline's own metric.

    Attributes:
        metric: of the model file.
        examples: requests that it is measured on, beside the example inputs.
        least: the mean over all requests has to be at least this, from 0 to 1.
    """

    metric: Metric
    examples: tuple[Mapping[str, Any], ...]
    least: float


def parse_share(text: str, option: str = "--quality-budget") -> float:
    """``98.5%`` or ``0.985``.

    Args:
        option: of the command line, for the message.

    Raises:
        UsageError: it is neither, or not above 0 and up to 1.
    """
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UsageError(f"{option} takes a share such as 98.5%, not {text!r}")
    return share


def metric_of(loaded: LoadedModel) -> Metric:
    """The metric of a model file.

    Raises:
        ModelError: it names none.
    """
    if loaded.quality is None:
        raise ModelError(
            "the model file has no 'quality' to measure by",
            where=str(loaded.file or loaded.name),
            advice="give it a function quality(expected, actual) that gives a share, 1 for equal",
        )
    return loaded.quality


def judge(metric: Metric, expected: Mapping[str, Array], actual: Mapping[str, Array]) -> float:
    """The metric of one request.

    Raises:
        ModelError: it raised, or gave something else than a number from 0 to 1.
    """
    try:
        value = float(metric(expected, actual))
    except Exception as error:
        raise ModelError(
            f"the metric 'quality' raised {type(error).__name__}: {error}",
            advice="it is called as quality(expected, actual) with dicts of NumPy arrays by output",
        ) from error
    # A little above 1 is rounding.
    if not -1e-6 <= value <= 1 + 1e-6:
        raise ModelError(
            f"the metric 'quality' gave {value}", advice="give a share from 0 (nothing) to 1 (same)"
        )
    return min(max(value, 0.0), 1.0)
