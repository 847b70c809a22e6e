"""Loading a bundle's segments: several at once, since each does much of its work on one CPU.

Hashing weights, reading them and repacking them for a backend's kernels take turns on a thread;
with a thread for each CPU, one segment is hashed while another is packed.

A backend that works on copies of the weights leaves the files mapped; the pages of these mappings
are given back at the end. No other load may end a mapping meanwhile (see ``backends/mapped.py``),
so bundles with such segments are loaded one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from partitioner.artifacts.digest import hex_of
from partitioner.backends import find_backend
from partitioner.backends.execution import ArtifactFiles, DeviceOptions, Executable
from partitioner.backends.mapped import file_mappings, give_back_pages
from partitioner.backends.weighing import Place, WeightUse, expected_weights
from partitioner.runtime.cpus import usable_cpus

if TYPE_CHECKING:
    from partitioner.artifacts.bundle import Bundle, Verify
    from partitioner.artifacts.manifest import Manifest

__all__ = ["SegmentLoader", "close_segments", "constant_places", "load_segments", "weight_blobs"]

_copying = threading.Lock()


class SegmentLoader:
    """Loads segments of one bundle, one at a time or several at once.

    Args:
        bundle: whose blobs are read as they are needed.
        device: how the host is to be used.

    Raises:
        IncompatibleBundleError, MissingDependencyError: a backend cannot be had here.
    """

    def __init__(self, bundle: Bundle, device: DeviceOptions) -> None:
        self._bundle = bundle
        self._artifacts = bundle.manifest.artifacts
        backends = dict.fromkeys(a.backend for a in self._artifacts.values())
        self._executors = {name: find_backend(name).make_executor() for name in backends}
        self.device = replace(device, mixed=len(self._executors.keys() - {"host"}) > 1)

    def groups(self) -> dict[str, list[str]]:
        """Segments that compile to the same graph (a step that was peeled off a loop, and the
        loop's own), by a key: they share an executable and its repacked weights."""
        groups: dict[str, list[str]] = {}
        for name, artifact in self._artifacts.items():
            info = self._bundle.manifest.plan.segments[name]
            groups.setdefault(repr((artifact, info.inputs, info.outputs)), []).append(name)
        return groups

    def load(self, name: str) -> Executable:
        """Load a segment.

        Raises:
            as :meth:`partitioner.backends.execution.Executor.load`; and BundleError: one of its
            blobs is missing or damaged.
        """
        with self.returning([name]):
            return self.load_only(name)

    def load_only(self, name: str) -> Executable:
        """As :meth:`load`, for those who give back pages themselves, by :meth:`returning`."""
        artifact = self._artifacts[name]
        # What is run is what was signed, whatever the disk is trusted with otherwise.
        coded = find_backend(artifact.backend).runs_code and self._bundle.verify == "never"
        verify = "once" if coded else self._bundle.verify
        weights = tuple(self._bundle.blob_path(digest, verify) for digest in artifact.weights)
        files = self._files(name, verify, weights)
        return self._executors[artifact.backend].load(files, self.device)

    def weigh(self, name: str, device: DeviceOptions | None = None) -> WeightUse:
        """What loading a segment would take. Its weights are not read.

        Args:
            device: instead of the loader's own.

        Raises:
            BundleError: its graph is damaged.
        """
        artifact, bundle = self._artifacts[name], self._bundle
        weights = tuple(bundle.blobs_dir / hex_of(digest) for digest in artifact.weights)
        files = self._files(name, bundle.verify, weights)
        executor = self._executors[artifact.backend]
        return expected_weights(executor, files, device or self.device, self.weight_blobs(name))

    def weight_blobs(self, name: str) -> dict[str, int]:
        """The blobs that a segment reads weights from: file name -> bytes."""
        return weight_blobs(self._bundle.manifest, name)

    def arrive(self, name: str) -> None:
        """Wait for a segment's blobs, where they are fetched when they are needed."""
        artifact = self._artifacts[name]
        for digest in (*((artifact.graph,) if artifact.graph else ()), *artifact.weights):
            self._bundle.arrive(self._bundle.manifest.blob(digest))

    @contextmanager
    def returning(self, names: Iterable[str]) -> Generator[None]:
        """Give back the pages of weights that segments loaded in the context have copied."""
        artifacts = [self._artifacts[name] for name in names]
        copied = [a for a in artifacts if find_backend(a.backend).copies_weights]
        if not copied:
            yield
            return
        with _copying:
            before = file_mappings()
            yield
            blobs = {hex_of(digest) for artifact in copied for digest in artifact.weights}
            give_back_pages((self._bundle.blobs_dir / name for name in blobs), before)

    def _files(self, name: str, verify: Verify, weights: tuple[Path, ...]) -> ArtifactFiles:
        artifact, bundle = self._artifacts[name], self._bundle
        return ArtifactFiles(
            graph=bundle.blob_path(artifact.graph, verify) if artifact.graph else None,
            blobs_dir=bundle.blobs_dir,
            weights=weights,
            options=artifact.options,
            info=bundle.manifest.plan.segments[name],
            turn=self._turn_of(name),
        )

    def _turn_of(self, name: str) -> int:
        """Which of its backend's segments one is, in the order of the pipeline."""
        backend = self._artifacts[name].backend
        segments = self._bundle.manifest.plan.segments
        own = [one for one in segments if self._artifacts[one].backend == backend]
        return own.index(name)


def weight_blobs(manifest: Manifest, name: str) -> dict[str, int]:
    """The blobs that a segment reads weights from: file name -> bytes."""
    digests = manifest.artifacts[name].weights
    return {hex_of(digest): manifest.blob(digest).size for digest in digests}


def constant_places(manifest: Manifest) -> frozenset[Place]:
    """Where the constants and tables of all schedules are read in place."""
    refs = (manifest.constants, *(variant.constants for variant in manifest.variants))
    return frozenset(
        (hex_of(ref.blob), ref.offset, ref.nbytes) for own in refs for ref in own.values()
    )


def load_segments(bundle: Bundle, device: DeviceOptions) -> dict[str, Executable]:
    """An executable for each segment; those that compile to the same share one.

    In low memory, one is loaded after the other: what loading takes for a while is not taken twice.

    Raises:
        BackendError: as the backends' executors; the first segment's of the plan that fails. What
            has been loaded is closed.
    """
    loader = SegmentLoader(bundle, device)
    with loader.returning(bundle.manifest.artifacts):
        return _load_all(loader)


def _load_all(loader: SegmentLoader) -> dict[str, Executable]:
    threads = loader.device.threads or usable_cpus()
    with ThreadPoolExecutor(1 if loader.device.memory == "low" else threads, "load") as pool:
        groups = loader.groups()
        loading = {key: pool.submit(loader.load_only, names[0]) for key, names in groups.items()}
        try:
            loaded = {key: future.result() for key, future in loading.items()}
        except BaseException:
            _abandon(loading)
            raise
    return {name: loaded[key] for key, names in groups.items() for name in names}


def close_segments(executables: Mapping[str, Executable]) -> None:
    """Close what :func:`load_segments` gave, each once: segments may share an executable."""
    for executable in {id(one): one for one in executables.values()}.values():
        executable.close()


def _abandon(loading: dict[str, Future[Executable]]) -> None:
    """Begin no more, wait for what is under way, and close what is loaded."""
    for future in loading.values():
        future.cancel()
    for future in loading.values():
        if not future.cancelled() and future.exception() is None:
            future.result().close()
