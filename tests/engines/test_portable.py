"""Compile jobs as content give what the job itself gives; other versions are refused."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from partitioner.artifacts.digest import hex_of
from partitioner.backends.base import CacheFacts, Resources
from partitioner.backends.onnx.compile import OnnxCompiler
from partitioner.engines import CompileJob
from partitioner.engines.base import compile_here
from partitioner.engines.portable import PortableJob, answer, pack, unpack
from partitioner.errors import BackendError, CompileError
from partitioner.targets import find_target
from tests.caching.samples import WEIGHT, Sample, Workplace, aten, workplace


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    with workplace(tmp_path / "work") as found:
        yield found


def job_of(work: Workplace, sample: Sample, **options: Any) -> CompileJob:
    constants = sample.constants(WEIGHT)
    given = replace(work.options(), target=find_target("cpu"), **options)
    return CompileJob(OnnxCompiler(), sample.segment(), constants, work.layout(constants), given)


def sent(job: CompileJob, folder: Path) -> tuple[PortableJob, dict[str, bytes]]:
    """As it arrives elsewhere, with the content of blobs."""
    folder.mkdir()
    # As Ray sends it: the bytes are this test's own, made here.
    arrived = pickle.loads(pickle.dumps(pack(job)))
    blobs = {d: (job.options.blobs_dir / hex_of(d)).read_bytes() for d in arrived.blobs}
    return arrived, blobs


def test_the_same_to_the_byte(work: Workplace, tmp_path: Path) -> None:
    job = job_of(work, Sample(), log=tmp_path / "log.txt")
    there = unpack(answer(*sent(job, tmp_path / "a"), tmp_path / "a"), job, tmp_path / "back")
    here = compile_here(job)
    assert here.graph is not None
    assert there.graph is not None
    assert here.graph.read_bytes() == there.graph.read_bytes()
    assert replace(here, graph=None) == replace(there, graph=None)


def test_an_error_names_the_same_line(work: Workplace, tmp_path: Path) -> None:
    refused = Sample(second=aten.special_bessel_j0.default, operands=1)
    job = job_of(work, refused)
    found = answer(*sent(job, tmp_path / "a"), tmp_path / "a")
    with pytest.raises(CompileError, match="cannot export") as caught:
        unpack(found, job, tmp_path / "back")
    assert "model.py" in str(caught.value.where)


def test_other_versions_are_refused(work: Workplace, tmp_path: Path) -> None:
    job = job_of(work, Sample())
    arrived, blobs = sent(job, tmp_path / "a")
    assert arrived.facts is not None
    facts = CacheFacts({**arrived.facts.compiler, "onnx": "0.1"}, arrived.facts.options)
    found = answer(replace(arrived, facts=facts), blobs, tmp_path / "a")
    with pytest.raises(BackendError, match=r"onnx is .*, not 0\.1"):
        unpack(found, job, tmp_path / "back")


def test_a_limit_of_memory_is_what_is_asked_for(work: Workplace) -> None:
    assert Resources(1.0, 2**30) == job_of(work, Sample()).resources
    assert Resources(1.0, 5) == job_of(work, Sample(), memory_bytes=5).resources
