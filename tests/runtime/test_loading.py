"""Segments are loaded side by side; if one fails, none stays."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from partitioner.artifacts.manifest import Artifact
from partitioner.backends.execution import DeviceOptions
from partitioner.errors import BackendError
from partitioner.plan import SegmentInfo
from partitioner.runtime import loading


class Loaded:
    def __init__(self, name: str) -> None:
        self.name, self.closed = name, False

    def close(self) -> None:
        self.closed = True


class Executor:
    """Loads what is not in ``broken``; waits until ``together`` loads have begun."""

    def __init__(self, together: int = 1, broken: frozenset[str] = frozenset()) -> None:
        self.barrier = threading.Barrier(together)
        self.broken = broken
        self.made: list[Loaded] = []
        self.running = self.most = 0
        self.lock = threading.Lock()

    def load(self, files: Any, device: DeviceOptions) -> Loaded:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.barrier.wait(30)
        with self.lock:
            self.running -= 1
        if files.info.name in self.broken:
            raise BackendError(f"{files.info.name} is broken")
        self.made.append(Loaded(files.info.name))
        return self.made[-1]


def bundle(*names: str) -> Any:
    """As much of a bundle as loading reads; segments that begin alike are equal but in name."""
    artifacts = {name: Artifact("test", None, (), {"graph": name[0]}) for name in names}
    segments = {name: SegmentInfo(name, "test", (), (), (), 1, ()) for name in names}
    plan = SimpleNamespace(segments=segments)
    return SimpleNamespace(
        manifest=SimpleNamespace(artifacts=artifacts, plan=plan), blobs_dir="unused", verify="once"
    )


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(executor: Executor) -> Executor:
        backend = SimpleNamespace(
            make_executor=lambda: executor, runs_code=False, copies_weights=False
        )
        monkeypatch.setattr(loading, "find_backend", lambda name: backend)
        return executor

    return use


def test_segments_are_loaded_side_by_side(use: Any) -> None:
    executor = use(Executor(together=2))
    found = loading.load_segments(bundle("a", "b"), DeviceOptions(threads=2))
    assert {"a": "a", "b": "b"} == {name: one.name for name, one in found.items()}
    assert 2 == executor.most


def test_in_low_memory_one_is_loaded_after_the_other(use: Any) -> None:
    executor = use(Executor())
    loading.load_segments(bundle("a", "b", "c"), DeviceOptions(threads=3, memory="low"))
    assert 1 == executor.most


def test_equal_segments_share_an_executable(use: Any) -> None:
    executor = use(Executor())
    found = loading.load_segments(bundle("a1", "a2", "b"), DeviceOptions(threads=1))
    assert 2 == len(executor.made)
    assert found["a1"] is found["a2"]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_failure_is_raised_and_nothing_stays_loaded(use: Any, threads: int) -> None:
    executor = use(Executor(broken=frozenset("bc")))
    with pytest.raises(BackendError, match="b is broken"):
        loading.load_segments(bundle("a", "b", "c", "d"), DeviceOptions(threads=threads))
    assert executor.made
    assert all(one.closed for one in executor.made)
