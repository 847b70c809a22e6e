"""Buckets in which requests at different steps of a loop share calls: what a build sees to."""

from __future__ import annotations

from collections.abc import Sequence

from partitioner.artifacts.manifest import Manifest
from partitioner.errors import UsageError
from partitioner.rowcounts import RowRange
from partitioner.runtime.scheduling.stepping import check_steps

__all__ = ["StepBuckets", "check_step_sizes", "with_spread_steps"]


def check_step_sizes(sizes: Sequence[int | RowRange]) -> None:
    """Requests run alone up to the loop and after it, so there must be a bucket of one.

    Raises:
        UsageError: there is none, or no larger one; or there is a range.
    """
    span = next((size for size in sizes if isinstance(size, RowRange)), None)
    if span is not None:
        raise UsageError(
            f"--step-batching takes buckets of one size each, not the range {span}",
            advice="build with --batch 1,4; or without --step-batching: requests share calls then",
        )
    if 1 not in sizes or len(sizes) < 2:
        raise UsageError(
            "--step-batching takes a bucket of one request, and larger ones in which they share "
            "steps",
            advice="add --batch 1,4",
        )


def with_spread_steps(passes: str, rows: int) -> str:
    """A pass pipeline that gives what depends on the step a row for each request."""
    return ",".join(filter(None, [passes, f"spread-steps{{rows={rows}}}", "eliminate-dead"]))


class StepBuckets:
    """The buckets of one target, in the order of their rows."""

    def __init__(self) -> None:
        self._one: Manifest | None = None

    def check(self, manifest: Manifest) -> None:
        """See whether a bucket can take its rows from single requests.

        Raises:
            UsageError: it cannot; says why.
        """
        self._one = self._one or manifest
        check_steps(self._one, manifest)
