"""Run ONNX segments with ONNX Runtime on the CPU.

Weights are external data of the graph: they stay in the bundle's blobs and are memory-mapped, so
segments, bundles and processes share them. A bundle is data from elsewhere, so nothing in it can
choose a library, a file to write or a session option that is not in the lists below.

Sessions and their settings are in ``sessions.py``.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from partitioner.backends.execution import (
    ArtifactFiles,
    DeviceOptions,
    OfSegment,
    call_once,
    place_of,
)
from partitioner.backends.onnx.external import check_external, external_places
from partitioner.backends.onnx.sessions import (
    failure_of,
    make_session,
    session_options,
    shared_session,
)
from partitioner.backends.weighing import NOTHING, Place, WeightUse, bytes_of
from partitioner.errors import BackendError, BundleError
from partitioner.plan import SegmentInfo
from partitioner.specs import TensorSpec

__all__ = ["OnnxExecutable", "OnnxExecutor"]

Array = np.ndarray[Any, Any]

_TYPES = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}

#: Arrays that a bound call keeps ONNX Runtime's view of: carried values take a few places in turn,
#: and making a view takes longer than all else that binds one.
_REMEMBERED = 16


class OnnxExecutor:
    """Loads ONNX artifacts into sessions that share one thread pool."""

    def load(self, artifact: ArtifactFiles, device: DeviceOptions) -> OnnxExecutable:
        """Check the graph, make a session of it, and compare its tensors with the segment's.

        Artifact options: those of :func:`partitioner.backends.onnx.sessions.session_options`.

        Raises:
            BundleError: the graph reads files other than the artifact's weights, or its tensors
                are not those of the segment.
            IncompatibleBundleError: an option that is not in the lists.
            BackendError: ONNX Runtime refuses the graph.
        """
        where = place_of(artifact.info)
        if artifact.graph is None:
            raise BundleError("an ONNX artifact without a graph", where=where)
        # The bytes that are checked are the bytes that are loaded.
        model = artifact.graph.read_bytes()
        sizes = {path.name: path.stat().st_size for path in artifact.weights}
        places = check_external(model, sizes, where)
        weights = _weights(places, device)
        ort = importlib.import_module("onnxruntime")
        session = None
        if device.memory == "shared" and device.cache:
            session = shared_session(ort, model, artifact, device, bytes_of(places))
            weights = weights if session is not None else _copied(places)
        if session is None:
            options = session_options(ort, artifact, device, where)
            session = make_session(ort, model, options, artifact.info)
        _check_tensors("input", session.get_inputs(), artifact.info.inputs, where)
        _check_tensors("output", session.get_outputs(), artifact.info.outputs, where)
        return OnnxExecutable(session, ort.OrtValue.ortvalue_from_numpy, artifact.info, weights)

    def weigh(self, artifact: ArtifactFiles, device: DeviceOptions) -> WeightUse:
        """Copies in fast mode, of all weights; mapped files alone in low memory, and shared."""
        if artifact.graph is None:
            raise BundleError("an ONNX artifact without a graph", where=place_of(artifact.info))
        return _weights(
            external_places(artifact.graph.read_bytes(), place_of(artifact.info)), device
        )


def _weights(places: frozenset[Place], device: DeviceOptions) -> WeightUse:
    kept = device.memory == "shared" and device.cache
    return WeightUse(places, 0) if device.memory == "low" or kept else _copied(places)


def _copied(places: frozenset[Place]) -> WeightUse:
    # A session lets go of the mapping of what it has packed.
    return WeightUse(frozenset(), bytes_of(places))


class OnnxExecutable(OfSegment):
    """A session. Calls may run at once from several threads.

    Attributes:
        weights: what they take: an estimate.
    """

    def __init__(
        self, session: Any, make_value: Any, info: SegmentInfo, weights: WeightUse
    ) -> None:
        self.weights = weights
        self._session = session
        self._make_value = make_value
        super().__init__(info)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Run once; arrays in the order of ``inputs``, new arrays in the order of ``outputs``.

        Raises:
            BackendError: the session failed, or an array has another shape or dtype than the
                graph takes.
        """
        return call_once(self, self.info, arrays)

    def bind(self) -> OnnxBoundCall:
        if self._session is None:
            raise BackendError("the segment has been closed", where=place_of(self.info))
        return OnnxBoundCall(self._session, self._make_value, self.info)

    def at(self, info: SegmentInfo) -> OnnxExecutable:
        """The same session for another number of rows."""
        return OnnxExecutable(self._session, self._make_value, info, NOTHING)

    def close(self) -> None:
        self._session = None


