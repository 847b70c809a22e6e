"""Run ONNX segments with ONNX Runtime on the CPU.

Weights are external data of the graph: they stay in the bundle's blobs and are memory-mapped, so
segments, bundles and processes share them. A bundle is data from elsewhere, so nothing in it can
choose a library, a file to write or a session option that is not in the lists below.

Which settings, and why (measured on 200 MB of weights, 2 cores):

- ``memory="fast"`` lets sessions repack weights: 1.1 times the weights in all (the mapped
  originals are given back), and matrix products 1.3 to 1.8 times as fast as without.
- ``memory="low"`` neither repacks nor keeps an arena: nothing beyond the mapped weights (1.1
  times after a run, shared by all processes), loaded in milliseconds.
- ``memory="shared"`` packs, too, and maps what an earlier load has packed (``kept.py``).
- Constants are folded up to 64 KiB only. Exporters write a linear layer as the product with a
  transposed weight; folded, every such weight is copied (1.5 times the weights, ten times the
  loading time), unfolded, the transposition becomes part of the product.
- The optimisation level is the compiler's to choose (``optimization``); a graph that was saved
  optimised is loaded with ``none``. ``all`` was no faster than ``extended`` on matrix products and
  convolutions, and doubles the memory of convolutions by reordering weights.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from partitioner.backends.execution import (
    ArtifactFiles,
    DeviceOptions,
    OfSegment,
    call_once,
    place_of,
)
from partitioner.backends.onnx.external import check_external, external_places
from partitioner.backends.onnx.kept import GRAPH, KeptGraphs, key_of, save_into
from partitioner.backends.onnx.pool import apply_pool
from partitioner.backends.weighing import NOTHING, Place, WeightUse, bytes_of
from partitioner.errors import BackendError, BundleError, IncompatibleBundleError
from partitioner.plan import SegmentInfo
from partitioner.specs import TensorSpec

__all__ = ["CONFIG_ENTRIES", "OPTIMIZATION", "OnnxExecutable", "OnnxExecutor"]

Array = np.ndarray[Any, Any]

#: The artifact option ``optimization``: what ONNX Runtime does to the graph when it is loaded.
OPTIMIZATION = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

#: Session settings that an artifact may give under the option ``config``, each "0" or "1".
CONFIG_ENTRIES = frozenset(
    {
        "mlas.disable_kleidiai",
        "mlas.enable_gemm_fastmath_arm64_bfloat16",
        "optimization.enable_gelu_approximation",
        "session.disable_double_qdq_remover",
        "session.disable_quant_qdq",
        "session.enable_quant_qdq_cleanup",
        "session.qdqisint8allowed",
        "session.set_denormal_as_zero",
    }
)

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

#: What ONNX Runtime says of a session with a pool of its own where the process has a shared one.
_POOL_IS_SHARED = "use_per_session_threads must be false"

_FOLDED_BYTES = 64 * 2**10
_SILENT = 4  # Errors arrive as exceptions; printed as well they would only be noise.


class OnnxExecutor:
    """Loads ONNX artifacts into sessions that share one thread pool."""

    def load(self, artifact: ArtifactFiles, device: DeviceOptions) -> OnnxExecutable:
        """Check the graph, make a session of it, and compare its tensors with the segment's.

        Artifact options: ``optimization`` (a key of :data:`OPTIMIZATION`, by default
        ``extended``) and ``config`` (settings of :data:`CONFIG_ENTRIES`).

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
            session = _shared_session(ort, model, artifact, device, bytes_of(places))
            weights = weights if session is not None else _copied(places)
        if session is None:
            options = _session_options(ort, artifact, device, where)
            session = _make_session(ort, model, options, artifact.info)
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
            raise _failure("failed in", error, self._info) from error
        arrays = tuple(array for array in self._set if array is not None)
        if len(arrays) == len(self._set):
            return arrays
        # What the session has allocated is copied, to be independent of its memory.
        values = self._binding.get_outputs()
        return tuple(
            np.array(values[index].numpy()) if array is None else array
            for index, array in enumerate(self._set)
        )


# --- making a session ---------------------------------------------------------------------------


