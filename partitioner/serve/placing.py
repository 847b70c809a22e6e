"""What a replica of a bundle takes of a node, by the bundle's manifests."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import Manifest
from partitioner.artifacts.store.options import DEFAULT_OPTIONS
from partitioner.artifacts.store.remote import needed_to_run, opened_remote
from partitioner.artifacts.store.sources import find_source, is_source
from partitioner.backends.execution import Memory
from partitioner.errors import UsageError
from partitioner.runtime.opening import open_directory

__all__ = ["Needs", "Served", "look_up", "needs_of"]

#: Python with NumPy, a backend's library and the web server, resident.
_PROCESS_BYTES = 512 * 2**20

#: Resident memory of a loaded bundle by its weights: what the README measures, rounded up.
_FACTORS: Mapping[Memory, float] = {"fast": 2.0, "shared": 2.0, "low": 1.5}

#: Needs are rounded up to this, so that a new version that is like the old one needs the same.
_ROUNDED_TO = 256 * 2**20


@dataclass(frozen=True)
class Needs:
    """What a replica takes of a node.

    Args:
        cpus: threads of a call.
        memory_bytes: resident, while it serves.
        neuron_cores: logical cores of Inferentia or Trainium.
    """

    cpus: float
    memory_bytes: int
    neuron_cores: int = 0


@dataclass(frozen=True)
class Served:
    """A bundle that is to be served.

    Args:
        uri: where replicas load it from; of a store by its digest, so that all load the same,
            whatever becomes of the tag.
        name: its own.
        rows: requests that one call serves at most.
        needs: of a replica.
    """

    uri: str
    name: str
    rows: int
    needs: Needs


def look_up(
    uri: str | os.PathLike[str],
    *,
    variant: Mapping[str, str] | None = None,
    threads: int | None = None,
    memory: Memory = "fast",
    workers: int = 1,
) -> Served:
    """Read a bundle's manifests; no blob of weights is fetched.

    Args:
        uri: as of :func:`partitioner.load`.
        variant: labels that the member must have.
        threads: worker threads of a call; 1 by default.
        memory, workers: as replicas load it.

    Raises:
        UsageError: no member has the labels; or some need an accelerator, and others do not.
        as :func:`partitioner.load`, for what cannot be opened.
    """
    with _opened(uri) as (index, where):
        manifests = [index.bundle(member).manifest for member in index.matching(variant)]
    needs = needs_of(manifests, threads=threads or 1, memory=memory, workers=workers)
    rows = max(1 if m.batch is None else m.batch.rows for m in manifests)
    return Served(where, manifests[0].name, rows, needs)


def needs_of(manifests: Sequence[Manifest], *, threads: int, memory: Memory, workers: int) -> Needs:
    """What a replica takes that loads one of some members, or all buckets of one target.

    Raises:
        UsageError: some need an accelerator, and others do not.
    """
    cores = {manifest.target: _neuron_segments(manifest) for manifest in manifests}
    if len({count > 0 for count in cores.values()}) > 1:
        raise UsageError(
            "some members of the bundle run on Neuron devices and others do not: "
            f"{', '.join(sorted(cores))}",
            advice="say which one replicas are to load: --variant target=NAME",
        )
    by_target: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        by_target.setdefault(manifest.target, []).append(manifest)
    nbytes = max(_bytes(group, memory, workers) for group in by_target.values())
    rounded = -(-nbytes // _ROUNDED_TO) * _ROUNDED_TO
    # A segment stands on one core; segments of several share the requests between them.
    return Needs(float(threads), rounded, max(cores.values()))


def _neuron_segments(manifest: Manifest) -> int:
    return sum(artifact.backend == "neuron" for artifact in manifest.artifacts.values())


def _bytes(buckets: Sequence[Manifest], memory: Memory, workers: int) -> int:
    """Of the buckets of one target: weights once, and the values of as many runs as may be."""
    blobs = {blob.digest: blob.size for one in buckets for blob in needed_to_run(one)}
    runs = [one.memory.peak + one.memory.inputs for one in buckets if one.memory is not None]
    weights = int(_FACTORS[memory] * sum(blobs.values()))
    return _PROCESS_BYTES + weights + workers * max(runs, default=0)


@contextmanager
def _opened(uri: str | os.PathLike[str]) -> Generator[tuple[BundleIndex, str]]:
    """A bundle, and where replicas find what was opened here."""
    if not is_source(uri):
        index = open_directory(uri)
        yield index, str(index.path)
        return
    from partitioner.artifacts.store.cache import Cache

    store, reference = find_source(uri, DEFAULT_OPTIONS)
    with opened_remote(store, reference, cache=Cache()) as (index, _):
        own = str(uri).startswith(reference.store)
        yield index, str(replace(reference, ref=index.digest)) if own else str(uri)
