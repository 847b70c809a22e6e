"""Run host ops: call the installed function that a bundle names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from partitioner.backends.execution import (
    ArtifactFiles,
    DeviceOptions,
    OfSegment,
    place_of,
)
from partitioner.backends.weighing import NOTHING, WeightUse
from partitioner.errors import BackendError, BundleError, PartitionerError
from partitioner.hostops import HostOp, resolve_host_op
from partitioner.plan import SegmentInfo

__all__ = ["HostExecutable", "HostExecutor"]

Array = np.ndarray[Any, Any]


class HostExecutor:
    """Finds host ops by name among those given and installed; imports nothing a bundle asks for."""

    def load(self, artifact: ArtifactFiles, device: DeviceOptions) -> HostExecutable:
        """Resolve the op that the artifact's options name (``op``, and its keyword ``options``).

        Raises:
            BundleError: the options are malformed, or the op's outputs are not the segment's.
            MissingDependencyError: no such op on this machine.
        """
        info = artifact.info
        name, options = _read_options(artifact.options, info)
        op = resolve_host_op(name, device.host_ops)
        _check_outputs(op, info)
        return HostExecutable(op, options, info)

    def weigh(self, artifact: ArtifactFiles, device: DeviceOptions) -> WeightUse:
        return NOTHING


class HostExecutable(OfSegment):
    """A host op with its options. Calls may run at once from several threads."""

    weights = NOTHING

    def __init__(self, op: HostOp, options: dict[str, Any], info: SegmentInfo) -> None:
        self._op = op
        self._options = options
        super().__init__(info)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Call the op on arrays in the order of ``inputs``.

        Raises:
            BackendError: the op raised; the cause is chained.
            InputError: the op gave other dtypes or ranks than it declares.
            MissingDependencyError: a library that the op imports is not installed.
        """
        views = [_read_only(array) for array in arrays]
        try:
            results = self._op.run(*views, **self._options)
        except PartitionerError:
            raise
        except Exception as error:
            raise BackendError(
                f"host op {self._op.name!r} failed: {type(error).__name__}: {error}",
                where=place_of(self.info),
                advice="look at the inputs of the op; the original error is the cause of this one",
            ) from error
        return tuple(_owned(results[name], arrays) for name in self._op.outputs)

    def bind(self) -> HostBoundCall:
        return HostBoundCall(self)

    def at(self, info: SegmentInfo) -> HostExecutable:
        """The same op for another number of rows."""
        return HostExecutable(self._op, self._options, info)

    def close(self) -> None:
        pass


class HostBoundCall:
    """Remembers the arrays of a call; the op itself allocates its results."""

    def __init__(self, executable: HostExecutable) -> None:
        self._executable = executable
        self._inputs: list[Array | None] = [None] * len(executable.inputs)
        self._outputs: list[Array | None] = [None] * len(executable.outputs)

    def set_input(self, index: int, array: Array) -> None:
        self._inputs[index] = array

    def set_output(self, index: int, array: Array | None) -> None:
        self._outputs[index] = array

    def run(self) -> tuple[Array, ...]:
        results = self._executable(*cast("list[Array]", self._inputs))
        return tuple(
            result if array is None else self._copied(result, array)
            for result, array in zip(results, self._outputs, strict=True)
        )

    def _copied(self, result: Array, array: Array) -> Array:
        if result.shape != array.shape or result.dtype != array.dtype:
            raise BackendError(
                f"a host op gave {result.dtype.name}{list(result.shape)} where "
                f"{array.dtype.name}{list(array.shape)} is expected",
                where=place_of(self._executable.info),
            )
        np.copyto(array, result)
        return array


def _read_options(options: Mapping[str, Any], info: SegmentInfo) -> tuple[str, dict[str, Any]]:
    name, keywords = options.get("op"), options.get("options", {})
    if not isinstance(name, str) or not isinstance(keywords, Mapping):
        raise BundleError("a host artifact does not name its op", where=place_of(info))
    if set(options) - {"op", "options"}:
        raise BundleError(
            f"a host artifact has the options {sorted(options)}", where=place_of(info)
        )
    return name, dict(cast("Mapping[str, Any]", keywords))


def _check_outputs(op: HostOp, info: SegmentInfo) -> None:
    declared = [(spec.dtype, len(spec.shape)) for spec in op.outputs.values()]
    planned = [(spec.dtype, len(spec.shape)) for _, spec in info.outputs]
    if declared != planned:
        raise BundleError(
            f"host op {op.name!r} gives {_listed(op.outputs.values())} here, but the bundle was "
            f"built with one that gives {_listed(spec for _, spec in info.outputs)}",
            where=place_of(info),
            advice="install the version of the op that the bundle was built with",
        )


def _listed(specs: Any) -> str:
    return ", ".join(str(spec) for spec in specs)


def _read_only(array: Array) -> Array:
    """A view that cannot be written to: what an op is given may be shared with other steps."""
    view = array.view()
    view.flags.writeable = False
    return view


def _owned(result: Array, inputs: tuple[Array, ...]) -> Array:
    """The result, copied if it is a view of an input or cannot be written to."""
    if not result.flags.writeable or any(np.may_share_memory(result, given) for given in inputs):
        return result.copy()
    return result
