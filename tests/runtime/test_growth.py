"""A process that serves does not grow, whatever becomes of the requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime import growing
from tests.runtime.samples import make_sampler

LIMIT = 5 * 2**20


def grown(path: Path, count: int, *words: str) -> tuple[int, int, int]:
    """Bytes, requests that ended, and those of them that were served."""
    command = [sys.executable, growing.__file__, str(path), str(count), *words]
    printed = subprocess.check_output(command, text=True).split()
    return int(printed[0]), int(printed[1]), int(printed[2])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sampler(tmp_path_factory.mktemp("growth") / "sampler.bundle")


def check(path: Path, count: int, *words: str) -> None:
    nbytes, ended, served = grown(path, count, *words)
    assert count + growing.WARM == ended
    assert count / 2 < served < count + growing.WARM
    assert nbytes <= LIMIT


def test_hundreds_of_requests(path: Path) -> None:
    check(path, 400)


@pytest.mark.slow
def test_ten_thousand_requests(path: Path) -> None:
    check(path, 10_000)


@pytest.mark.slow
def test_segments_that_come_and_go(path: Path) -> None:
    """Every request loads segments, and closes others."""
    check(path, 1_000, "lazy")
