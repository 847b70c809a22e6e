"""Another order of a target's backends than its own: ``--backends openvino,onnx``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from partitioner.errors import UsageError
from partitioner.targets.facts import Target

__all__ = ["with_backends"]


def with_backends(target: Target, names: Sequence[str]) -> Target:
    """The target with these backends only, in this order of preference; host ops stay possible.

    Raises:
        UsageError: one is none of the target's, or is named twice.
    """
    possible = dict.fromkeys([*target.backends, *(b for d in target.devices for b in d.backends)])
    for name in names:
        if name not in possible:
            near = difflib.get_close_matches(name, possible, 1)
            raise UsageError(
                f"target {target.name!r} has no backend {name!r}",
                advice=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(possible)}",
            )
        if names.count(name) > 1:
            raise UsageError(f"backend {name!r} is named twice", advice="name each once")
    return replace(target, backends=(*(n for n in names if n != "host"), "host"))
