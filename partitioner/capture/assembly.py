"""From tape to program: entries become nodes, repetitions become loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import fx

from partitioner.capture.loop_assembly import LoopAssembler
from partitioner.capture.loops import Repetition, find_loops
from partitioner.capture.stage_graphs import StageGraph
from partitioner.capture.tape import Entry, Operand, Value
from partitioner.capture.writing import ProgramWriter, draw_op
from partitioner.program import DrawSequence, Program

__all__ = ["assemble"]


def assemble(
    entries: Sequence[Entry],
    stages: Sequence[StageGraph],
    outputs: dict[str, Operand],
) -> tuple[Program, list[Repetition]]:
    """Build a program of a tape.

    Args:
        entries: the tape.
        stages: the graphs its stage entries name.
        outputs: output name -> what it holds.

    Returns:
        the program, its inputs and host ops not yet declared, and the loops found.
    """
    program = Program(main=fx.Graph(), outputs=tuple(outputs))
    for stage in stages:
        program.graphs[stage.name] = stage.graph
        program.constants.update(stage.constants)
    loops = find_loops(entries)
    _Assembler(entries, program, list(outputs.values())).run(loops)
    return program, loops


class _Assembler:
    def __init__(
        self, entries: Sequence[Entry], program: Program, outputs: Sequence[Operand]
    ) -> None:
        self._entries = entries
        self._outputs = outputs
        self._writer = ProgramWriter(entries, program)
        operands = [operand for entry in entries for operand in entry.operands]
        self._used = {o for o in [*operands, *outputs] if isinstance(o, Value)}

    def run(self, loops: list[Repetition]) -> None:
        writer = self._writer
        assembler = LoopAssembler(writer, self._outputs)
        starts = {found.start: found for found in loops}
        index = 0
        while index < len(self._entries):
            found = starts.get(index)
            if found is not None:
                assembler.add(found)
                index = found.end
                continue
            self._entry(index)
            index += 1
        writer.graph.output(tuple(writer.resolve(operand) for operand in self._outputs))
        writer.program.draws = tuple(writer.draws)

    def _entry(self, index: int) -> None:
        writer = self._writer
        entry = self._entries[index]
        if entry.kind == "input":
            if Value(index) in self._used:
                writer.env[Value(index)] = writer.placeholder(entry, cast(str, entry.target))
            return
        if entry.kind == "draw":
            name = writer.draw_name()
            writer.env[Value(index)] = writer.placeholder(entry, name)
            writer.draws.append(DrawSequence(1, (draw_op(entry, name, row=False),)))
            return
        for item, node in writer.emit(writer.graph, entry, writer.resolve).items():
            writer.env[Value(index, item)] = node
