"""Host ops: NumPy functions in a pipeline that stay on the host.

A host op is data-dependent work that no compiler takes (triangulation, say). In the eager pipeline
it takes tensors and gives tensors; captured, it is one node; in a bundle it is a segment of the
backend ``host`` that calls the same function on arrays. A bundle holds its name, never its code,
so serving code must have it: built in (``partitioner.ops``), registered under the entry point
group ``partitioner.host_ops``, or given to ``partitioner.load(..., host_ops=[...])``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, cast

import numpy as np

from partitioner.errors import InputError, MissingDependencyError
from partitioner.specs import TensorSpec

__all__ = ["ENTRY_POINTS", "HostOp", "host_op", "import_host_op", "recorder", "resolve_host_op"]

ENTRY_POINTS = "partitioner.host_ops"

#: Set while a pipeline is captured: takes (op, args, kwargs) and gives the recorded outputs.
recorder: ContextVar[Callable[[HostOp, tuple[Any, ...], dict[str, Any]], Any] | None] = ContextVar(
    "recorder", default=None
)


class HostOp:
    """A NumPy function with declared outputs. Made by :func:`host_op`.

    Attributes:
        name: what a bundle calls it; ``module.qualname`` unless given.
        outputs: output name -> spec; a dimension None is known only when it has run.
        requires: distributions that the function imports.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        outputs: Mapping[str, TensorSpec],
        requires: tuple[str, ...],
    ) -> None:
        self.function = function
        self.name = name
        self.outputs = dict(outputs)
        self.requires = requires
        functools.update_wrapper(cast("Callable[..., Any]", self), function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on tensors or arrays; what comes out is what went in (tensors for tensors)."""
        record = recorder.get()
        if record is not None:
            return record(self, args, kwargs)
        if not any(_is_tensor(value) for value in args):
            return self.run(*args, **kwargs)
        import torch

        arrays = [v.detach().cpu().numpy() if _is_tensor(v) else v for v in args]
        results = self.run(*arrays, **kwargs)
        return {name: torch.from_numpy(array) for name, array in results.items()}

    def run(self, *arrays: Any, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
        """Call the function on arrays and check what it gives against the declared outputs.

        Raises:
            InputError: the result has other names, dtypes or ranks than declared.
            MissingDependencyError: a library that the function imports is not installed.
        """
        try:
            result = self.function(*arrays, **options)
        except ImportError as error:
            raise MissingDependencyError(
                f"host op {self.name!r} needs {error.name or error}",
                advice=f"pip install {' '.join(self.requires) or error.name}",
            ) from error
        named = self._named(result)
        return {name: self._checked(name, named[name]) for name in self.outputs}

    def _named(self, result: Any) -> dict[str, Any]:
        if isinstance(result, Mapping):
            named = dict(cast("Mapping[str, Any]", result))
        else:
            values = cast("tuple[Any, ...]", result if isinstance(result, tuple) else (result,))
            named = dict(zip(self.outputs, values, strict=False))
        if set(named) != set(self.outputs):
            raise InputError(
                f"host op {self.name!r} gave {sorted(named)}, but declares {sorted(self.outputs)}",
                advice="make the function's result and the decorator's outputs agree",
            )
        return named

    def _checked(self, name: str, value: Any) -> np.ndarray[Any, Any]:
        spec = self.outputs[name]
        array = np.ascontiguousarray(value)
        fits = array.ndim == len(spec.shape) and all(
            want is None or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if array.dtype.name != spec.dtype or not fits:
            raise InputError(
                f"host op {self.name!r}: output {name!r} is {array.dtype.name}{list(array.shape)}, "
                f"but declared as {spec}",
                advice="make the function's result and the decorator's outputs agree",
            )
        return array


def host_op(
    *,
    outputs: Mapping[str, tuple[str, tuple[int | None, ...]]],
    name: str | None = None,
    requires: Iterable[str] = (),
) -> Callable[[Callable[..., Any]], HostOp]:
    """Mark a NumPy function as a host op.

    Args:
        outputs: output name -> (NumPy dtype name, shape; None for a size that data decide).
        name: what the bundle calls it; ``module.qualname`` by default.
        requires: distributions the function imports, named when one is missing.

    The function takes arrays positionally and plain options by keyword, and gives a dict of output
    name to array (or a tuple in the order of ``outputs``, or one array). Define it in a module
    that imports no torch, so that serving code can import it too.
    """
    specs = {key: TensorSpec(dtype, tuple(shape)) for key, (dtype, shape) in outputs.items()}

    def wrap(function: Callable[..., Any]) -> HostOp:
        label = name or f"{function.__module__}.{function.__qualname__}"
        return HostOp(function, name=label, outputs=specs, requires=tuple(requires))

    return wrap


def import_host_op(text: str) -> HostOp:
    """The host op that a user names, as ``module:name``; so it may be imported.

    Raises:
        InputError: there is none.
    """
    module, _, name = text.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"host op {text}: {error}", advice="give MODULE:NAME") from error
    if not isinstance(found, HostOp):
        raise InputError(
            f"{text} is no host op", advice="mark the function with @partitioner.host_op"
        )
    return found


def resolve_host_op(name: str, given: Iterable[HostOp] = ()) -> HostOp:
    """Find a host op by the name a bundle gives: those given, built in, then entry points.

    Nothing is imported because a bundle asks for it: a bundle is data from elsewhere.

    Raises:
        MissingDependencyError: no such op on this machine.
    """
    from partitioner import ops

    for op in given:
        if op.name == name:
            return op
    for op in vars(ops).values():
        if isinstance(op, HostOp) and op.name == name:
            return op
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            op = entry.load()
            if isinstance(op, HostOp):
                return op
    raise MissingDependencyError(
        f"this bundle calls the host op {name!r}, which is not installed here",
        advice=f"give it: partitioner.load(path, host_ops=[...]), or register it under the entry "
        f"point group {ENTRY_POINTS!r}",
    )


def _is_tensor(value: Any) -> bool:
    # torch is only looked for where the caller has imported it: this module runs in serving code.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
