"""Builds on several workers give the bundle that one gives, whatever happens to the workers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from partitioner.backends.worker import stop_worker
from partitioner.caching.options import CacheOptions
from partitioner.targets import Target, find_target
from tests.engines.pipelines import build

MINE = """
[targets.mine]
base = "cpu"
machine = ["x86_64", "AMD64", "aarch64", "arm64"]
"""


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    file = tmp_path_factory.mktemp("targets") / "mine.toml"
    file.write_text(MINE)
    return [find_target(name, [file]) for name in ("cpu", "mine")]


@pytest.fixture(scope="module")
def alone(targets: list[Target], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the bundle that is built one segment after the other."""
    return build(targets, tmp_path_factory.mktemp("alone") / "bundle", jobs=1)


@pytest.fixture(scope="module", autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    stop_worker()


@pytest.mark.slow
def test_two_workers_give_the_same_bundle_though_one_is_killed(
    targets: list[Target], alone: str, tmp_path: Path
) -> None:
    cache = CacheOptions(folder=tmp_path / "cache")
    with killed_at_work() as killed:
        assert alone == build(targets, tmp_path / "bundle", jobs=2, cache=cache)
    assert 1 == len(killed)


@contextmanager
def killed_at_work() -> Generator[list[int]]:
    """Kill a worker of this process while it runs a job; gives its number."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not killed and not over.is_set():
            for worker in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "partitioner.backends.worker" in worker.cmdline() and worker.children():
                        worker.kill()
                        killed.append(worker.pid)
                        break
            time.sleep(0.002)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()
