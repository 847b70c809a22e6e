"""Optimised graphs with packed weights, kept on this host so that processes share them.

An entry is a folder: the graph as ONNX Runtime has optimised it, a file with its weights as they
are and as they are packed, and a note with the digests of both. ONNX Runtime maps the packed
weights instead of keeping its own; it packs them all the same, one after the other, and refuses an
entry whose packed weights are others than those. Entries come by rename, whole or not at all; one
that is damaged or refused is dropped. The least recently used go when all are larger than the
limit. An entry holds nothing that cannot be made again, and the folder belongs to the user alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from partitioner.artifacts.cachedir import (
    PARTIAL,
    VARIABLE,
    cache_dir,
    cache_limit,
    drop_abandoned,
    is_private,
)
from partitioner.artifacts.digest import digest_file
from partitioner.artifacts.stamps import is_stamped, leave_stamp
from partitioner.backends.execution import ArtifactFiles, DeviceOptions
from partitioner.errors import BackendError
from partitioner.runtime.host import cpu_flags

__all__ = ["GRAPH", "KeptGraphs", "key_of", "save_into"]

GRAPH = "graph.onnx"
_WEIGHTS, _NOTE = "weights.bin", "digests.json"

#: Constants from this size on lie in the file of weights.
_LEAST_BYTES = 1024


class KeptGraphs:
    """Entries by key, in a folder.

    Args:
        folder: made when something is kept; None for ``onnx`` in the host's cache.
        limit: bytes that all entries together may take; None for that of the cache.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = folder or cache_dir("onnx")
        self.limit = cache_limit() if limit is None else limit

    def get(self, key: str) -> Path | None:
        """The folder of an entry whose files are as written; None if there is none, or a bad."""
        entry = self.folder / key
        try:
            if not (entry.is_dir() and is_private(self.folder)):
                return None
            note = json.loads((entry / _NOTE).read_bytes())
            if not _is_whole(entry, note):
                raise ValueError("not what was written")
            os.utime(entry)
        except (OSError, ValueError):
            self.drop(key)
            return None
        return entry

    def put(self, key: str, nbytes: int, write: Callable[[Path], None]) -> Path | None:
        """Make an entry. A cache that cannot be written to is warned of, and does without.

        Args:
            nbytes: about what it will take; more than the limit is not kept.
            write: writes the graph and its weights into a folder.

        Returns:
            its folder; None if nothing was kept.
        """
        if nbytes > self.limit:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not is_private(self.folder):
                return None
            drop_abandoned(self.folder)
            own = self._write(key, write)
        except (OSError, BackendError) as error:
            warnings.warn(
                f"nothing is kept in {self.folder}: {error}; set {VARIABLE} to another folder, "
                "or load with memory='fast'",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        self._evict(key)
        return self.folder / key if own else self.get(key)

    def drop(self, key: str) -> None:
        """Forget an entry, if it is there. Who has mapped it goes on with it."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def _write(self, key: str, write: Callable[[Path], None]) -> bool:
        """Whether the entry is there now, and this one: another process may have been faster."""
        partial = Path(tempfile.mkdtemp(dir=self.folder, prefix=PARTIAL))
        try:
            write(partial)
            note = {path.name: digest_file(path) for path in sorted(partial.iterdir())}
            (partial / _NOTE).write_text(json.dumps(note))
            if (self.folder / key).exists():
                return False
            partial.rename(self.folder / key)
        except OSError as error:
            # Between the look and the rename.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return False
        else:
            return True
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _evict(self, newest: str) -> None:
        """Delete what was used longest ago until the rest fits."""
        total = 0
        for name, size in self._by_use():
            total += size
            if total > self.limit and name != newest:
                self.drop(name)
                total -= size

    def _by_use(self) -> Iterator[tuple[str, int]]:
        """Entries and their sizes, the last used first."""
        found: list[tuple[float, str, int]] = []
        for entry in self.folder.iterdir():
            # Others may drop it meanwhile; what is being written is nobody's entry yet.
            with suppress(FileNotFoundError):
                if not entry.name.startswith(PARTIAL):
                    size = sum(path.stat().st_size for path in entry.iterdir())
                    found.append((entry.stat().st_mtime, entry.name, size))
        for _, name, size in sorted(found, reverse=True):
            yield name, size


def key_of(ort: Any, model: bytes, artifact: ArtifactFiles, device: DeviceOptions) -> str:
    """Of all that an entry depends on. Names of blobs are digests of their content."""
    parts = {
        "graph": hashlib.sha256(model).hexdigest(),
        "weights": [path.name for path in artifact.weights],
        "options": dict(artifact.options),
        "threads": device.threads,
        "onnxruntime": [ort.__version__, ort.get_build_info()],
        "host": [platform.machine(), *cpu_flags()],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save_into(options: Any, folder: Path) -> None:
    """Have the next session of these options write its graph and weights into a folder.

    Args:
        options: ONNX Runtime's ``SessionOptions``.
    """
    options.optimized_model_filepath = str(folder / GRAPH)
    entries = {
        "session.optimized_model_external_initializers_file_name": _WEIGHTS,
        "session.optimized_model_external_initializers_min_size_in_bytes": str(_LEAST_BYTES),
        "session.save_external_prepacked_constant_initializers": "1",
    }
    for key, value in entries.items():
        options.add_session_config_entry(key, value)


def _is_whole(entry: Path, note: Any) -> bool:
    return (
        isinstance(note, dict)
        and GRAPH in note
        and all(_has_digest(entry / str(name), digest) for name, digest in note.items())
    )


def _has_digest(path: Path, digest: Any) -> bool:
    looked, info = time.time_ns(), path.stat()
    if is_stamped(info, digest):
        return True
    if digest_file(path) != digest:
        return False
    leave_stamp(info, digest, looked)
    return True
