"""Segments through the cache, compiled by the real ONNX exporter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from partitioner.backends.base import CacheFacts, Compiled
from partitioner.backends.host.compile import HostCompiler
from partitioner.backends.onnx.compile import OnnxCompiler
from partitioner.caching.cache import CompileCache
from partitioner.caching.options import CacheOptions, Mode
from partitioner.caching.segments import compile_segment
from partitioner.caching.storage import file_blob
from partitioner.errors import CacheError, CompileError
from partitioner.targets import find_target
from tests.caching.samples import WEIGHT, Sample, Workplace, aten, workplace

#: No exporter takes it.
REFUSED = Sample(second=aten.special_bessel_j0.default, operands=1)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    with workplace(tmp_path / "work") as found:
        yield found


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[bytes, Compiled]]:
    """A cache that holds the sample, and what was compiled."""
    folder = tmp_path_factory.mktemp("filled")
    with workplace(folder / "work") as work:
        return folder, made(work, Sample(), opened(CacheOptions(folder=folder / "cache")))


@pytest.fixture
def options(filled: tuple[Path, Any], tmp_path: Path) -> CacheOptions:
    """Of a copy of that cache."""
    shutil.copytree(filled[0] / "cache", tmp_path / "cache")
    return CacheOptions(folder=tmp_path / "cache")


@pytest.fixture
def first(filled: tuple[Path, tuple[bytes, Compiled]]) -> tuple[bytes, Compiled]:
    """What a compiler has made of the sample."""
    return filled[1]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The segments that the exporter was asked for."""
    names: list[str] = []
    real = OnnxCompiler.compile

    def compile_(self: Any, segment: Any, *rest: Any) -> Compiled:
        names.append(segment.name)
        return real(self, segment, *rest)

    monkeypatch.setattr(OnnxCompiler, "compile", compile_)
    return names


def opened(options: CacheOptions) -> CompileCache:
    cache = CompileCache.open(options, "pipe")
    assert cache is not None
    return cache


def made(
    work: Workplace, sample: Sample, cache: CompileCache | None, weight: torch.Tensor = WEIGHT
) -> tuple[bytes, Compiled]:
    constants = sample.constants(weight)
    compiled = compile_segment(
        OnnxCompiler(),
        sample.segment(),
        constants,
        work.layout(constants),
        work.options(),
        find_target("cpu"),
        cache,
    )
    assert compiled.graph is not None
    return compiled.graph.read_bytes(), replace(compiled, graph=None)


First = tuple[bytes, Compiled]


def test_compiled_once(
    work: Workplace, options: CacheOptions, first: First, asked: list[str]
) -> None:
    cache = opened(options)
    assert first == made(work, Sample(), cache)
    assert [] == asked
    assert ["disk"] == [lookup.where for lookup in cache.lookups]


def test_other_weights_and_names_are_put_in_to_the_byte(
    work: Workplace, options: CacheOptions, first: First, asked: list[str]
) -> None:
    other = Sample(prefix="renamed", stage="part", source="m.py:9 in g")
    moved = made(work, other, opened(options), 2 * WEIGHT)
    assert [] == asked
    assert moved == made(work, other, None, 2 * WEIGHT)
    assert first[0] != moved[0]


def test_another_segment_is_another(
    work: Workplace, options: CacheOptions, asked: list[str]
) -> None:
    cache = opened(options)
    made(work, Sample(swapped=True), cache)
    assert 1 == len(asked)
    (lookup,) = cache.lookups
    assert ("", "pipe/stage") == (lookup.where, lookup.nearest)
    assert lookup.differences[0].startswith("graph (")


@pytest.mark.parametrize("mode", ["verify", "use"])
def test_a_planted_difference(
    work: Workplace, options: CacheOptions, first: First, mode: Mode
) -> None:
    plant(opened(options), work)
    cache = opened(replace(options, mode=mode))
    if mode == "use":
        assert first != made(work, Sample(), cache)
        return
    with pytest.raises(CacheError, match=r"segment 'stage' .* graph differ") as caught:
        made(work, Sample(), cache)
    assert "model.py:3 in forward" == caught.value.where


def plant(cache: CompileCache, work: Workplace) -> None:
    """Somebody puts another graph under the key."""
    (key,) = [key for key, _ in cache.disk.objects()]
    entry = cache.disk.find(key)
    assert entry is not None
    files = cache.disk.fetch(entry, work.folder / "planted")
    data = files["graph"].read_bytes()
    assert b"MatMul" in data
    files["graph"].write_bytes(data.replace(b"MatMul", b"MatMal"))
    cache.disk.drop(key, entry)
    blobs = {"graph": file_blob(files["graph"])}
    assert cache.disk.keep(replace(entry, files=blobs), files)