class OnnxBoundCall:
    """An ``IOBinding``: tensors are bound to arrays once and read and written in place."""

    def __init__(self, session: Any, make_value: Any, info: SegmentInfo) -> None:
        self._run = session.run_with_iobinding
        self._binding = session.io_binding()
        self._make_value = make_value
        self._info = info
        self._inputs = tuple(name for name, _ in info.inputs)
        self._outputs = tuple(name for name, _ in info.outputs)
        self._set: list[Array | None] = [None] * len(self._outputs)
        #: By id of the array: what was lately written to, and may be written to or read again.
        self._values: dict[int, tuple[Array, Any]] = {}
        # The binding gives its outputs in the order in which they were first bound.
        for name in self._outputs:
            self._binding.bind_output(name, "cpu")

    def set_input(self, index: int, array: Array) -> None:
        known = self._values.get(id(array))
        if known is None:
            self._binding.bind_cpu_input(self._inputs[index], array)
        else:
            self._binding.bind_ortvalue_input(self._inputs[index], known[1])

    def set_output(self, index: int, array: Array | None) -> None:
        if array is not None:
            self._binding.bind_ortvalue_output(self._outputs[index], self._value(array))
        self._set[index] = array

    def _value(self, array: Array) -> Any:
        known = self._values.get(id(array))
        if known is None:
            if len(self._values) >= _REMEMBERED:
                self._values.clear()
            # The array is kept, so that its id stays its own.
            known = self._values[id(array)] = (array, self._make_value(array))
        return known[1]

    def run(self) -> tuple[Array, ...]:
        for name, array in zip(self._outputs, self._set, strict=True):
            # What a run has allocated stays bound, and would be the next run's buffer.
            if array is None:
                self._binding.bind_output(name, "cpu")
        try:
            self._run(self._binding)
        except Exception as error:  # onnxruntime raises RuntimeError and types of its own.
            raise failure_of("failed in", error, self._info) from error
        arrays = tuple(array for array in self._set if array is not None)
        if len(arrays) == len(self._set):
            return arrays
        # What the session has allocated is copied, to be independent of its memory.
        values = self._binding.get_outputs()
        return tuple(
            np.array(values[index].numpy()) if array is None else array
            for index, array in enumerate(self._set)
        )


def _check_tensors(
    kind: str, nodes: list[Any], specs: tuple[tuple[str, TensorSpec], ...], where: str
) -> None:
    found = {str(node.name): node for node in nodes}
    if set(found) != {name for name, _ in specs}:
        raise BundleError(
            f"the graph's {kind}s are {sorted(found)}, but the plan has "
            f"{sorted(name for name, _ in specs)}",
            where=where,
        )
    for name, spec in specs:
        node = found[name]
        if _TYPES.get(node.type) != spec.dtype or not _may_fit(spec.shape, node.shape):
            raise BundleError(
                f"{kind} {name!r} of the graph is {node.type} {node.shape}, the plan has {spec}",
                where=where,
            )


def _may_fit(wanted: tuple[int | str | None, ...], found: list[int | str | None]) -> bool:
    return len(wanted) == len(found) and all(
        not isinstance(w, int) or not isinstance(f, int) or w == f
        for w, f in zip(wanted, found, strict=True)
    )
