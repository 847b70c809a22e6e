"""Buckets in which requests at different steps of a loop share calls: what a build sees to."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from partitioner.cases import Case
from partitioner.errors import UsageError
from partitioner.plan import Plan
from partitioner.prepared import Prepared
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
    """The buckets of one target, in the order of their rows; checked before they are compiled."""

    def __init__(self) -> None:
        self._one: Plan | None = None

    def check(self, prepared: Prepared) -> None:
        """See whether a bucket can take its rows from single requests.

        Raises:
            UsageError: it cannot; says why.
        """
        plan = prepared.planned.plan
        self._one = self._one or plan
        check_steps(self._one, plan, prepared.rows, _varied(prepared.cases))


def _varied(cases: Sequence[Case]) -> set[str]:
    """Ids of what the plan reads that differs between variants, bit by bit."""
    first = cases[0].tensors
    return {
        value
        for case in cases[1:]
        for value, tensor in case.tensors.items()
        if not _is_same(tensor, first[value])
    }


def _is_same(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    if tensor is other:
        return True
    if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(_bytes(tensor), _bytes(other))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8)
