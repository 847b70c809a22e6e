"""The host takes host ops, which nobody is asked about, and no tensor op."""

from __future__ import annotations

from typing import TYPE_CHECKING

from partitioner.backends.verdicts import Rejected, Verdict

if TYPE_CHECKING:
    from torch import fx

    from partitioner.targets import Target

__all__ = ["verdict"]


def verdict(node: fx.Node, target: Target) -> Verdict:
    """Tensor ops belong to compilers."""
    source = str(node.meta.get("source", ""))
    message = "the host runs host ops only, not tensor ops"
    advice = "to run it there all the same, make the step a host op (@partitioner.host_op)"
    return Rejected("policy", message, source, advice)
