"""Run OpenVINO segments on the CPU.

Weights stay in the bundle's blobs and are memory-mapped; what a bundle asks for is checked against
lists (see :mod:`partitioner.backends.openvino.ir` and :mod:`.settings`) before OpenVINO sees it.
What has been compiled is kept on the host without the weights that lie in the segment's main blob
(:mod:`.cache`); the next load of the same segment starts from there.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from partitioner.backends.execution import (
    ArtifactFiles,
    DeviceOptions,
    OfSegment,
    call_once,
    place_of,
)
from partitioner.backends.openvino.ir import constant_bytes
from partitioner.backends.openvino.library import openvino
from partitioner.backends.openvino.loading import Loaded, load_model
from partitioner.backends.openvino.settings import read_settings
from partitioner.backends.weighing import NOTHING, WeightUse
from partitioner.errors import BackendError, BundleError
from partitioner.plan import SegmentInfo
from partitioner.specs import TensorSpec

__all__ = ["OpenvinoBoundCall", "OpenvinoExecutable", "OpenvinoExecutor"]

Array = np.ndarray[Any, Any]

#: How many tensors a bound input or output remembers: carried values alternate between few.
_REMEMBERED = 8


class OpenvinoExecutor:
    """Loads OpenVINO artifacts into compiled models."""

    def load(self, artifact: ArtifactFiles, device: DeviceOptions) -> OpenvinoExecutable:
        """Check the graph, compile it or take what was compiled before, and compare its tensors.

        Artifact options: those of :class:`partitioner.backends.openvino.settings.Settings`.
        OpenVINO always works on a repacked copy of the weights, so ``memory="low"`` changes
        nothing.

        Raises:
            BundleError: the graph reads files other than the artifact's weights, or its tensors
                are not those of the segment.
            IncompatibleBundleError: an option that is not in the lists.
            BackendError: OpenVINO refuses the graph.
        """
        where = place_of(artifact.info)
        if artifact.graph is None:
            raise BundleError("an OpenVINO artifact without a graph", where=where)
        settings = read_settings(artifact.options, where)
        try:
            loaded = load_model(artifact, settings, device, where)
        except RuntimeError as error:  # OpenVINO raises nothing more specific.
            raise _failure("was refused by", error, artifact.info) from error
        _check_ports("input", loaded.model.inputs, artifact.info.inputs, where)
        _check_ports("output", loaded.model.outputs, artifact.info.outputs, where)
        return OpenvinoExecutable(loaded, artifact.info, self.weigh(artifact, device))

    def weigh(self, artifact: ArtifactFiles, device: DeviceOptions) -> WeightUse:
        """Copies of all weights, in either mode."""
        if artifact.graph is None:
            raise BundleError("an OpenVINO artifact without a graph", where=place_of(artifact.info))
        return WeightUse(frozenset(), constant_bytes(artifact.graph.read_bytes()))


class OpenvinoExecutable(OfSegment):
    """A compiled model. Calls may run at once from several threads.

    Attributes:
        weights: what they take: an estimate.
    """

    def __init__(self, loaded: Loaded, info: SegmentInfo, weights: WeightUse) -> None:
        self.weights = weights
        self._loaded: Loaded | None = loaded
        super().__init__(info)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """Run once; arrays in the order of ``inputs``, new arrays in the order of ``outputs``.

        Raises:
            BackendError: OpenVINO failed, or an array has another shape or dtype than the graph
                takes.
        """
        return call_once(self, self.info, arrays)

    def bind(self) -> OpenvinoBoundCall:
        """A call with an infer request of its own."""
        if self._loaded is None:
            raise BackendError("the segment has been closed", where=place_of(self.info))
        return OpenvinoBoundCall(self._loaded, self.info)

    def at(self, info: SegmentInfo) -> OpenvinoExecutable:
        """The same compiled model for another number of rows."""
        if self._loaded is None:
            raise BackendError("the segment has been closed", where=place_of(self.info))
        return OpenvinoExecutable(self._loaded, info, NOTHING)

    def close(self) -> None:
        self._loaded = None


class OpenvinoBoundCall:
    """An infer request: its tensors stand on the arrays, which are read and written in place."""

    def __init__(self, loaded: Loaded, info: SegmentInfo) -> None:
        # The mapped weights must outlive the request.
        self._loaded = loaded
        self._request = loaded.model.create_infer_request()
        self._info = info
        self._inputs = [_Port(self._request.set_input_tensor, i) for i in range(len(info.inputs))]
        self._outputs = [
            _Port(self._request.set_output_tensor, i) for i in range(len(info.outputs))
        ]
        self._set: list[Array | None] = [None] * len(self._outputs)
        self._fault: str | None = None

    def set_input(self, index: int, array: Array) -> None:
        self._bind("input", self._inputs[index], array, self._info.inputs[index])

    def set_output(self, index: int, array: Array | None) -> None:
        self._set[index] = array
        if array is not None:
            self._bind("output", self._outputs[index], array, self._info.outputs[index])

    def _bind(self, kind: str, port: _Port, array: Array, declared: tuple[str, TensorSpec]) -> None:
        name, spec = declared
        # OpenVINO would take some other dtypes, and convert them without a word.
        if array.shape != spec.shape or array.dtype != spec.dtype:
            self._fault = f"{kind} {name!r} is {spec}, not {array.dtype.name}{list(array.shape)}"
            return
        port.set(array)

    def run(self) -> tuple[Array, ...]:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise BackendError(fault, where=place_of(self._info))
        arrays = tuple(
            self._fresh(index) if array is None else array for index, array in enumerate(self._set)
        )
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:  # OpenVINO raises nothing more specific.
            raise _failure("failed in", error, self._info) from error
        return arrays

    def _fresh(self, index: int) -> Array:
        _, spec = self._info.outputs[index]
        array = np.empty(cast("tuple[int, ...]", spec.shape), spec.dtype)
        self._outputs[index].set_once(array)
        return array


class _Port:
    """An input or output of a request, and the tensors it has stood on lately."""

    __slots__ = ("_index", "_set", "_tensors")

    def __init__(self, set_tensor: Any, index: int) -> None:
        self._set = set_tensor
        self._index = index
        self._tensors: dict[int, tuple[Array, Any]] = {}

    def set(self, array: Array) -> None:
        known = self._tensors.get(id(array))
        if known is None:
            if len(self._tensors) >= _REMEMBERED:
                self._tensors.clear()
            # The array is kept, so that its id stays its own.
            known = self._tensors[id(array)] = (array, _tensor(array))
        self._set(self._index, known[1])

    def set_once(self, array: Array) -> None:
        self._set(self._index, _tensor(array))


def _tensor(array: Array) -> Any:
    """A tensor on the array's own memory."""
    if not array.flags.writeable:
        array = np.asarray(_Writeable(array))
    return openvino().Tensor(array, shared_memory=True)