def test_verification_of_what_is_right(
    work: Workplace, options: CacheOptions, first: First, asked: list[str]
) -> None:
    assert first == made(work, Sample(), opened(replace(options, mode="verify")))
    assert 1 == len(asked)


def test_an_entry_that_says_nothing_is_dropped_and_made_anew(
    work: Workplace, options: CacheOptions, first: First, asked: list[str]
) -> None:
    disk = opened(options).disk
    (key,) = [key for key, _ in disk.objects()]
    entry = disk.find(key)
    assert entry is not None
    files = disk.fetch(entry, work.folder / "fetched")
    disk.drop(key, entry)
    disk.keep(replace(entry, note={"options": {}, "report": {}, "outside": None}), files)
    cache = opened(options)
    assert first == made(work, Sample(), cache)
    assert 1 == len(asked)
    assert "damaged" in cache.warnings[0]
    assert [""] == [lookup.where for lookup in cache.lookups]
    assert first == made(work, Sample(), opened(options))
    assert 1 == len(asked)


def test_failures_are_kept_only_when_asked(
    work: Workplace, options: CacheOptions, asked: list[str]
) -> None:
    def fail(own: CacheOptions) -> CompileError:
        with pytest.raises(CompileError) as caught:
            made(work, REFUSED, opened(own))
        return caught.value

    asking = replace(options, failures=True)
    first = fail(asking)
    assert 1 == len(asked)
    again = fail(asking)
    assert (type(first), first.what, first.where, first.advice) == (
        type(again),
        again.what,
        again.where,
        again.advice,
    )
    assert not hasattr(first, "__notes__")
    assert "known from the compile cache" in again.__notes__[0]
    assert 1 == len(asked)
    fail(options)
    assert 2 == len(asked)


@dataclass
class _Limited:
    """A backend whose artifacts are, as long as that is said, what limits have made of them."""

    limited: bool = True
    asked: int = 0

    def outside(self, *rest: Any) -> set[str]:
        return OnnxCompiler().outside(*rest)

    def cache_facts(self, *rest: Any) -> CacheFacts:
        return replace(OnnxCompiler().cache_facts(*rest), limited=True)

    def moved(self, kept: Compiled, *rest: Any) -> Compiled:
        return kept

    def compile(self, segment: Any, *rest: Any) -> Compiled:
        self.asked += 1
        options = {"settings": "poor" if self.limited else "good"}
        return Compiled(None, options=options, limited=self.limited)


def test_what_limits_have_made_is_found_under_the_same_limits_only(
    work: Workplace, tmp_path: Path
) -> None:
    compiler, own = _Limited(), CacheOptions(folder=tmp_path / "cache")

    def settings(mode: Mode = "use", **limits: Any) -> str:
        constants = Sample().constants()
        compiled = compile_segment(
            compiler,
            Sample().segment(),
            constants,
            work.layout(constants),
            replace(work.options(), **limits),
            find_target("cpu"),
            opened(replace(own, mode=mode)),
        )
        return compiled.options["settings"]

    assert ["poor", "poor"] == [settings(timeout_s=1.0), settings(timeout_s=1.0)]
    assert 1 == compiler.asked
    assert ["poor", "poor"] == [settings(timeout_s=2.0), settings(memory_bytes=2**33)]
    assert 3 == compiler.asked
    compiler.limited = False
    assert ["good", "good"] == [settings(timeout_s=9.0), settings(timeout_s=8.0)]
    assert 4 == compiler.asked
    # Under limits that made another one, that one is what the compiler would give again.
    assert "poor" == settings(timeout_s=1.0)
    assert "good" == settings("verify", timeout_s=1.0)
    assert 5 == compiler.asked


def test_a_compiler_that_says_no_facts_is_asked(work: Workplace, options: CacheOptions) -> None:
    assert not hasattr(HostCompiler(), "cache_facts")
    compiler = _Bare()
    cache = opened(options)
    arguments = (Sample().segment(), {}, {}, work.options(), find_target("cpu"), cache)
    assert "asked" == compile_segment(compiler, *arguments).options["was"]
    assert [] == cache.lookups


class _Bare:
    """A backend of a third party that knows nothing of caches."""

    def compile(self, *rest: Any) -> Compiled:
        return Compiled(None, options={"was": "asked"})
