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

from partitioner.errors import PassError, ProgramError
from partitioner.program import Program
from partitioner.verifier import verify

__all__ = ["Pass", "PassResult", "fingerprint"]


@dataclass(frozen=True)
class PassResult:
    """What came out, and whether it differs from what went in."""

    program: Program
    modified: bool


@dataclass(frozen=True)
class Pass:
    """Base of all passes. Subclasses set ``name`` and implement ``apply``."""

    name: ClassVar[str]

    def apply(self, program: Program) -> bool:
        """Change ``program`` in place; whether anything changed."""
        raise NotImplementedError

    def run(self, program: Program) -> PassResult:
        """Run on a copy, and check the contract.

        Raises:
            PassError: the program was malformed before, or is after; or the claim about having
                changed it is wrong.
        """
        self._verified(program, "was given")
        result = program.copy()
        claimed = self.apply(result)
        self._verified(result, "made")
        changed = fingerprint(program) != fingerprint(result)
        if changed and not claimed:
            raise PassError(f"pass {self.name!r} changed the program and says it did not")
        return PassResult(result, changed)

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