class _Writeable:
    """Says of an array that it may be written to, which OpenVINO asks for even of inputs."""

    def __init__(self, array: Array) -> None:
        self._array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


# --- checks and messages ------------------------------------------------------------------------


def _check_ports(
    kind: str, ports: list[Any], specs: tuple[tuple[str, TensorSpec], ...], where: str
) -> None:
    if len(ports) != len(specs):
        raise BundleError(
            f"the graph has {len(ports)} {kind}s, the plan {len(specs)}",
            where=where,
        )
    for port, (name, spec) in zip(ports, specs, strict=True):
        shape = port.get_partial_shape()
        fits = shape.is_dynamic or tuple(shape.to_shape()) == spec.shape
        dtype = np.dtype(port.get_element_type().to_dtype()).name
        if name not in port.get_names() or dtype != spec.dtype or not fits:
            raise BundleError(
                f"{kind} {name!r} of the graph is {sorted(port.get_names())} {dtype}{shape}, "
                f"the plan has {spec}",
                where=where,
            )
        if not all(isinstance(dim, int) for dim in spec.shape):
            raise BundleError(f"{kind} {name!r} has no fixed shape: {spec}", where=where)


def _failure(what: str, error: Exception, info: SegmentInfo) -> BackendError:
    text = str(error).strip()
    if "allocate" in text or "bad_alloc" in text:
        advice = "free memory, or give the bundle a machine with more"
    else:
        advice = "run `partition verify` on the bundle; if it fails too, build it again here"
    return BackendError(
        f"segment {info.name!r} {what} OpenVINO: {text}", where=place_of(info), advice=advice
    )
