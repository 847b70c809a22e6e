"""Bundles in a store, opened without a copy of the whole: blobs come to the cache as needed."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from partitioner.artifacts.bundle import Verify
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import Blob, Manifest
from partitioner.artifacts.signatures import Requirements, Signature, parse_signatures, required
from partitioner.artifacts.store.base import Progress, Store
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.layout import MAX_DOCUMENT, signatures_key
from partitioner.artifacts.store.locations import Reference
from partitioner.artifacts.store.refs import resolve

__all__ = ["Fetcher", "find_signatures", "needed_to_run", "opened_remote"]

#: Blobs that are fetched at once; each large one in several ranges.
_BLOBS = 3


@contextmanager
def opened_remote(
    store: Store,
    reference: Reference,
    *,
    cache: Cache,
    verify: Verify = "once",
    requirements: Requirements = (),
    threads: int = 4,
    progress: Progress = lambda count: None,
) -> Generator[tuple[BundleIndex, Fetcher]]:
    """Open a bundle of a store, and what fetches its blobs.

    Blobs come when they are asked for, and in the background once :meth:`Fetcher.start` was told
    of them: who asks for a blob waits for that one only. In the context the cache keeps the blobs;
    files that were mapped in it may be used afterwards.

    Args:
        verify: as of ``Bundle.open``, for what is in the cache; what is fetched is always hashed.
        requirements: signatures that it must have.

    Raises:
        NotInStoreError: the store has no such bundle, or not all of it.
        BundleError, IncompatibleBundleError: as ``BundleIndex.at``.
        SignatureError: a signature is missing.
        StoreError: the store cannot be reached.
    """
    pointer = resolve(store, reference)
    signatures = find_signatures(store, pointer.digest) if requirements else []
    with cache.opening(), Fetcher(store, cache, verify, threads, progress) as fetcher:
        index = BundleIndex.at(
            cache.root,
            pointer.root,
            verify,
            trust=required(requirements, signatures),
            arrive=fetcher.wait_for,
        )
        yield index, fetcher


def find_signatures(store: Store, digest: str) -> list[Signature]:
    """The signatures that a store has for a bundle. Nothing is verified.

    Raises:
        BundleError: the document is malformed.
    """
    found = store.get(signatures_key(digest), MAX_DOCUMENT)
    return [] if found is None else parse_signatures(found.data)


def needed_to_run(manifest: Manifest) -> list[Blob]:
    """What running needs, in the order in which loading asks for it."""
    wanted: list[str] = []
    for artifact in manifest.artifacts.values():
        wanted += [artifact.graph] if artifact.graph else []
        wanted += artifact.weights
    for refs in (manifest.constants, *(variant.constants for variant in manifest.variants)):
        wanted += [ref.blob for ref in refs.values()]
    return [manifest.blob(digest) for digest in dict.fromkeys(wanted)]


class Fetcher:
    """Fetches blobs once each, in the background or when asked."""

    def __init__(
        self, store: Store, cache: Cache, verify: Verify, threads: int, progress: Progress
    ) -> None:
        self._store = store
        self._cache = cache
        self._verify: Verify = verify
        self._threads = threads
        self._progress = progress
        self._pool = ThreadPoolExecutor(_BLOBS, "blobs")
        self._jobs: dict[str, Future[Path]] = {}
        self._lock = Lock()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, blobs: Iterable[Blob]) -> None:
        """Begin to fetch."""
        for blob in blobs:
            self._job(blob)

    def wait_for(self, blob: Blob) -> None:
        """Have one blob's file in the cache."""
        self._job(blob).result()

    def _job(self, blob: Blob) -> Future[Path]:
        with self._lock:
            if blob.digest not in self._jobs:
                self._jobs[blob.digest] = self._pool.submit(
                    self._cache.ensure,
                    self._store,
                    blob,
                    self._verify,
                    threads=self._threads,
                    progress=self._progress,
                )
            return self._jobs[blob.digest]
