"""What a pass is: program to program, with a contract that is checked.

A pass is a frozen dataclass; its fields are its options, so that a pipeline of passes prints and
parses as one string. It works on a copy and says whether it changed anything; the base class holds
it to that, and to giving a well-formed program.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import fx
from torch.fx.node import map_arg

from partitioner.errors import PassError, ProgramError, UsageError
from partitioner.passes.notes import collected_notes
from partitioner.program import Program
from partitioner.verifier import verify

__all__ = ["Pass", "PassResult", "fingerprint"]


@dataclass(frozen=True)
class PassResult:
    """What came out of a pass.

    Attributes:
        program: well-formed.
        modified: whether it differs from what went in.
        notes: what the pass said it did.
        fingerprint: of the program.
    """

    program: Program
    modified: bool
    notes: tuple[str, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True)
class Pass:
    """Base of all passes. Subclasses set ``name`` and implement ``apply``.

    Attributes:
        tolerance: relative error that the pass may bring in itself, for
            :mod:`partitioner.passes.checked`. The default is that of another order of float32
            arithmetic; a pass that only moves or removes ops says 0.0, and is held to every bit.
        keeps_values: whether a node that keeps its graph, name and type keeps its value, each
            time that it runs. A pass that gives old names new meanings (trips that are peeled
            off, rows that are put in another order) says False; then only the program's outputs
            are held to the tolerance.
    """

    name: ClassVar[str]
    tolerance: ClassVar[float] = 1e-5
    keeps_values: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse options that cannot be meant: all numbers count bytes, trips or operations.

        Raises:
            UsageError: a number is negative.
        """
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if isinstance(value, int) and value < 0:
                raise UsageError(
                    f"pass {self.name!r} has {option.name}={value}",
                    advice=f"give {option.name} a whole number that is not negative",
                )

    def apply(self, program: Program) -> bool:
        """Change ``program`` in place; whether anything changed.

        A pass says what it did with :func:`partitioner.passes.notes.note`.
        """
        raise NotImplementedError

    def run(self, program: Program, *, known: str | None = None) -> PassResult:
        """Run on a copy, and check the contract.

        Args:
            known: the fingerprint in the result of the pass that made ``program``, which has
                verified it; saves looking at every node twice more.

        Raises:
            PassError: the program was malformed before, or is after; or the claim about having
                changed it is wrong.
        """
        if known is None:
            self._verified(program, "was given")
            known = fingerprint(program)
        result = program.copy()
        with collected_notes() as notes:
            claimed = self.apply(result)
        self._verified(result, "made")
        found = fingerprint(result)
        if found != known and not claimed:
            raise PassError(f"pass {self.name!r} changed the program and says it did not")
        return PassResult(result, found != known, tuple(notes), found)

    def _verified(self, program: Program, verb: str) -> None:
        try:
            verify(program)
        except ProgramError as error:
            raise PassError(
                f"pass {self.name!r} {verb} a malformed program: {error.what}", where=error.where
            ) from error

    def __str__(self) -> str:
        """``name{option=value ...}`` with the options that differ from their defaults."""
        options = [
            f"{f.name}={getattr(self, f.name)}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{self.name}{{{' '.join(options)}}}" if options else self.name


def fingerprint(program: Program) -> str:
    """A hash of the structure: nodes, operands, types, which constants (by identity)."""
    hasher = hashlib.sha256()
    for name, graph in program.all_graphs():
        hasher.update(f"graph {name}\n".encode())
        numbers: dict[fx.Node, int] = {}
        for node in graph.nodes:
            numbers[node] = len(numbers)
            args = map_arg((node.args, node.kwargs), _numbered(numbers))
            line = f"{node.op} {node.target} {args} {node.meta.get('type')}\n"
            hasher.update(line.encode())
    for name, tensor in sorted(program.constants.items()):
        hasher.update(f"{name} {tensor.data_ptr()} {tensor.shape} {tensor.dtype}\n".encode())
    hasher.update(repr((program.inputs, program.outputs, program.draws)).encode())
    return hasher.hexdigest()


def _numbered(numbers: dict[fx.Node, int]) -> Any:
    return lambda node: _Ref(numbers[node])


class _Ref:
    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"%{self.number}"
