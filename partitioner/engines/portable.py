"""Compile jobs as content: no path of this machine, and weights by their digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from partitioner.artifacts.digest import hex_of
from partitioner.artifacts.manifest import ConstantRef
from partitioner.backends.base import CacheFacts, Compiled, CompileOptions
from partitioner.backends.graphs import from_json, to_json
from partitioner.engines.base import CompileJob
from partitioner.errors import BackendError, PartitionerError
from partitioner.planning.segments import Segment
from partitioner.weights import MappedBlobs

__all__ = ["Answer", "PortableJob", "answer", "pack", "unpack"]


@dataclass(frozen=True)
class PortableJob:
    """A job that can be run anywhere.

    Attributes:
        compiler: as the job's; it must be one that can be pickled.
        segment: its graph is empty.
        graph: the real one, with constants that are small.
        layout: where the others lie.
        options: without paths.
        facts: what the artifact depends on, so that another machine can see whether it would give
            the same; None where the compiler does not say.
    """

    compiler: Any
    segment: Segment
    graph: Any
    layout: dict[str, ConstantRef]
    options: CompileOptions
    facts: CacheFacts | None

    @property
    def blobs(self) -> tuple[str, ...]:
        """Digests of the blobs that it reads, sorted."""
        return tuple(sorted({ref.blob for ref in self.layout.values()}))


@dataclass(frozen=True)
class Answer:
    """How a job ended: what was compiled, its files as bytes, or the error.

    Attributes:
        compiled: without paths.
        log: what compilers said.
    """

    compiled: Compiled | None
    graph: bytes | None = None
    constants: bytes | None = None
    error: PartitionerError | None = None
    log: bytes = b""


def pack(job: CompileJob) -> PortableJob:
    """A job to be sent."""
    layout = {name: job.layout[name] for name in sorted(job.names & set(job.layout))}
    segment, options = job.segment, job.options
    return PortableJob(
        job.compiler,
        replace(segment, graph=torch.fx.Graph()),
        to_json(segment.graph, job.constants, set(layout)),
        layout,
        replace(options, workdir=Path(), blobs_dir=Path(), log=None),
        _facts(job.compiler, segment, options),
    )


def answer(job: PortableJob, blobs: Mapping[str, Any], folder: Path) -> Answer:
    """Run a job that was sent.

    Args:
        blobs: digest -> content, as a buffer.
        folder: an empty one, for files on the way; removed by the caller.
    """
    log = folder / "log.txt"
    try:
        compiled = _compile(job, blobs, folder, log)
    except PartitionerError as error:
        return Answer(None, error=error, log=_content(log) or b"")
    return Answer(
        replace(compiled, graph=None, constants=None),
        _content(compiled.graph),
        _content(compiled.constants),
        log=_content(log) or b"",
    )


def unpack(answer: Answer, job: CompileJob, folder: Path) -> Compiled:
    """What came back, as the compiler would have given it.

    Args:
        folder: for its files; made here.

    Raises:
        PartitionerError: that of the other machine.
    """
    if answer.log and job.options.log is not None:
        with job.options.log.open("ab") as file:
            file.write(answer.log)
    if answer.error is not None:
        raise answer.error
    assert answer.compiled is not None
    folder.mkdir(parents=True)
    return replace(
        answer.compiled,
        graph=_written(folder / "graph", answer.graph),
        constants=_written(folder / "constants", answer.constants),
    )


# --- inside -------------------------------------------------------------------------------------


def _compile(job: PortableJob, blobs: Mapping[str, Any], folder: Path, log: Path) -> Compiled:
    graph, constants, lifted = from_json(job.graph)
    segment = replace(job.segment, graph=graph)
    blobs_dir, workdir = folder / "blobs", folder / "work"
    options = replace(job.options, workdir=workdir, blobs_dir=blobs_dir, log=log)
    _check_same(job, segment, options)
    for path in (blobs_dir, workdir):
        path.mkdir()
    for digest, content in blobs.items():
        (blobs_dir / hex_of(digest)).write_bytes(content)
    mapped = MappedBlobs(lambda digest: blobs_dir / hex_of(digest))
    for name, type_ in lifted.items():
        constants[name] = mapped.tensor(job.layout[name], type_.empty())
    return job.compiler.compile(segment, constants, job.layout, options)


def _facts(compiler: Any, segment: Segment, options: CompileOptions) -> CacheFacts | None:
    if not hasattr(compiler, "cache_facts") or options.target is None:
        return None
    return compiler.cache_facts(segment, options.target, options)


def _check_same(job: PortableJob, segment: Segment, options: CompileOptions) -> None:
    """Refuse to compile where something else would come of it."""
    if job.facts is None:
        return
    here = _facts(job.compiler, segment, options)
    assert here is not None
    wanted = {**job.facts.compiler, **(job.facts.target or {})}
    found = {**here.compiler, **(here.target or {})}
    differing = [
        f"{name} is {found.get(name)}, not {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if differing:
        raise BackendError(
            f"a machine would compile segment {segment.name!r} differently: {'; '.join(differing)}",
            where=segment.where,
            advice="install the same versions, and this project in the same state, on every node; "
            "OpenVINO's settings need nodes with the same processor",
        )


def _content(path: Path | None) -> bytes | None:
    return None if path is None or not path.exists() else path.read_bytes()


def _written(path: Path, content: bytes | None) -> Path | None:
    if content is None:
        return None
    path.write_bytes(content)
    return path
