"""Modules that hold a sampler's loop, told from those that are stages."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

__all__ = ["holds_loop"]

#: A part with this share of a module's parameters that is called this often makes it a driver.
_LOOP_SHARE = 0.25
_LOOP_CALLS = 3


def holds_loop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a module's forward calls one large part of itself over and over.

    Such a module holds a sampler's loop: exported as a stage, it would be unrolled. It is run
    without numbers to find out, and only until it is known.
    """
    heavy = sum(p.numel() for p in module.parameters()) * _LOOP_SHARE
    counts: Counter[int] = Counter()

    def count(called: nn.Module, given: Any) -> None:
        counts[id(called)] += 1
        if counts[id(called)] == _LOOP_CALLS:
            raise _LoopFoundError

    inner = [m for m in module.modules() if m is not module]
    heavy_ones = [m for m in inner if 0 < heavy <= sum(p.numel() for p in m.parameters())]
    hooks = [m.register_forward_pre_hook(count) for m in heavy_ones]
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = pytree.tree_map_only(torch.Tensor, mode.from_tensor, (args, kwargs))
            module(*fake[0], **fake[1])
    except _LoopFoundError:
        return True
    except Exception:  # noqa: BLE001 - without numbers a sampler may fail; twice is enough then
        return max(counts.values(), default=0) > 1
    finally:
        for hook in hooks:
            hook.remove()
    return False


class _LoopFoundError(Exception):
    """Ends a run early."""
