"""Finish a bundle whose build has left compiling to another machine: ``partition compile``.

Needs neither the model nor its weights' file: a deferred artifact is a portable graph, and its
weights lie in the bundle. What has been compiled is kept beside the output until all is, so that a
run that fails or is ended is gone on with by the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.codec import encode
from partitioner.artifacts.index import BundleIndex
from partitioner.artifacts.jsontext import dumps
from partitioner.artifacts.manifest import Artifact, Manifest
from partitioner.artifacts.oci import BLOBS
from partitioner.artifacts.writer import BundleWriter, refuse_existing
from partitioner.backends import find_backend
from partitioner.backends.base import CompileOptions
from partitioner.errors import CompileError
from partitioner.provenance.distributions import used
from partitioner.provenance.renewal import renewed, unattested
from partitioner.recording import toolchain

__all__ = ["Finished", "deferred_segments", "finish_bundle"]

_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Finished:
    """A finished bundle.

    Attributes:
        path: of the bundle.
        digest: its identity, which is another than before.
        compiled: segments that were compiled now.
        resumed: segments that an earlier run had compiled.
        warnings: segment -> what its compiler warns about.
    """

    path: Path
    digest: str
    compiled: tuple[str, ...]
    resumed: tuple[str, ...]
    warnings: dict[str, tuple[str, ...]]


def deferred_segments(manifest: Manifest) -> tuple[str, ...]:
    """The segments that are still to be compiled."""
    return tuple(name for name, one in manifest.artifacts.items() if one.is_deferred)


def finish_bundle(
    path: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    timeout_s: float = 1800.0,
    memory_bytes: int | None = None,
    log: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Finished:
    """Compile what is missing in a bundle.

    Args:
        path: the bundle; all its members are finished.
        output: where the finished one goes; the bundle itself is replaced without it.
        timeout_s, memory_bytes: what compiling one segment may take.
        log: a file for the compilers' output; kept only if given.
        overwrite: replace a bundle that is at ``output``.
        progress: called with the segments done and their number.

    Raises:
        BundleError: no bundle, or damaged.
        MissingDependencyError: the compiler is not here.
        CompileError: a segment cannot be compiled; what was compiled before it is kept.
        OutputError: there is something at ``output``, or it cannot be written.
    """
    index = BundleIndex.open(path, "always")
    members = [(member, index.bundle(member)) for member in index.here]
    missing = [(b, name) for _, b in members for name in deferred_segments(b.manifest)]
    if not missing:
        return Finished(index.path, index.digest, (), (), {})
    target = Path(output).absolute() if output is not None else index.path
    overwrite = overwrite or target == index.path
    # Not after hours of compiling.
    refuse_existing(target, overwrite=overwrite)
    options = CompileOptions(
        Path(), index.path / BLOBS, timeout_s, memory_bytes, Path(log) if log else None
    )
    work = _Work(target.with_name(f"{target.name}.compiling"), options)
    done: dict[tuple[str, str], _Made] = {}
    for count, (bundle, name) in enumerate(missing):
        if progress is not None:
            progress(count, len(missing))
        done[bundle.image.digest, name] = work.make(bundle, name)
    with BundleWriter(target, overwrite=overwrite) as writer:
        for member, bundle in members:
            own = {n: made for (image, n), made in done.items() if image == member.image.digest}
            manifest = _manifest(bundle, own, writer)
            writer.add_member(manifest, member.labels, member.machine)
        digest = writer.publish()
    shutil.rmtree(work.folder, ignore_errors=True)
    return Finished(
        target,
        digest,
        _names(done, resumed=False),
        _names(done, resumed=True),
        {name: made.warnings for (_, name), made in done.items() if made.warnings},
    )


def _names(done: Mapping[tuple[str, str], _Made], *, resumed: bool) -> tuple[str, ...]:
    found = [name for (_, name), made in done.items() if made.resumed == resumed]
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class _Made:
    """A compiled segment, in the folder that is kept until all are."""

    graph: Path
    media_type: str
    options: dict[str, Any]
    resumed: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.options.get("warnings", ()))


class _Work:
    """Compiles segments, each kind of segment once."""

    def __init__(self, folder: Path, options: CompileOptions) -> None:
        self.folder = folder
        self.options = options
        self._tools = toolchain()
        self._compilers: dict[str, Any] = {}

    def make(self, bundle: Bundle, name: str) -> _Made:
        artifact = bundle.manifest.artifacts[name]
        kept = self.folder / self._key(artifact)
        if (kept / "made.json").is_file():
            return self._read(kept)
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="job-") as job:
                self._keep(self._compile(bundle, name, artifact, Path(job)), kept)
        except CompileError as error:
            others = "; what was compiled before is kept, so run it again after that"
            error.advice = f"{error.advice or 'see its log'}{others}"
            raise
        finally:
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
        return self._read(kept, resumed=False)

    def _compile(self, bundle: Bundle, name: str, artifact: Artifact, job: Path) -> Any:
        if artifact.backend not in self._compilers:
            self._compilers[artifact.backend] = find_backend(artifact.backend).make_compiler()
        assert artifact.graph is not None
        return self._compilers[artifact.backend].finish(
            bundle.blob_path(artifact.graph),
            [bundle.blob_path(digest) for digest in artifact.weights],
            artifact.options,
            self.options,
            bundle.manifest.plan.segments[name],
            job,
        )

    def _keep(self, compiled: Any, kept: Path) -> None:
        partial = Path(tempfile.mkdtemp(dir=self.folder, prefix="partial-"))
        shutil.move(compiled.graph, partial / "graph")
        made = {"media_type": compiled.media_type, "options": compiled.options}
        (partial / "made.json").write_text(json.dumps(made))
        partial.rename(kept)

    def _read(self, kept: Path, *, resumed: bool = True) -> _Made:
        made = json.loads((kept / "made.json").read_text())
        return _Made(kept / "graph", made["media_type"], made["options"], resumed)

    def _key(self, artifact: Artifact) -> str:
        """Of all that what is compiled depends on; names of blobs are digests of their content."""
        parts = {"artifact": encode(artifact), "tools": self._tools}
        return hashlib.sha256(dumps(parts)).hexdigest()


def _manifest(bundle: Bundle, done: Mapping[str, _Made], writer: BundleWriter) -> Manifest:
    """The bundle's manifest with what was compiled, its blobs copied or added."""
    manifest = bundle.manifest
    artifacts = dict(manifest.artifacts)
    for name, made in done.items():
        graph = writer.add_file(made.graph, made.media_type).digest
        artifacts[name] = Artifact(artifacts[name].backend, graph, (), made.options)
    tools = {**manifest.toolchain, **_compilers()} if done else manifest.toolchain
    finished = manifest.replace(artifacts=artifacts, blobs=(), toolchain=tools)
    if done:
        finished = unattested(finished)
    read = {found.decode() for found in _DIGEST.findall(finished.to_json())}
    for blob in manifest.blobs:
        if blob.digest in read:
            writer.add_file(bundle.blob_path(blob.digest), blob.media_type)
    finished = finished.replace(blobs=tuple(blob for _, blob in sorted(writer.blobs.items())))
    if not done:
        return finished
    added = used(_compilers(), {artifacts[name].backend for name in done}, ())
    return renewed(finished, writer, bundle, added)


def _compilers() -> dict[str, str]:
    """Versions of what compiles here and may not be where the bundle was built."""
    return {name: v for name, v in toolchain().items() if "neuron" in name}
