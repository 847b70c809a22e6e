"""Store to bundle directory, by way of the cache.

Blobs go to the cache, so a killed pull is continued by the next, and a second pull sends nothing.
The directory gets hard links to the cache's files, or copies where it is on another file system.
Where members are left out, the index still names them, so the bundle's digest and its signatures
stay what they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from partitioner.artifacts.digest import digest_file, hex_of
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.oci import (
    BLOBS,
    INDEX_FILE,
    LAYOUT_FILE,
    write_index,
    write_layout,
)
from partitioner.artifacts.signatures import Requirements, merge_signatures, write_signatures
from partitioner.artifacts.staging import Staging, sync_directory
from partitioner.artifacts.store.base import Progress, Store
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.locations import Reference
from partitioner.artifacts.store.remote import find_signatures, opened_remote
from partitioner.artifacts.writer import as_output_errors, refuse_existing, write_file

__all__ = ["Pulled", "pull"]


@dataclass(frozen=True)
class Pulled:
    """What was pulled: where it is now, its digest, and its bytes."""

    path: Path
    digest: str
    size: int


def pull(
    store: Store,
    reference: Reference,
    output: Path,
    *,
    cache: Cache,
    overwrite: bool = False,
    requirements: Requirements = (),
    threads: int = 4,
    progress: Progress = lambda count: None,
    wanted: Mapping[str, str] | None = None,
) -> Pulled:
    """Copy a bundle from a store to a directory, which appears as a whole. Every blob is hashed.

    Args:
        overwrite: replace a bundle that is there.
        requirements: signatures that it must have.
        wanted: labels of the members that are copied; all by default.

    Raises:
        OutputError: the output exists, or cannot be written.
        and as :func:`partitioner.artifacts.store.remote.opened_remote`.
    """
    output = output.absolute()
    refuse_existing(output, overwrite=overwrite)
    with opened_remote(
        store,
        reference,
        cache=cache,
        verify="always",
        requirements=requirements,
        threads=threads,
        progress=progress,
    ) as (index, fetcher):
        closure = index.closure(index.matching(wanted))
        fetcher.start(closure)
        signatures = find_signatures(store, index.digest)
        with as_output_errors(output):
            staging = Staging(output)
            try:
                _fill(staging.path, index, closure)
                if signatures:
                    write_signatures(staging.path, merge_signatures(signatures, None))
                sync_directory(staging.path)
                refuse_existing(output, overwrite=overwrite)
                staging.publish(replace=overwrite)
            finally:
                staging.discard()
        return Pulled(output, index.digest, sum(blob.size for blob in closure))


def _fill(path: Path, index: BundleIndex, closure: tuple[Blob, ...]) -> None:
    folder = path / BLOBS
    folder.mkdir(parents=True)
    for directory in (folder, folder.parent):
        directory.chmod(0o755)
    for blob in closure:
        _place(_arrived(index, blob), folder / hex_of(blob.digest), blob)
    write_file(path / LAYOUT_FILE, write_layout())
    write_file(path / INDEX_FILE, write_index(index.root))
    sync_directory(folder)


def _arrived(index: BundleIndex, blob: Blob) -> Path:
    index.arrive(blob)
    return index.blobs_dir / hex_of(blob.digest)


def _place(source: Path, target: Path, blob: Blob) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)
        if digest_file(target) != blob.digest:
            raise damaged("the cache changed while it was copied", source) from None
        target.chmod(0o444)
