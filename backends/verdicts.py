"""Verdicts: a backend's answer for one node, and the object that gives them.

A verdict is made from data that the backend's package brings along, so planning needs none of the
backend's libraries. Torch-free itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from partitioner.errors import BackendError

if TYPE_CHECKING:
    from torch import fx

    from partitioner.targets import Target

__all__ = ["CODES", "Code", "Judge", "Rejected", "Supported", "Verdict"]

#: Why a node is not taken. The set is closed: scripts may rely on it.
Code = Literal[
    "op-unsupported",
    "unproven",
    "dtype",
    "rank",
    "dynamic-shape",
    "data-dependent",
    "configuration",
    "policy",
]

#: code -> what it means, for people.
CODES: Mapping[Code, str] = {
    "op-unsupported": "the backend has nothing for this op, whatever its operands",
    "unproven": "no source says that the backend takes this op, and none that it does not",
    "dtype": "the backend has the op, but not in a dtype that the node reads or gives",
    "rank": "the backend has the op, but not for so many or so few dimensions",
    "dynamic-shape": "a size that the node reads or gives is not known at build time",
    "data-dependent": "the op's result has a size, or is a number, that only the data decide",
    "configuration": "the backend has the op, but not with these arguments",
    "policy": "the backend could, but does not by a rule of its own or of the caller's",
}


@dataclass(frozen=True)
class Supported:
    """The backend takes the node.

    Args:
        evidence: why that is believed, for people: a document, a registry, a decomposition.
            Verdicts that differ in it only are equal.
    """

    evidence: str = field(default="", compare=False)


@dataclass(frozen=True)
class Rejected:
    """The backend does not take the node.

    Args:
        code: stable, one of :data:`CODES`.
        message: for people.
        source: the line of the user's code (``file.py:12 in forward``); empty if unknown.
        advice: how to get rid of the rejection, for people; empty where nothing better is known
            than to write the step with other ops.
        detail: the backend's own name of it, such as an error code of its compiler.

    Raises:
        BackendError: the code is none of :data:`CODES`.
    """

    code: Code
    message: str
    source: str
    advice: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise BackendError(
                f"a backend rejected a node with the unknown code {self.code!r}: {self.message}",
                where=self.source or None,
                advice=f"this is a defect of the backend; codes are {', '.join(CODES)}",
            )


Verdict = Supported | Rejected


@dataclass(frozen=True)
class Judge:
    """A backend as planning sees it.

    Attributes:
        name: the backend's.
        verdict: (node of a program, target) -> verdict. A pure function of the op, its arguments,
            the types (``meta["type"]``) of the node and its operands, which of its results are
            read, and the target; the node is neither structural (a loop, a call, a host op) nor an
            item of another's results.
    """

    name: str
    verdict: Callable[[fx.Node, Target], Verdict]
