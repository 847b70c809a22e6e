"""A program of HLO against what is documented of neuronx-cc: every instruction, and its size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from partitioner.backends.neuron.hlo_rules import EVERYWHERE, OF_OPCODE
from partitioner.backends.neuron.hlo_size import instructions_of
from partitioner.backends.neuron.instructions import Instruction
from partitioner.backends.neuron.opcodes import opcode_rows
from partitioner.backends.support_table import Refusal
from partitioner.backends.verdicts import Code

__all__ = ["Finding", "HloReport", "check_program"]

#: How many source lines a finding names.
_SOURCES = 5


@dataclass(frozen=True)
class Finding:
    """Something against an instruction, and all others like it.

    Attributes:
        opcode: HLO's; empty for what is against the whole program.
        types: of the first of them.
        code: ``unproven`` where no source promises it and none refuses it.
        message, advice: for people.
        detail: neuronx-cc's error code.
        sources: some of the user's lines.
        count: how many there are.
    """

    opcode: str
    types: str
    code: Code
    message: str
    advice: str
    detail: str
    sources: tuple[str, ...]
    count: int

    @property
    def refused(self) -> bool:
        """Whether a source says that neuronx-cc does not take it."""
        return self.code != "unproven"


@dataclass(frozen=True)
class HloReport:
    """What was found about a program.

    Attributes:
        opcodes: how often each occurs, constants left out.
        findings: in the order of the program.
        instructions: the estimate.
    """

    opcodes: dict[str, int]
    findings: tuple[Finding, ...]
    instructions: int


def check_program(
    program: Iterable[Instruction],
    source_of: Callable[[int | str | None], str] = str,
    limit: int | None = None,
) -> HloReport:
    """Check a program.

    Args:
        source_of: the user's line, of an instruction's place; empty if there is none.
        limit: of instructions.
    """
    listed = list(program)
    alike: dict[tuple[str, Refusal], list[Instruction]] = {}
    for one in listed:
        refusal = _refusal(one)
        if refusal is not None:
            alike.setdefault((one.opcode, refusal), []).append(one)
    findings = [_finding(refusal, same, source_of) for (_, refusal), same in alike.items()]
    counts = Counter(one.opcode for one in listed if one.opcode != "constant" and not one.constant)
    size = instructions_of(listed)
    if limit is not None and size > limit:
        findings.append(_too_large(size, limit))
    return HloReport(dict(counts.most_common()), tuple(findings), size)


def _refusal(one: Instruction) -> Refusal | None:
    row = opcode_rows().get(one.opcode)
    if row is None:
        message = f"no source says that Neuron takes {one.opcode}"
        return Refusal(message, "unproven", "write the step with more common ops")
    if row.refusal is not None:
        return row.refusal
    own = OF_OPCODE.get(one.opcode)
    rules = EVERYWHERE if own is None else (*EVERYWHERE, own)
    return next((found for rule in rules if (found := rule(one)) is not None), None)


def _finding(
    refusal: Refusal, same: Sequence[Instruction], source_of: Callable[[int | str | None], str]
) -> Finding:
    lines = dict.fromkeys(source_of(one.place) for one in same if one.place is not None)
    sources = tuple(line for line in lines if line)[:_SOURCES]
    first = same[0]
    return Finding(
        first.opcode,
        first.types,
        refusal.code,
        refusal.message,
        refusal.advice,
        refusal.detail,
        sources,
        len(same),
    )


def _too_large(size: int, limit: int) -> Finding:
    message = f"about {size} instructions, of which neuronx-cc takes {limit}"
    advice = "split the stage, or use smaller inputs"
    return Finding("", "", "configuration", message, advice, "EBVF030, EXTP004", (), 1)
