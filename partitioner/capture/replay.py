"""Run a pipeline eagerly on given random numbers: the truth that a bundle is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from partitioner.capture import evaluation_mode
from partitioner.capture.draws import Streams, classify, is_random, memory_order
from partitioner.capture.module_paths import find_modules
from partitioner.capture.sources import calling_line
from partitioner.capture.structure import named_leaves, replace_leaves
from partitioner.errors import CaptureError
from partitioner.program import DrawSequence

__all__ = ["drawn_in_order", "run_eager"]


def drawn_in_order(
    draws: tuple[DrawSequence, ...], values: Mapping[str, npt.NDArray[Any]]
) -> Iterator[npt.NDArray[Any]]:
    """The arrays of ``values`` (placeholder -> array) in the order in which eager draws them."""
    for sequence in draws:
        for trip in range(sequence.repeat):
            for draw in sequence.draws:
                value = values[draw.placeholder]
                yield value[trip] if draw.row else value


@torch.no_grad()
def run_eager(
    pipeline: Any,
    example_inputs: Mapping[str, Any],
    *,
    options: Mapping[str, Any],
    values: Mapping[str, npt.NDArray[Any]],
    drawn: Iterator[npt.NDArray[Any]],
) -> dict[str, npt.NDArray[Any]]:
    """Run the pipeline as its author would.

    Args:
        example_inputs: as given to capture; its tensors are replaced by ``values`` of their names.
        drawn: what the random ops give, in order.

    Returns:
        output name -> array.

    Raises:
        CaptureError: the run draws other numbers than the captured one did.
    """

    def replaced(name: str, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        # A copy: pipelines may write to their inputs.
        return torch.from_numpy(np.array(values[name])) if name in values else leaf.clone()

    arguments = {k: replace_leaves(v, k, replaced) for k, v in example_inputs.items()}
    mode = _Replay(drawn)
    with evaluation_mode(pipeline, find_modules(pipeline)), torch.random.fork_rng([]), mode:
        # As in capture: an option given at build overrides the example.
        result = pipeline(**{**arguments, **options})
    if next(drawn, None) is not None:
        raise CaptureError(
            "the pipeline drew fewer random numbers than when it was captured",
            advice="its draws must not depend on anything but its options",
        )
    leaves = named_leaves(result, "output")
    return {name: _array(leaf) for name, leaf in leaves.items() if leaf is not None}


def _array(leaf: Any) -> npt.NDArray[Any]:
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().numpy()
    return torch.tensor(leaf).numpy()


class _Replay(TorchDispatchMode):
    """Gives random ops their numbers."""

    def __init__(self, drawn: Iterator[npt.NDArray[Any]]) -> None:
        super().__init__()
        self.drawn = drawn
        self.streams = Streams()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not is_random(func, args, kwargs):
            return func(*args, **kwargs)
        draw = classify(func, args, kwargs, self.streams)
        template = func(*args, **kwargs) if draw.into is None else draw.into
        along = template.permute(memory_order(draw.spec, template, calling_line()))
        numbers = next(self.drawn, None)
        if numbers is None or numbers.shape != tuple(along.shape):
            raise CaptureError(
                "the pipeline draws random numbers that it did not draw when it was captured",
                where=calling_line(),
                advice="its draws must not depend on anything but its options",
            )
        with _disable_current_modes():
            along.copy_(torch.from_numpy(np.array(numbers)))
        return template
