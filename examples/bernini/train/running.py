"""A training run that can be stopped and goes on where its last checkpoint was.

What a step does depends on its number alone (batches and noise are drawn by it), so a run that was
interrupted gives what it had given without.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .keeping import load_kept, save_whole

__all__ = [
    "Average",
    "Keeps",
    "Run",
    "device",
    "float_attention",
    "half_precision",
    "history_of",
    "learning_rate",
]

_CHECKPOINT_SECONDS = 60.0
_LOG_EVERY = 25


class Keeps(Protocol):
    """What goes into a checkpoint: modules, optimisers, averages."""

    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> object: ...


@dataclass
class Run:
    """Steps, a checkpoint every minute, and what was logged.

    Attributes:
        path: of the checkpoint.
        parts: all that changes from step to step.
        history: a row of figures every 25 steps.
        cpu_seconds: processor time of all steps so far, interruptions not counted.
    """

    path: Path
    parts: dict[str, Keeps]
    step: int = 0
    cpu_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        state = load_kept(self.path, device())
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.step, self.cpu_seconds = state["step"], state["cpu_seconds"]
        self.history = state["history"]
        print(f"goes on from step {self.step}")

    def save(self) -> None:
        state = {
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "step": self.step,
            "cpu_seconds": self.cpu_seconds,
            "history": self.history,
        }
        save_whole(state, self.path)

    def go(
        self,
        steps: int,
        train: Callable[[int], Tensor],
        check: Callable[[], dict[str, float]],
        check_every: int,
    ) -> None:
        """Train up to ``steps``.

        Args:
            steps: in all, those before a restart counted.
            train: takes the number of a step and gives its loss.
            check: figures on held-out data.
            check_every: how many steps lie between checks; a multiple of 25.
        """
        losses: list[Tensor] = []
        saved, busy = time.monotonic(), time.process_time()
        while self.step < steps:
            losses.append(train(self.step).detach())
            self.step += 1
            if self.step % _LOG_EVERY == 0:
                self.cpu_seconds += time.process_time() - busy
                row = {"step": self.step, "loss": float(torch.stack(losses).mean())}
                losses.clear()
                if self.step % check_every == 0:
                    row |= check()
                self.history.append(row | {"cpu_seconds": round(self.cpu_seconds, 1)})
                print(" ".join(f"{name} {value:.5g}" for name, value in self.history[-1].items()))
                busy = time.process_time()
                if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                    self.save()
                    saved = time.monotonic()
        self.save()


def history_of(path: Path) -> list[dict[str, float]]:
    """What was logged up to a checkpoint."""
    return load_kept(path, torch.device("cpu"))["history"]


class Average:
    """An exponential moving average of a module's parameters, with its memory growing at first."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    def update(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._module.named_parameters():
            self.values[name].lerp_(parameter.detach(), 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        return self.values

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.values = state


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Rises linearly, then falls to zero as a cosine."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision() -> torch.autocast:
    """Products and convolutions in bfloat16, which GPUs and many CPUs do at twice the speed; in
    float32 on a CPU without it, which would take ten times as long.
    """
    return torch.autocast(device().type, torch.bfloat16, enabled=_has_bfloat16())


def _has_bfloat16() -> bool:
    # torch's own test of the CPU, which takes AVX-512 without the instructions as enough.
    return device().type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


class float_attention(TorchFunctionMode):
    """Attention in float32 within ``half_precision``: on a CPU its gradient takes half the time."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        with torch.autocast(device().type, enabled=False):
            return function(*(x.float() for x in args), **(kwargs or {}))
