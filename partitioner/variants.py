"""Variants: one program for several schedules.

A pipeline that is captured with 5 steps and with 20 gives two programs of the same structure. They
differ in how many trips a loop makes, in the rows of tables, and in constants that the schedule
decides. Merged, they are one program whose segments are compiled once; what differs is held out of
the segments and stored for each variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, cast

import torch
from torch import fx

from partitioner.errors import UsageError
from partitioner.passes.base import Pass
from partitioner.passes.lifting import lengthened
from partitioner.program import Program, TensorType, add_node, loop, node_type, operands

__all__ = [
    "Merged",
    "Variation",
    "for_variants",
    "lengthen_tables",
    "longest_loop",
    "merge",
    "trips_of",
    "with_trips",
]

aten = torch.ops.aten

#: Ops that take a number where they also take a tensor without dimensions.
_NUMERIC = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor})


@dataclass(frozen=True)
class Variation:
    """What one variant has for itself.

    Attributes:
        trips: by name of the loop's body.
        repeats: of the draw sequences, in order.
        constants: by name, with as many rows as the longest variant needs.
    """

    trips: dict[str, int] = field(default_factory=dict[str, int])
    repeats: tuple[int, ...] = ()
    constants: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])


@dataclass(frozen=True)
class Merged:
    """One program and, in the order of the variants, what each has for itself.

    The program's own trips, rows and repeats are those of the longest variant.
    """

    program: Program
    variations: tuple[Variation, ...]


def trips_of(program: Program) -> dict[str, int]:
    """How many trips each loop makes, by name of its body."""
    return {
        cast(str, node.args[0]): cast(int, node.args[2])
        for _, graph in program.all_graphs()
        for node in graph.nodes
        if node.target is loop
    }


def longest_loop(programs: Sequence[Program]) -> int:
    """The most trips that a loop makes."""
    return max((n for program in programs for n in trips_of(program).values()), default=0)


def lengthen_tables(program: Program, rows: int) -> Program:
    """The program with so many rows in the tables of its loops; no trip reads what is added.

    Tables of different variants have the same shape then, and all that is made of them has, too.
    """
    program = program.copy()
    for _, graph in list(program.all_graphs()):
        for node in list(graph.nodes):
            if node.target is loop:
                _lengthen_slices(program, graph, node, rows)
    return program


def _lengthen_slices(program: Program, graph: fx.Graph, node: fx.Node, rows: int) -> None:
    name, given, trips, carries, slices = cast(
        "tuple[str, tuple[fx.Node, ...], int, int, int]", node.args
    )
    longer = list(given)
    for index in range(carries, carries + slices):
        operand = given[index]
        if operand.op != "get_attr":
            continue
        table = program.constants[cast(str, operand.target)]
        long = program.add_constant(f"{operand.target}.rows", lengthened(table, rows))
        type_ = TensorType.of(program.constants[long])
        with graph.inserting_before(node):
            longer[index] = add_node(graph, "get_attr", long, type=type_, like=operand)
    node.args = (name, tuple(longer), trips, carries, slices)


def with_trips(program: Program, trips: Mapping[str, int]) -> Program:
    """The program with other numbers of trips, by name of the body."""
    program = program.copy()
    for _, graph in program.all_graphs():
        for node in graph.nodes:
            if node.target is loop:
                name, given, count, *rest = node.args
                node.args = (name, given, trips.get(cast(str, name), cast(int, count)), *rest)
    return program


def for_variants(passes: Sequence[Pass], trips: int) -> tuple[Pass, ...]:
    """Passes that treat programs alike whose loops make up to ``trips`` trips."""
    return tuple(
        cast(Pass, replace(cast(Any, one), trips=trips))
        if getattr(one, "trips", None) == 0
        else one
        for one in passes
    )


def merge(programs: Sequence[Program], labels: Sequence[str]) -> Merged:
    """Merge programs that differ in their schedules only.

    Args:
        programs: after all passes.
        labels: of the variants, for messages.

    Raises:
        UsageError: two programs differ in more; says where.
    """
    first = programs[0].copy()
    lined = [
        _Lined(first, other, labels[0], label)
        for other, label in zip(programs, labels, strict=True)
    ]
    columns = [one.run() for one in lined]
    return _merged(first, programs, columns)


# --- two programs side by side ------------------------------------------------------------------


@dataclass
class _Found:
    """What a program has in the places of the first one's.

    Attributes:
        constants: the first program's name -> tensor.
        numbers: (node of the first program, index of the argument) -> number.
        trips: by name of the body.
    """

    constants: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    numbers: dict[tuple[fx.Node, int], float] = field(
        default_factory=dict[tuple[fx.Node, int], float]
    )
    trips: dict[str, int] = field(default_factory=dict[str, int])


class _Lined:
    """Walks two programs in step, and refuses what may not differ."""

    def __init__(self, first: Program, other: Program, name: str, label: str) -> None:
        self._first, self._other = first, other
        self._labels = (name, label)
        self._twins: dict[fx.Node, fx.Node] = {}
        self._found = _Found()

    def run(self) -> _Found:
        first, other = dict(self._first.all_graphs()), dict(self._other.all_graphs())
        if list(first) != list(other):
            self._refuse(f"the graphs are {list(first)} and {list(other)}")
        for name, graph in first.items():
            pairs = (list(graph.nodes), list(other[name].nodes))
            for ours, theirs in zip(*pairs, strict=False):
                self._pair(ours, theirs)
            if len(pairs[0]) != len(pairs[1]):
                self._refuse(f"they do {len(pairs[0])} and {len(pairs[1])} operations in {name!r}")
        return self._found

    def _pair(self, ours: fx.Node, theirs: fx.Node) -> None:
        self._twins[ours] = theirs
        if ours.op != theirs.op:
            self._differ(ours, theirs)
        if ours.op == "get_attr":
            self._constant(ours, theirs)
        elif ours.target is loop and theirs.target is loop:
            self._loop(ours, theirs)
        elif ours.op == "placeholder":
            self._placeholder(ours, theirs)
        else:
            self._op(ours, theirs)

    def _constant(self, ours: fx.Node, theirs: fx.Node) -> None:
        name = cast(str, ours.target)
        tensor = self._other.constants[cast(str, theirs.target)]
        known = self._found.constants.setdefault(name, tensor)
        if node_type(ours) != node_type(theirs) or not _is_same(known, tensor):
            self._differ(ours, theirs)

    def _placeholder(self, ours: fx.Node, theirs: fx.Node) -> None:
        rows = {d.placeholder for s in self._first.draws for d in s.draws if d.row}
        own, other = node_type(ours), node_type(theirs)
        drawn = ours.target in rows and own.shape[1:] == other.shape[1:]
        if own.dtype != other.dtype or not (own.shape == other.shape or drawn):
            self._differ(ours, theirs)

    def _loop(self, ours: fx.Node, theirs: fx.Node) -> None:
        # What a loop collects has a row a trip, and what comes after it would differ, too.
        if ours.meta["type"] != theirs.meta["type"]:
            self._differ(ours, theirs)
        self._found.trips[cast(str, ours.args[0])] = cast(int, theirs.args[2])
        ours_given, theirs_given = operands(ours), operands(theirs)
        if [self._twins[n] for n in ours_given] != list(theirs_given):
            self._differ(ours, theirs)
        if (ours.args[0], *ours.args[3:]) != (theirs.args[0], *theirs.args[3:]):
            self._differ(ours, theirs)

    def _op(self, ours: fx.Node, theirs: fx.Node) -> None:
        same = ours.target == theirs.target and ours.meta.get("type") == theirs.meta.get("type")
        if not same or len(ours.args) != len(theirs.args):
            self._differ(ours, theirs)
        for index, (own, other) in enumerate(zip(ours.args, theirs.args, strict=True)):
            if _is_number(own) and _is_number(other) and ours.target in _NUMERIC and index == 1:
                self._found.numbers[ours, index] = cast(float, other)
            elif not self._equal(own, other):
                self._differ(ours, theirs)
        if not self._equal(dict(ours.kwargs), dict(theirs.kwargs)):
            self._differ(ours, theirs)

    def _equal(self, own: Any, other: Any) -> bool:
        if isinstance(own, fx.Node):
            return self._twins.get(own) is other
        if isinstance(own, list | tuple):
            return (
                isinstance(other, list | tuple)
                and len(own) == len(cast("Sequence[Any]", other))
                and all(map(self._equal, own, cast("Sequence[Any]", other)))
            )
        if isinstance(own, dict):
            return (
                isinstance(other, dict)
                and own.keys() == cast("dict[str, Any]", other).keys()
                and all(self._equal(own[k], other[k]) for k in cast("dict[str, Any]", own))
            )
        return type(own) is type(other) and own == other

    def _differ(self, ours: fx.Node, theirs: fx.Node) -> NoReturn:
        texts = [
            f"{_text(n)} at {n.meta.get('source') or 'an unknown line'}" for n in (ours, theirs)
        ]
        self._refuse(f"{texts[0]} stands against {texts[1]}")

    def _refuse(self, what: str) -> NoReturn:
        one, other = self._labels
        raise UsageError(
            f"{one} and {other} do not give the same program but for its schedule: {what}",
            advice="variants may differ in schedules only, and need a loop each; build a bundle "
            "for each instead",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(node: fx.Node) -> str:
    return f"{node.name} = {node.target} {node.meta.get('type', '')}"


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    shared = one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
    return shared or torch.equal(one, other)


# --- one program --------------------------------------------------------------------------------


def _merged(first: Program, programs: Sequence[Program], found: Sequence[_Found]) -> Merged:
    constants = [dict(one.constants) for one in found]
    for key in found[0].numbers:
        if len({one.numbers[key] for one in found}) > 1:
            name = _hold_number(first, *key)
            dtype = node_type(key[0]).dtype
            for own, one in zip(constants, found, strict=True):
                own[name] = torch.tensor(one.numbers[key], dtype=dtype)
    held: set[str] = set()
    for name in constants[0]:
        column = [own[name] for own in constants]
        if not all(_is_same(column[0], tensor) for tensor in column):
            held.add(name)
            first.constants[name] = column[0]
    longest = {name: max(one.trips[name] for one in found) for name in found[0].trips}
    first = with_trips(first, longest)
    _lengthen(first, programs)
    variations = tuple(
        Variation(
            dict(one.trips),
            tuple(sequence.repeat for sequence in program.draws),
            {name: own[name] for name in sorted(held)},
        )
        for one, own, program in zip(found, constants, programs, strict=True)
    )
    return Merged(replace(first, held=frozenset(held)), variations)


def _hold_number(program: Program, node: fx.Node, index: int) -> str:
    """Make a constant of a number among a node's arguments; its name."""
    type_ = TensorType((), node_type(node).dtype)
    name = program.add_constant(f"number.{node.name}", torch.zeros((), dtype=type_.dtype))
    with node.graph.inserting_before(node):
        constant = add_node(node.graph, "get_attr", name, type=type_, like=node)
    node.update_arg(index, constant)
    return name


def _lengthen(first: Program, programs: Sequence[Program]) -> None:
    """Give the program the longest variant's repeats and rows of draws."""
    repeats = [
        max(s.repeat for s in column) for column in zip(*(p.draws for p in programs), strict=True)
    ]
    first.draws = tuple(
        replace(sequence, repeat=repeat)
        for sequence, repeat in zip(first.draws, repeats, strict=True)
    )
    rows = {d.placeholder: s.repeat for s in first.draws for d in s.draws if d.row}
    for node in first.main.nodes:
        if node.op == "placeholder" and node.target in rows:
            type_ = node_type(node)
            node.meta["type"] = TensorType((rows[node.target], *type_.shape[1:]), type_.dtype)
