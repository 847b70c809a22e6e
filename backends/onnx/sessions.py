"""Sessions of ONNX Runtime: their options, the one that is made, and the one that is kept.

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

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from partitioner.backends.execution import ArtifactFiles, DeviceOptions, place_of
from partitioner.backends.onnx.kept import GRAPH, KeptGraphs, key_of, save_into
from partitioner.backends.onnx.pool import apply_pool
from partitioner.errors import BackendError, IncompatibleBundleError
from partitioner.plan import SegmentInfo

__all__ = [
    "CONFIG_ENTRIES",
    "OPTIMIZATION",
    "failure_of",
    "make_session",
    "session_options",
    "shared_session",
]

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

#: What ONNX Runtime says of a session with a pool of its own where the process has a shared one.
_POOL_IS_SHARED = "use_per_session_threads must be false"

_FOLDED_BYTES = 64 * 2**10
_SILENT = 4  # Errors arrive as exceptions; printed as well they would only be noise.


def session_options(ort: Any, artifact: ArtifactFiles, device: DeviceOptions, where: str) -> Any:
    """What a session of an artifact is made with.

    Artifact options: ``optimization`` (a key of :data:`OPTIMIZATION`, by default ``extended``) and
    ``config`` (settings of :data:`CONFIG_ENTRIES`).

    Raises:
        IncompatibleBundleError: an option that is not in the lists.
    """
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


def shared_session(
    ort: Any, model: bytes, artifact: ArtifactFiles, device: DeviceOptions, nbytes: int
) -> Any:
    """A session on what this host has kept, made now if need be; None where nothing can be kept."""
    kept, key = KeptGraphs(), key_of(ort, model, artifact, device)
    where = place_of(artifact.info)

    def write(folder: Path) -> None:
        options = session_options(ort, artifact, device, where)
        save_into(options, folder)
        make_session(ort, model, options, artifact.info)

    def read(entry: Path) -> Any:
        own = {**artifact.options, "optimization": "none"}
        options = session_options(
            ort, replace(artifact, blobs_dir=entry, options=own), device, where
        )
        return make_session(ort, (entry / GRAPH).read_bytes(), options, artifact.info)

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


def make_session(ort: Any, model: bytes, options: Any, info: SegmentInfo) -> Any:
    """A session of a graph that has been checked.

    Args:
        model: the graph's bytes.
        options: of :func:`session_options`; changed where the process has a shared pool already.

    Raises:
        BackendError: ONNX Runtime refuses the graph.
    """

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
        raise failure_of("was refused by", error, info) from error
    # The Python object keeps the protobuf for a fallback that is off.
    session._model_bytes = None
    return session


def failure_of(what: str, error: Exception, info: SegmentInfo) -> BackendError:
    """An error of ONNX Runtime as one of ours, with advice.

    Args:
        what: became of the segment.
    """
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
