"""Compiling a segment through the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from partitioner.artifacts.codec import decode, encode
from partitioner.artifacts.faults import damaged
from partitioner.backends.base import CachedCompiler, CacheFacts, Compiled, CompileOptions, Outside
from partitioner.backends.facts import physical_memory
from partitioner.backends.graphs import identifier
from partitioner.caching.cache import CompileCache, Found
from partitioner.caching.canonical import Canonical, canonical
from partitioner.caching.failures import Failure, note_of, revived
from partitioner.caching.keys import Key, part
from partitioner.caching.segment_key import segment_key
from partitioner.engines.base import CompileJob, compile_here
from partitioner.errors import BundleError, CacheError, CompileError
from partitioner.planning.segments import Segment
from partitioner.targets import Target
from partitioner.weights import Layout

__all__ = ["compile_segment"]


def compile_segment(
    compiler: Any,
    segment: Segment,
    constants: Mapping[str, torch.Tensor],
    layout: Layout,
    options: CompileOptions,
    target: Target,
    cache: CompileCache | None,
    run: Callable[[CompileJob], Compiled] = compile_here,
) -> Compiled:
    """Compile a segment, or take what was kept of an equal one. Arguments as for a compiler's.

    Args:
        compiler: one that is no :class:`CachedCompiler` is always asked.
        cache: None for none.
        run: compiles what was not found; an engine's.

    Raises:
        CompileError: it cannot be compiled, or is known to be so.
        CacheError: in the mode ``verify``, what was kept is not what the compiler gives.
    """
    if not hasattr(compiler, "cache_facts"):
        return run(CompileJob(compiler, segment, constants, layout, options))
    able = cast(CachedCompiler, compiler)
    form = canonical(segment, constants, layout, able.outside(segment, constants))
    if cache is None:
        return run(CompileJob(able, form.segment, form.constants, form.layout, options))
    facts = able.cache_facts(segment, target, options)
    key = segment_key(form, facts)
    with cache.turn(key):
        return _Cached(able, form, options, facts, key, cache, run).compiled()


@dataclass(frozen=True)
class _Note:
    """What an entry of a segment says beside its files.

    Attributes:
        inlined: whether the artifact reads nothing outside, the weights being in it.
    """

    options: dict[str, Any]
    report: dict[str, Any]
    outside: Outside
    inlined: bool
    media_type: str


@dataclass(frozen=True)
class _Cached:
    """A segment on its way through the cache."""

    compiler: CachedCompiler
    form: Canonical
    options: CompileOptions
    facts: CacheFacts
    key: Key
    cache: CompileCache
    run: Callable[[CompileJob], Compiled]

    @property
    def name(self) -> str:
        return self.form.segment.name

    def compiled(self) -> Compiled:
        key = self.key
        limited = self._with_limits(key)
        folder = self.options.workdir / "cached" / identifier(f"{self.name}.{self.backend}")
        verifies = self.cache.options.mode == "verify"
        kept = None
        # What limits have made says nothing about the compiler, so there is nothing to verify.
        if self.facts.limited and not verifies:
            kept = self._kept("limited", limited, folder)
        kept = kept or self._kept("segment", key, folder)
        if kept is not None and not verifies:
            return kept
        compiled = self._compile(limited, folder)
        if compiled.limited:
            self._keep("limited", limited, compiled)
        elif kept is not None:
            self._compare(kept, compiled)
        else:
            self._keep("segment", key, compiled)
        return compiled

    def _kept(self, kind: str, key: Key, folder: Path) -> Compiled | None:
        found = self.cache.find(kind, self.name, key, folder)
        return None if found is None else self._believed(found)

    def _keep(self, kind: str, key: Key, compiled: Compiled) -> None:
        note = _Note(
            compiled.options,
            compiled.report,
            self.form.outside,
            not compiled.weights,
            compiled.media_type,
        )
        self.cache.keep(kind, self.name, key, _files(compiled), encode(note))

    def _with_limits(self, key: Key) -> Key:
        """The key with what a compiler may use; the machine's memory is a limit, too."""
        limits = {
            "seconds": str(self.options.timeout_s),
            "bytes": str(self.options.memory_bytes),
            "machine": str(physical_memory()),
        }
        return Key((*key.parts, part("limits", limits)))

    @property
    def backend(self) -> str:
        return self.form.segment.backend

    def _compile(self, key: Key, folder: Path) -> Compiled:
        """Ask the compiler, unless it is known, and believed, to fail.

        Args:
            key: with the limits.
        """
        believed = self.cache.options.failures and self.cache.options.mode != "verify"
        found = self.cache.find("failure", self.name, key, folder) if believed else None
        failure = None if found is None else self._known_failure(found)
        if failure is not None:
            raise failure from failure.__cause__
        form = self.form
        try:
            return self.run(
                CompileJob(self.compiler, form.segment, form.constants, form.layout, self.options)
            )
        except CompileError as error:
            if believed:
                self.cache.keep("failure", self.name, key, {}, encode(note_of(error)))
            raise

    # --- entries ---

    def _believed(self, found: Found) -> Compiled | None:
        """The artifact of an entry; None, and it is dropped, if it is none of the segment."""
        try:
            return self._revived(found)
        except BundleError as error:
            self.cache.reject(found, error)
            return None

    def _revived(self, found: Found) -> Compiled:
        """The artifact of an entry, for this build's weights and names.

        Raises:
            BundleError: the entry is not one of this segment.
        """
        note = cast(_Note, decode(_Note, found.entry.note))
        old, new = note.outside, self.form.outside
        if [len(field) for field in _fields(old)] != [len(field) for field in _fields(new)]:
            raise damaged("an entry of the compile cache is of another segment", self.name)
        files = found.files
        compiled = Compiled(
            files.get("graph"),
            () if note.inlined else new.blobs,
            note.options,
            note.report,
            files.get("constants"),
            note.media_type,
            limited=found.entry.kind == "limited",
        )
        return compiled if old == new else self.compiler.moved(compiled, old, new)

    def _known_failure(self, found: Found) -> CompileError | None:
        try:
            return revived(cast(Failure, decode(Failure, found.entry.note)), self.name)
        except BundleError as error:
            self.cache.reject(found, error)
            return None

    def _compare(self, kept: Compiled, compiled: Compiled) -> None:
        """See that what was kept is what the compiler gives.

        Raises:
            CacheError: it is not.
        """
        differing = [
            name
            for name, a, b in (
                ("graph", _content(kept.graph), _content(compiled.graph)),
                ("constants", _content(kept.constants), _content(compiled.constants)),
                ("weights", kept.weights, compiled.weights),
                ("options", kept.options, compiled.options),
            )
            if a != b
        ]
        if not differing:
            return
        raise CacheError(
            f"the compile cache holds another artifact for segment {self.name!r} than the backend "
            f"{self.backend!r} makes of it: {', '.join(differing)} differ",
            where=self.form.segment.where,
            advice="somebody changed the cache, or the compiler does not give the same twice; "
            "remove it (partition cache prune --compile), and report this if it happens again",
        )


def _fields(outside: Outside) -> tuple[tuple[object, ...], ...]:
    return outside.inputs, outside.outputs, outside.places


def _files(compiled: Compiled) -> dict[str, Path]:
    files = {"graph": compiled.graph, "constants": compiled.constants}
    return {role: path for role, path in files.items() if path is not None}


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
