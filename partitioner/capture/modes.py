"""What is watched while a driver runs: ops, and the Python calls that never become ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from partitioner.capture.sources import calling_line, line_of_error
from partitioner.errors import CaptureError, PartitionerError

__all__ = ["DispatchMode", "FunctionMode", "Watching", "called", "reading_error"]

_READS = frozenset(("numpy", "tolist", "__array__", "__dlpack__", "item", "__index__"))


class Watching(Protocol):
    """Who is told."""

    def dispatch(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run an op."""
        ...

    def is_followed(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor depends on an input."""
        ...


class DispatchMode(TorchDispatchMode):
    """Hands every op over."""

    def __init__(self, watching: Watching) -> None:
        super().__init__()
        self.watching = watching

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self.watching.dispatch(func, args, kwargs or {})


class FunctionMode(TorchFunctionMode):
    """Sees what never reaches the dispatcher: ``.numpy()`` and the like, and printing."""

    def __init__(self, watching: Watching) -> None:
        super().__init__()
        self.watching = watching

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _READS or name in ("__repr__", "__format__"):
            tensor = args[0]
            followed = isinstance(tensor, torch.Tensor) and self.watching.is_followed(tensor)
            if followed and name in _READS:
                raise reading_error(f".{name}()")
            if followed:
                return (
                    f"tensor(<input-dependent>, shape={list(tensor.shape)}, dtype={tensor.dtype})"
                )
        return func(*args, **(kwargs or {}))


def called(function: Callable[..., Any], args: dict[str, Any]) -> Any:
    """Call the pipeline; what it raises by itself is a capture error with its line."""
    try:
        return function(**args)
    except PartitionerError:
        raise
    except Exception as error:
        raise CaptureError(
            f"the pipeline raised {type(error).__name__}: {error}",
            where=line_of_error(error),
            advice="check that the pipeline runs eagerly on the example inputs; a diffusers "
            "pipeline takes prompt_embeds and negative_prompt_embeds in place of a prompt, since "
            "tokenising is not done with tensors",
        ) from error


def reading_error(what: str) -> CaptureError:
    """The error for Python code that looks at a number that only a request will decide."""
    return CaptureError(
        f"Python code reads the value of a tensor that depends on the pipeline's input ({what})",
        where=calling_line(),
        advice="keep the computation in tensors (torch.where instead of if), end the pipeline "
        "with tensors (output_type='pt' in diffusers), or make the step that needs values a host "
        "op (@partitioner.host_op)",
    )
