"""Segments that are loaded at first use, and closed again to stay within a budget."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.errors import BundleError, InsufficientMemoryError, UsageError
from partitioner.runtime import Pipeline, load
from tests.runtime.stacks import NAMES, TRIPS, WEIGHT, expected, given, make_stack


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stack(tmp_path_factory.mktemp("lazy") / "b")


def loaded(pipe: Any) -> set[str]:
    return {segment.name for segment in pipe.stats().segments if segment.loaded}


def tight(path: Path) -> Pipeline:
    """Loaded with place for two segments, as many as the loop needs, and one arena."""
    arena = load(path)._schedules.arenas.nbytes
    return load(path, lazy=True, max_memory=2 * WEIGHT + arena)


def test_a_segment_is_loaded_when_it_is_first_called(path: Path) -> None:
    with load(path, lazy=True) as pipe:
        assert (set(), {}) == (loaded(pipe), pipe.stats().memory.packed)
        seen: list[set[str]] = []
        out = pipe(x=given(), callback=lambda event: seen.append(loaded(pipe)))
        assert [{"first", "left", "right"}] * TRIPS == seen
        np.testing.assert_allclose(expected(given()), out["y"], rtol=1e-4)
        assert (set(NAMES), {"onnx": 4 * WEIGHT}) == (loaded(pipe), pipe.stats().memory.packed)


def test_what_is_needed_least_makes_room(path: Path) -> None:
    with tight(path) as pipe:
        seen: list[set[str]] = []
        for _ in range(2):
            out = pipe(x=given(), callback=lambda event: seen.append(loaded(pipe)))
            np.testing.assert_allclose(expected(given()), out["y"], rtol=1e-4)
            assert {"right", "last"} == loaded(pipe)
        assert [{"left", "right"}] * 2 * TRIPS == seen


def test_threads_at_once_load_once_and_get_their_own_results(path: Path) -> None:
    xs = [given(seed) for seed in range(12)]
    for pipe in (load(path, lazy=True), tight(path)):

        def ask(x: Any, pipe: Any = pipe) -> Any:
            return pipe(x=x)["y"]

        with pipe, ThreadPoolExecutor(6) as threads:
            outs = list(threads.map(ask, xs))
            for x, out in zip(xs, outs, strict=True):
                np.testing.assert_allclose(expected(x), out, rtol=1e-4)


def test_a_call_from_within_a_call_is_refused_and_does_not_wait_for_itself(path: Path) -> None:
    def nested(event: Any) -> None:
        with pytest.raises(InsufficientMemoryError, match="are in use"):
            pipe(x=given())

    with tight(path) as pipe:
        out = pipe(x=given(), callback=nested)
        np.testing.assert_allclose(expected(given()), out["y"], rtol=1e-4)


def test_a_request_submitted_within_a_call_is_refused_where_it_would_wait_for_it(
    path: Path,
) -> None:
    def nested(event: Any) -> None:
        with pytest.raises(UsageError, match="from within a call"):
            pipe.submit(x=given())

    with tight(path) as pipe:
        for request in (pipe.submit(x=given(), callback=nested), pipe.submit(x=given())):
            np.testing.assert_allclose(expected(given()), request.result(60)["y"], rtol=1e-4)
        pipe(x=given(), callback=nested)
    with load(path, lazy=True) as pipe:
        inner: list[Any] = []
        pipe(x=given(), callback=lambda event: inner.append(pipe.submit(x=given())))
        assert TRIPS == len([one.result(60) for one in inner])


def test_a_failed_request_leaves_its_places(path: Path) -> None:
    def fail(event: Any) -> None:
        raise ZeroDivisionError

    with tight(path) as pipe:
        # The traceback that is kept keeps the run and its bound calls.
        with pytest.raises(ZeroDivisionError) as caught:
            pipe(x=given(), callback=fail)
        np.testing.assert_allclose(expected(given()), pipe(x=given())["y"], rtol=1e-4)
        assert caught.value is not None


def test_closing_gives_back_all(path: Path) -> None:
    pipe = load(path, lazy=True)
    pipe(x=given())
    segments = list(pipe._executables.values())
    pipe.close()
    assert [False] * 4 == [segment.loaded for segment in segments]


def test_damage_is_found_at_first_use_and_named(path: Path, tmp_path: Path) -> None:
    """The digest is verified then; what can be loaded later, again, is."""
    copy = tmp_path / "b"
    shutil.copytree(path, copy)
    (digest,) = Bundle.open(copy).manifest.artifacts["last"].weights
    blob = copy / "blobs" / "sha256" / digest.removeprefix("sha256:")
    good = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    with load(copy, lazy=True) as pipe:
        for _ in range(2):
            with pytest.raises(BundleError, match="its content was changed"):
                pipe(x=given())
        assert {"first", "left", "right"} == loaded(pipe)
        blob.write_bytes(good)
        np.testing.assert_allclose(expected(given()), pipe(x=given())["y"], rtol=1e-4)
