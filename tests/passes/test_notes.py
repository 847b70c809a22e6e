"""Passes say what they did, to whoever listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from torch import fx

from partitioner.passes.base import Pass
from partitioner.passes.notes import collected_notes, note
from partitioner.passes.pipeline import run_pipeline
from partitioner.program import Program


@dataclass(frozen=True)
class Saying(Pass):
    lines: int = 2

    name: ClassVar[str] = "saying"

    def apply(self, program: Program) -> bool:
        for number in range(self.lines):
            note(f"line {number}")
        return False


def empty() -> Program:
    graph = fx.Graph()
    graph.output(())
    return Program(main=graph)


def test_notes_come_with_the_result_and_in_the_records() -> None:
    assert ("line 0", "line 1") == Saying().run(empty()).notes
    _, records = run_pipeline(empty(), (Saying(), Saying(lines=1)))
    assert [("line 0", "line 1"), ("line 0",)] == [r.notes for r in records]


def test_a_pass_within_a_pass_has_its_own_notes() -> None:
    with collected_notes() as outer:
        note("outer")
        Saying().run(empty())
    assert ["outer"] == outer


def test_a_failing_pass_leaves_nobody_listening() -> None:
    with pytest.raises(RuntimeError), collected_notes():
        raise RuntimeError
    note("to nobody")
    with collected_notes() as lines:
        pass
    assert [] == lines
