"""The parity check through the cache: what it found for the same program and artifacts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from partitioner.artifacts.codec import decode, encode
from partitioner.artifacts.faults import damaged
from partitioner.artifacts.manifest import ParitySample
from partitioner.artifacts.writer import BundleWriter
from partitioner.caching.cache import CompileCache, Found
from partitioner.caching.keys import Key
from partitioner.errors import BundleError, CacheError
from partitioner.parity import PARITY_TYPE

__all__ = ["Outcome", "check_parity"]

#: A sample of each variant, and the errors for the report.
Outcome = tuple[list[ParitySample | None], dict[str, Any]]


@dataclass(frozen=True)
class _Note:
    """What an entry says beside the samples' blobs."""

    samples: tuple[ParitySample, ...]
    errors: dict[str, Any]


def check_parity(
    check: Callable[[], Outcome],
    key: Callable[[], Key | None],
    cache: CompileCache | None,
    writer: BundleWriter,
    name: str,
    folder: Path,
) -> Outcome:
    """What the check gives, or what it has given before.

    Args:
        check: runs it, and writes the samples' blobs.
        key: makes the key; asked only if there is a cache.
        name: of the pipeline.
        folder: for files on the way.

    Raises:
        ParityError: the check fails; failures are never kept.
        CacheError: in the mode ``verify``, other samples were kept.
    """
    made = None if cache is None else key()
    if cache is None or made is None:
        return check()
    found = cache.find("parity", name, made, folder)
    kept = None if found is None else _believed(found, cache, writer)
    if kept is not None and cache.options.mode != "verify":
        return kept
    samples, errors = check()
    if kept is None and not _is_finite(errors):
        return samples, errors
    if kept is None:
        files = {f"sample-{i}": writer.blob_path(_blob(s)) for i, s in enumerate(_all(samples))}
        cache.keep("parity", name, made, files, encode(_Note(tuple(_all(samples)), errors)))
    elif kept[0] != samples:
        raise CacheError(
            "the compile cache holds other parity samples than the eager pipeline gives",
            where=name,
            advice="the pipeline does not give the same twice, or somebody changed the cache",
        )
    return samples, errors


def _believed(found: Found, cache: CompileCache, writer: BundleWriter) -> Outcome | None:
    """The outcome that an entry holds; None, and it is dropped, if it is none."""
    try:
        note = cast(_Note, decode(_Note, found.entry.note))
        for index, sample in enumerate(note.samples):
            _add(found, f"sample-{index}", sample, writer)
    except BundleError as error:
        cache.reject(found, error)
        return None
    return list(note.samples), note.errors


def _add(found: Found, role: str, sample: ParitySample, writer: BundleWriter) -> None:
    blob = found.entry.files.get(role)
    if blob is None or blob.digest != _blob(sample):
        raise damaged("an entry of the compile cache lacks a parity sample", role)
    writer.add_file(found.files[role], PARITY_TYPE)


def _all(samples: Sequence[ParitySample | None]) -> list[ParitySample]:
    return [sample for sample in samples if sample is not None]


def _is_finite(errors: Any) -> bool:
    """Whether errors can be written down; a host op's own NaN gives one that cannot."""
    if isinstance(errors, dict):
        return all(map(_is_finite, cast("dict[str, Any]", errors).values()))
    if isinstance(errors, list):
        return all(map(_is_finite, cast("list[Any]", errors)))
    return not isinstance(errors, float) or math.isfinite(errors)


def _blob(sample: ParitySample) -> str:
    """The one blob that all of a sample lies in.

    Raises:
        BundleError: there are several.
    """
    digests = {
        *(given.data.blob for given in sample.inputs.values()),
        *(expected.values.blob for expected in sample.outputs.values()),
        *(e.values.blob for s in sample.segments for e in s.outputs.values()),
    }
    if len(digests) != 1:
        raise damaged("a parity sample lies in several blobs, or in none")
    return digests.pop()
