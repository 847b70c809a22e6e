"""What the user decides about placement: ``--place STAGE=BACKEND`` and ``--place-op OP=BACKEND``.

An override is a verdict of its own: every other backend then refuses the node, with the code
``policy``. So placement, the validator and whoever reads a plan need not know of overrides.

The longest path of a stage counts, and an op's override counts more than its stage's. A stage whose
ops depend on one another through ops elsewhere becomes several segments; no override can make a
circle of segments.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import fx

from partitioner.backends.base import Rejected, Verdict
from partitioner.errors import UsageError
from partitioner.passes.ops import op_name
from partitioner.planning.graphs import is_op, is_structural, reachable_graphs
from partitioner.planning.verdicts import Judge
from partitioner.program import Program
from partitioner.targets import Target

__all__ = ["Overrides", "bind", "parse_overrides"]


@dataclass(frozen=True)
class Overrides:
    """Backends by stage path, and by op: ``softmax``, or one overload of it, ``softmax.int``."""

    stages: Mapping[str, str] = field(default_factory=dict[str, str])
    ops: Mapping[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        return bool(self.stages or self.ops)

    def backend_of(self, node: fx.Node) -> tuple[str, str] | None:
        """The backend that a node is bound to, and the option that says so."""
        for name in (_overload(node), op_name(node)):
            if name in self.ops:
                return self.ops[name], f"--place-op {name}={self.ops[name]}"
        stage = str(node.meta.get("stage", ""))
        inside = [p for p in self.stages if stage == p or stage.startswith(f"{p}.")]
        if not inside:
            return None
        path = max(inside, key=len)
        return self.stages[path], f"--place {path}={self.stages[path]}"


def parse_overrides(places: Sequence[str], ops: Sequence[str]) -> Overrides:
    """The values of ``--place`` and ``--place-op``.

    Raises:
        UsageError: one is not NAME=BACKEND, or two name the same thing and different backends.
    """
    return Overrides(_parsed("--place", places), _parsed("--place-op", ops))


def _parsed(option: str, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, backend = text.partition("=")
        name = name.removeprefix("aten.")
        if not (name and equals and backend):
            wanted = "OP=BACKEND" if option == "--place-op" else "STAGE=BACKEND"
            raise UsageError(f"{option} takes {wanted}, not {text!r}")
        if found.setdefault(name, backend) != backend:
            raise UsageError(
                f"{option} puts {name!r} on {found[name]!r} and on {backend!r}",
                advice="leave one out",
            )
    return found


def bind(
    overrides: Overrides, program: Program, target: Target, judges: Mapping[str, Judge]
) -> Mapping[str, Judge]:
    """Judges that keep to the overrides.

    Raises:
        UsageError: an override names a backend that the target does not have, or a stage or an op
            that the program does not have.
    """
    if not overrides:
        return judges
    _check(overrides, program, target, judges)
    return {name: _Bound(name, judge, overrides) for name, judge in judges.items()}


@dataclass(frozen=True)
class _Bound:
    name: str
    judge: Judge
    overrides: Overrides

    def verdict(self, node: fx.Node, target: Target) -> Verdict:
        bound = self.overrides.backend_of(node)
        if bound is None or bound[0] == self.name:
            return self.judge.verdict(node, target)
        return Rejected("policy", f"{bound[1]}", str(node.meta.get("source", "")))


def _check(
    overrides: Overrides, program: Program, target: Target, judges: Mapping[str, Judge]
) -> None:
    stages, ops = dict[str, None](), dict[str, None]()
    for _, _, live in reachable_graphs(program):
        for node in live:
            if is_op(node) and not is_structural(node):
                ops.update(dict.fromkeys((op_name(node), _overload(node))))
                stages.update(dict.fromkeys(_paths(str(node.meta.get("stage", "")))))
    able = [name for name in target.backends if name in judges and name != "host"]
    for path, backend in overrides.stages.items():
        _known("stage", path, stages, "--place")
        _known(f"backend of target {target.name!r}", backend, able, "--place")
    for name, backend in overrides.ops.items():
        _known("op", name, ops, "--place-op")
        _known(f"backend of target {target.name!r}", backend, able, "--place-op")


def _known(what: str, name: str, known: Iterable[str], option: str) -> None:
    names = sorted(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1)
    shown = ", ".join([*names[:12], "..."] if len(names) > 12 else names)
    raise UsageError(
        f"{option}: there is no {what} {name!r}",
        advice=f"did you mean {near[0]!r}?" if near else f"there are: {shown}",
    )


def _paths(stage: str) -> Iterable[str]:
    """``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``."""
    parts = stage.split(".") if stage else []
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def _overload(node: fx.Node) -> str:
    """``softmax.int`` of ``aten.softmax.int``."""
    name = str(node.target)
    return name.split(".", 1)[1] if "." in name else name
