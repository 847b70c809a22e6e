"""Loading a bundle's segments: several at once, since each does much of its work on one CPU.

Hashing weights, reading them and repacking them for a backend's kernels take turns on a thread;
with a thread for each CPU, one segment is hashed while another is packed.

A backend that works on copies of the weights leaves the files mapped; the pages of these mappings
are given back at the end. No other load may end a mapping meanwhile (see ``backends/mapped.py``),
so bundles with such segments are loaded one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from partitioner.artifacts.digest import hex_of
from partitioner.backends import find_backend
from partitioner.backends.execution import (
    ArtifactFiles,
    DeviceOptions,
    Executable,
    Executor,
)
from partitioner.backends.mapped import file_mappings, give_back_pages
from partitioner.runtime.cpus import usable_cpus

if TYPE_CHECKING:
    from partitioner.artifacts.bundle import Bundle
    from partitioner.artifacts.manifest import Artifact
    from partitioner.plan import SegmentInfo

__all__ = ["close_segments", "load_segments"]

_copying = threading.Lock()


def load_segments(bundle: Bundle, device: DeviceOptions) -> dict[str, Executable]:
    """An executable for each segment; those that compile to the same share one.

    In low memory, one is loaded after the other: what loading takes for a while is not taken twice.

    Raises:
        BackendError: as the backends' executors; the first segment's of the plan that fails. What
            has been loaded is closed.
    """
    artifacts = bundle.manifest.artifacts.values()
    copied = [a for a in artifacts if find_backend(a.backend).copies_weights]
    with _copying if copied else nullcontext():
        before = file_mappings() if copied else frozenset()
        loaded = _load_all(bundle, device)
        blobs = {hex_of(digest) for artifact in copied for digest in artifact.weights}
        give_back_pages((bundle.blobs_dir / name for name in blobs), before)
    return loaded


def _load_all(bundle: Bundle, device: DeviceOptions) -> dict[str, Executable]:
    artifacts = bundle.manifest.artifacts
    executors = {a.backend: find_backend(a.backend).make_executor() for a in artifacts.values()}
    threads = device.threads or usable_cpus()
    device = replace(device, mixed=len(executors.keys() - {"host"}) > 1)
    with ThreadPoolExecutor(1 if device.memory == "low" else threads, "load") as pool:
        loading: dict[str, Future[Executable]] = {}
        keys: dict[str, str] = {}
        for name, artifact in artifacts.items():
            info = bundle.manifest.plan.segments[name]
            # Segments that compile to the same graph (a step that was peeled off a loop, and the
            # loop's own) share one session and its repacked weights.
            keys[name] = repr((artifact, info.inputs, info.outputs))
            if keys[name] not in loading:
                executor = executors[artifact.backend]
                loading[keys[name]] = pool.submit(_load, bundle, artifact, info, executor, device)
        try:
            loaded = {key: future.result() for key, future in loading.items()}
        except BaseException:
            _abandon(loading)
            raise
    return {name: loaded[key] for name, key in keys.items()}


def close_segments(executables: Mapping[str, Executable]) -> None:
    """Close what :func:`load_segments` gave, each once: segments may share an executable."""
    for executable in {id(one): one for one in executables.values()}.values():
        executable.close()


def _load(
    bundle: Bundle,
    artifact: Artifact,
    info: SegmentInfo,
    executor: Executor,
    device: DeviceOptions,
) -> Executable:
    # What is run is what was signed, whatever the disk is trusted with otherwise.
    coded = find_backend(artifact.backend).runs_code and bundle.verify == "never"
    verify = "once" if coded else bundle.verify
    files = ArtifactFiles(
        graph=bundle.blob_path(artifact.graph, verify) if artifact.graph else None,
        blobs_dir=bundle.blobs_dir,
        weights=tuple(bundle.blob_path(digest, verify) for digest in artifact.weights),
        options=artifact.options,
        info=info,
        turn=_turn_of(info.name, bundle),
    )
    return executor.load(files, device)


def _turn_of(name: str, bundle: Bundle) -> int:
    """Which of its backend's segments one is, in the order of the pipeline."""
    artifacts = bundle.manifest.artifacts
    backend = artifacts[name].backend
    own = [one for one in bundle.manifest.plan.segments if artifacts[one].backend == backend]
    return own.index(name)


def _abandon(loading: dict[str, Future[Executable]]) -> None:
    """Begin no more, wait for what is under way, and close what is loaded."""
    for future in loading.values():
        future.cancel()
    for future in loading.values():
        if not future.cancelled() and future.exception() is None:
            future.result().close()
