"""Compiling on a Ray cluster: a task for each segment, its weights in the object store.

A task asks for what its compiler is said to take. One whose process or node dies is begun again
elsewhere by Ray, a few times.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, cast

import numpy as np

from partitioner.artifacts.digest import hex_of
from partitioner.backends.base import Compiled, Resources
from partitioner.backends.graphs import identifier
from partitioner.clusters import connect, import_ray
from partitioner.engines.base import CompileJob
from partitioner.engines.portable import Answer, PortableJob, answer, pack, unpack
from partitioner.errors import BackendError, CompileError, ResourceError

__all__ = ["RayEngine"]

#: How often a task is begun again whose process or node died.
_RETRIES = 3

#: Jobs at a time at most by default: each has its graph in this process's memory.
_MOST = 64


def _task(job: PortableJob, digests: tuple[str, ...], *contents: Any) -> Answer:
    """What runs on the cluster."""
    with tempfile.TemporaryDirectory(prefix="partitioner-") as folder:
        return answer(job, dict(zip(digests, contents, strict=True)), Path(folder))


class RayEngine:
    """Compiles on a Ray cluster.

    The cluster is that of ``RAY_ADDRESS``; without it, one that runs on this machine, else a new
    one that ends with the engine. Where the caller has called ``ray.init``, that is used.

    Args:
        jobs: how many tasks are given to the cluster at a time; by default two a CPU.

    Raises:
        MissingDependencyError: Ray is not installed.
        BackendError: the cluster cannot be reached.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self._ray = import_ray()
        self._ours = not self._ray.is_initialized()
        connect(self._ray)
        self._run = self._ray.remote(max_retries=_RETRIES)(_task)
        self._lock = threading.Lock()
        self._stored: dict[str, Any] = {}
        self._running: set[Any] = set()
        self._closed = False
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self.width = min(_MOST, max(2, 2 * cpus)) if jobs is None else jobs

    def run(self, job: CompileJob) -> Compiled:
        """Compile on some node.

        Raises:
            CompileError: it cannot be compiled, or every process that tried died.
            BackendError: a node has other versions than this machine, or the cluster is gone.
            CancelledError: the engine was closed before the job could be given to the cluster.
        """
        sent = pack(job)
        stored = [self._put(digest, job.options.blobs_dir) for digest in sent.blobs]
        wanted = _fitting(job.resources, self._ray.nodes())
        remote = self._run.options(
            num_cpus=wanted.cpus, memory=wanted.memory_bytes, name=f"compile {job.segment.name}"
        )
        with self._lock:
            if self._closed:
                raise CancelledError
            task = remote.remote(sent, sent.blobs, *stored)
            self._running.add(task)
        try:
            found = cast(Answer, self._ray.get(task))
        except self._ray.exceptions.RayError as error:
            raise _failed(error, job, self._ray.exceptions) from error
        finally:
            with self._lock:
                self._running.discard(task)
        name = identifier(f"{job.segment.name}.{job.segment.backend}")
        return unpack(found, job, job.options.workdir / "fetched" / name)

    def _put(self, digest: str, folder: Path) -> Any:
        """A blob in the object store; put there once a build, read by nodes without a copy."""
        with self._lock:
            if digest not in self._stored:
                content = np.memmap(folder / hex_of(digest), np.uint8, mode="r")
                self._stored[digest] = self._ray.put(content)
            return self._stored[digest]

    def close(self) -> None:
        """End what runs; leave the cluster, or end it if it was begun here."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for task in running:
            self._ray.cancel(task, force=True)
        self._stored.clear()
        if self._ours:
            self._ray.shutdown()


def _fitting(wanted: Resources, nodes: list[Mapping[str, Any]]) -> Resources:
    """An estimate, held down to what the largest node has, since Ray would wait for ever."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = max((one.get("CPU", 0.0) for one in alive), default=wanted.cpus)
    memory = max((one.get("memory", 0.0) for one in alive), default=wanted.memory_bytes)
    return Resources(min(wanted.cpus, cpus), min(wanted.memory_bytes, int(memory)))


def _failed(error: Exception, job: CompileJob, exceptions: Any) -> BackendError:
    """A failure that is not the compiler's own answer."""
    what = f"the compiler of segment {job.segment.name!r}"
    if isinstance(error, exceptions.OutOfMemoryError):
        return ResourceError(
            f"{what} ran out of memory on the Ray cluster",
            where=job.segment.where,
            advice="add nodes with more memory, say what it takes (--memory-limit), or let fewer "
            "jobs run at a time (--jobs)",
        )
    died = (exceptions.WorkerCrashedError, exceptions.NodeDiedError)
    if isinstance(error, died):
        return CompileError(
            f"{what} crashed: its process on the Ray cluster died {_RETRIES + 1} times",
            where=job.segment.where,
            advice="see Ray's logs; most likely a node has too little memory for it",
        )
    return BackendError(
        f"{what} did not end on the Ray cluster: {str(error).strip().splitlines()[-1]}",
        where=job.segment.where,
        advice="see the cluster's logs (ray logs), or build with --engine local",
    )
