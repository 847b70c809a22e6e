"""Builds on a Ray cluster give the bundle that one worker here gives, though processes die."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from partitioner.backends.base import Compiled, Resources
from partitioner.engines import CompileJob
from partitioner.engines.ray import RayEngine, _fitting
from partitioner.errors import CompileError
from tests.engines.compilers import Dying
from tests.engines.pipelines import build


@dataclass
class Killing:
    """An engine whose processes are killed in the middle of their work, so many times."""

    inner: RayEngine
    marks: Path
    times: int

    @property
    def width(self) -> int:
        return self.inner.width

    def run(self, job: CompileJob) -> Compiled:
        return self.inner.run(replace(job, compiler=Dying(job.compiler, self.marks, self.times)))

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    path = tmp_path / "marks"
    path.mkdir()
    return path


@pytest.mark.slow
def test_the_same_bundle_though_a_process_is_killed(
    cluster: Any, marks: Path, tmp_path: Path
) -> None:
    here = build(["cpu"], tmp_path / "here", jobs=1)
    engine = Killing(RayEngine(), marks, 1)
    assert here == build(["cpu"], tmp_path / "there", engine=engine)
    assert 1 == len(list(marks.iterdir()))
    assert here == build(["cpu"], tmp_path / "again", engine="ray")


@pytest.mark.slow
def test_a_segment_that_kills_every_process_is_an_outcome(
    cluster: Any, marks: Path, tmp_path: Path
) -> None:
    with pytest.raises(CompileError, match=r"segment .* died 4 times") as caught:
        build(["cpu"], tmp_path / "there", engine=Killing(RayEngine(), marks, 99))
    assert "pipelines.py" in str(caught.value.where)
    assert not (tmp_path / "there").exists()


@pytest.mark.slow
def test_an_engine_that_was_closed_gives_the_cluster_nothing(
    cluster: Any, marks: Path, tmp_path: Path
) -> None:
    engine = Killing(RayEngine(), marks, 1)
    engine.close()
    with pytest.raises(CancelledError):
        build(["cpu"], tmp_path / "there", engine=engine)
    assert [] == list(marks.iterdir())


def test_no_more_is_asked_for_than_a_node_has() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0, "memory": 8.0}},
        {"Alive": True, "Resources": {"CPU": 1.0, "memory": 64.0}},
        {"Alive": False, "Resources": {"CPU": 96.0, "memory": 512.0}},
    ]
    assert Resources(2.0, 64) == _fitting(Resources(4.0, 100), nodes)
    assert Resources(1.0, 10) == _fitting(Resources(1.0, 10), nodes)