def _session_options(ort: Any, artifact: ArtifactFiles, device: DeviceOptions, where: str) -> Any:
    unknown = set(artifact.options) - {"optimization", "config"}
    if unknown:
        raise _unknown_option(min(unknown), where)
    level = artifact.options.get("optimization", "extended")
    if not isinstance(level, str) or level not in OPTIMIZATION:
        raise _unknown_option(f"optimization={level!r:.60}", where)
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, OPTIMIZATION[level])
    entries = _config_entries(artifact.options.get("config", {}), where)
    # A protobuf, whatever its first bytes look like.
    entries["session.load_model_format"] = "ONNX"
    entries["session.model_external_initializers_file_folder_path"] = str(artifact.blobs_dir)
    entries["optimization.constant_folding_max_output_size_in_bytes"] = str(_FOLDED_BYTES)
    # Weights that a session does copy take what they need, not what the arena rounds it up to.
    entries["session.use_device_allocator_for_initializers"] = "1"
    if device.memory == "low":
        entries["session.disable_prepacking"] = "1"
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    apply_pool(ort, options, device.threads, device.mixed)
    return options


def _shared_session(
    ort: Any, model: bytes, artifact: ArtifactFiles, device: DeviceOptions, nbytes: int
) -> Any:
    """A session on what this host has kept, made now if need be; None where nothing can be kept."""
    kept, key = KeptGraphs(), key_of(ort, model, artifact, device)
    where = place_of(artifact.info)

    def write(folder: Path) -> None:
        options = _session_options(ort, artifact, device, where)
        save_into(options, folder)
        _make_session(ort, model, options, artifact.info)

    def read(entry: Path) -> Any:
        own = {**artifact.options, "optimization": "none"}
        options = _session_options(
            ort, replace(artifact, blobs_dir=entry, options=own), device, where
        )
        return _make_session(ort, (entry / GRAPH).read_bytes(), options, artifact.info)

    def attempt(entry: Path | None) -> Any:
        try:
            return None if entry is None else read(entry)
        except (BackendError, OSError):
            # Packed by another build or for another CPU after all, or evicted meanwhile.
            kept.drop(key)
            return None

    session = attempt(kept.get(key))
    if session is not None:
        return session
    # An entry has the weights as they are, and packed.
    made = kept.put(key, 2 * nbytes, write)
    session = attempt(made)
    if made is not None and session is None:
        warnings.warn(
            f"what was kept in {made} was refused at once; weights are packed in this process",
            RuntimeWarning,
            stacklevel=2,
        )
    return session


def _config_entries(config: Any, where: str) -> dict[str, str]:
    if not isinstance(config, Mapping):
        raise _unknown_option(f"config={config!r:.60}", where)
    entries = dict(cast("Mapping[str, Any]", config))
    for key, value in entries.items():
        if key not in CONFIG_ENTRIES or value not in ("0", "1"):
            raise _unknown_option(f"config {key}={value!r:.60}", where)
    return entries


def _unknown_option(option: str, where: str) -> IncompatibleBundleError:
    return IncompatibleBundleError(
        f"the artifact asks for {option!r}, which this version does not allow",
        where=where,
        advice="upgrade partitioner if the bundle was built by a newer version",
    )


def _make_session(ort: Any, model: bytes, options: Any, info: SegmentInfo) -> Any:
    def make() -> Any:
        return ort.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # it prints, and tries again what cannot work
            read_config_from_model=0,  # a model must not bring session options
        )

    try:
        try:
            session = make()
        except RuntimeError as error:
            if not (options.use_per_session_threads and _POOL_IS_SHARED in str(error)):
                raise
            # Other code of this process has made the shared pool, which rules out own ones.
            options.use_per_session_threads = False
            # Of an own pool; left there, they would be warned of.
            options.intra_op_num_threads = options.inter_op_num_threads = 0
            session = make()
    except Exception as error:  # onnxruntime raises RuntimeError and types of its own.
        raise _failure("was refused by", error, info) from error
    # The Python object keeps the protobuf for a fallback that is off.
    session._model_bytes = None
    return session


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


# --- messages -----------------------------------------------------------------------------------


def _failure(what: str, error: Exception, info: SegmentInfo) -> BackendError:
    text = str(error)
    if "allocate memory" in text or "bad_alloc" in text or "bad allocation" in text:
        advice = "free memory, or load the bundle with memory='low'"
    elif "use_per_session_threads" in text:
        advice = "set PARTITIONER_ONNX_POOL=session before the first bundle is loaded"
    else:
        advice = "run `partition verify` on the bundle; if it fails too, build it again here"
    return BackendError(
        f"segment {info.name!r} {what} ONNX Runtime: {text}",
        where=place_of(info),
        advice=advice,
    )
