"""Support tables: what a backend takes, as data, and the one evaluator of such data.

A table is a JSON file beside the backend's ``support.py``. ``docs/backends.md`` has its format;
:func:`read_table` checks it. What cannot be said by lists of dtypes and ranks is a *check*, a
small function that a row names.
"""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx

from partitioner.backends.decomposed import Decompositions, parts_of, signature
from partitioner.backends.verdicts import CODES, Code, Rejected, Supported, Verdict
from partitioner.errors import BackendError
from partitioner.program import TensorType

if TYPE_CHECKING:
    from partitioner.targets import Target

__all__ = [
    "Check",
    "Evaluator",
    "Evidence",
    "Refusal",
    "Row",
    "SupportTable",
    "read_rows",
    "read_table",
]


@dataclass(frozen=True)
class Refusal:
    """Why a node is not taken; :class:`Rejected` without the place."""

    message: str
    code: Code = "op-unsupported"
    advice: str = ""
    detail: str = ""

    def at(self, source: str) -> Rejected:
        return Rejected(self.code, self.message, source, self.advice, self.detail)


#: Looks at the arguments of a node: None if the backend takes them.
Check = Callable[[fx.Node, "Target"], Refusal | None]


@dataclass(frozen=True)
class Evidence:
    """Where rows come from.

    Args:
        source: a document or program, with its version.
        grade: ``documented``, ``vendor-code``, ``registry``, ``inferred``: how sure it is.
        names: what it lists; a row refers to one of them. Empty where it lists nothing.
    """

    source: str
    grade: str
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """What is known of an op.

    Args:
        evidence: ``KEY`` or ``KEY:name`` of the table's evidence.
        dtypes: of all its tensors, by NumPy name; None for all that the table allows.
        refuses: dtypes of its first operand that it is not taken in.
        ranks: least and greatest number of dimensions of the first operand.
        checks: names of checks that look at its arguments.
        refusal: the op is not taken at all.
    """

    evidence: tuple[str, ...] = ()
    dtypes: frozenset[str] | None = None
    refuses: frozenset[str] = frozenset()
    ranks: tuple[int, int] | None = None
    checks: tuple[str, ...] = ()
    refusal: Refusal | None = None


@dataclass(frozen=True)
class SupportTable:
    """What a backend takes.

    Args:
        label: the backend as messages call it.
        version: of the backend that the rows are about.
        date: of the rows, ``YYYY-MM-DD``.
        evidence: by key.
        dtypes: what the backend computes in, by NumPy name.
        refused_dtypes: better reasons than the general one, by NumPy name.
        rows: by overload (``aten.add.Tensor``) or op (``aten.add``); the overload goes first.
        families: patterns of ops (``aten.fft_*``) -> why none of them is taken.
        closed: whether an op that the table does not have is known to be unsupported.
    """

    label: str
    version: str
    date: str
    evidence: Mapping[str, Evidence]
    dtypes: frozenset[str]
    refused_dtypes: Mapping[str, Refusal] = field(default_factory=dict[str, Refusal])
    rows: Mapping[str, Row] = field(default_factory=dict[str, Row])
    families: Mapping[str, Refusal] = field(default_factory=dict[str, Refusal])
    closed: bool = False

    def row_of(self, op: str) -> Row | None:
        """The row of an overload, by its own name or that of its op."""
        return self.rows.get(op) or self.rows.get(op.rpartition(".")[0])

    def family_of(self, op: str) -> Refusal | None:
        name = op.rpartition(".")[0]
        return next((r for p, r in self.families.items() if fnmatch.fnmatchcase(name, p)), None)

    def proof_of(self, row: Row) -> str:
        """Evidence of a row, for people."""
        texts: list[str] = []
        for reference in row.evidence:
            key, _, name = reference.partition(":")
            found = self.evidence[key]
            texts.append(f"{found.grade}: {name + ', ' if name else ''}{found.source}")
        return "; ".join(texts)


class Evaluator:
    """Gives the verdicts of one table. Verdicts on ops taken apart are remembered.

    Args:
        table: the rows.
        checks: by the names that rows use.
        decompositions: makes torch's table of decompositions, less what has rows of its own.
    """

    def __init__(
        self,
        table: SupportTable,
        checks: Mapping[str, Check],
        decompositions: Callable[[], Decompositions],
    ) -> None:
        unknown = {name for row in table.rows.values() for name in row.checks} - checks.keys()
        if unknown:
            raise BackendError(
                f"rows of the support table of {table.label} name no checks {unknown}"
            )
        self.table = table
        self._checks = checks
        self._decompositions = functools.cache(decompositions)
        self._apart: dict[tuple[str, str], Verdict] = {}

    def verdict(self, node: fx.Node, target: Target) -> Verdict:
        """See :class:`partitioner.backends.verdicts.Judge`.

        1. ops, and families of ops, that are refused whatever their operands
        2. results that depend on data, then sizes that are not known
        3. dtypes that the backend does not have
        4. the op's own row: dtypes, ranks, checks
        5. without a row: what the op is made of
        """
        source = str(node.meta.get("source", ""))
        known = self._known(node, target)
        if isinstance(known, Refusal):
            return known.at(source)
        if known is not None:
            return Supported(self.table.proof_of(known))
        key = (signature(node), target.name)
        if key not in self._apart:
            self._apart[key] = self._taken_apart(node, target)
        found = self._apart[key]
        return replace(found, source=source) if isinstance(found, Rejected) else found

    def _known(self, node: fx.Node, target: Target) -> Row | Refusal | None:
        """What the table says of the op as it is: a reason against it, a row for it, or nothing."""
        op = str(node.target)
        row = self.table.row_of(op)
        types = _types(node)
        refusal = (
            (row.refusal if row is not None else self.table.family_of(op))
            or _data_dependence(node)
            or _dynamic(types)
            or self._dtype(types)
        )
        if refusal is not None or row is None:
            return refusal
        return self._by_row(row, node, target, types) or row

    def _dtype(self, types: list[TensorType]) -> Refusal | None:
        for name in map(_name, types):
            if name not in self.table.dtypes:
                general = Refusal(f"{self.table.label} does not compute in {name}", "dtype")
                return self.table.refused_dtypes.get(name, general)
        return None

    def _by_row(
        self, row: Row, node: fx.Node, target: Target, types: list[TensorType]
    ) -> Refusal | None:
        wrong = next((n for n in map(_name, types) if row.dtypes and n not in row.dtypes), None)
        first = [t for operand in node.all_input_nodes[:1] for t in _parts(operand)]
        wrong = wrong or next((n for n in map(_name, first) if n in row.refuses), None)
        if wrong is not None:
            message = f"{self.table.label} has {node.target}, but not in {wrong}"
            return Refusal(message, "dtype", "cast before it")
        if row.ranks is not None and first:
            rank, (low, high) = len(first[0].shape), row.ranks
            if not low <= rank <= high:
                allowed = f"{low}" if low == high else f"{low} to {high}"
                message = (
                    f"{self.table.label} has {node.target} for {allowed} dimensions, not {rank}"
                )
                return Refusal(message, "rank", "reshape, so that it has as many")
        found = (self._checks[name](node, target) for name in row.checks)
        return next((refusal for refusal in found if refusal is not None), None)

    def _taken_apart(self, node: fx.Node, target: Target) -> Verdict:
        parts = parts_of(node, self._decompositions())
        if parts is None:
            return self._nothing_known(node.target).at("")
        for part in parts:
            known = self._known(part, target)
            refusal = self._nothing_known(part.target) if known is None else known
            if isinstance(refusal, Refusal):
                message = f"{node.target} is made of {part.target}: {refusal.message}"
                return replace(refusal, message=message).at("")
        names = sorted({str(part.target) for part in parts})
        return Supported(f"made of {', '.join(names)}" if names else "does nothing to its operands")

    def _nothing_known(self, op: Any) -> Refusal:
        if self.table.closed:
            return Refusal(f"{self.table.label} has no counterpart of {op}")
        message = f"no source says that {self.table.label} takes {op}"
        return Refusal(message, "unproven", "write the step with more common ops")


def _types(node: fx.Node) -> list[TensorType]:
    """Of what a node gives and reads; what is not there has none."""
    return [type_ for one in (node, *node.all_input_nodes) for type_ in _parts(one)]


def _parts(node: fx.Node) -> list[TensorType]:
    type_ = node.meta["type"]
    parts = cast("tuple[Any, ...]", type_ if isinstance(type_, tuple) else (type_,))
    return [part for part in parts if part is not None]


def _name(type_: TensorType) -> str:
    return str(type_.dtype).removeprefix("torch.")


def _data_dependence(node: fx.Node) -> Refusal | None:
    tags = getattr(node.target, "tags", ())
    # An index of whole numbers has the tag as a mask has it; its result's size is known.
    unknown = any(None in type_.shape for type_ in _parts(node))
    if unknown and torch.Tag.dynamic_output_shape in tags:
        message = f"the size of what {node.target} gives depends on the data"
        advice = "write it with a mask of fixed size (torch.where), or make it a host op"
        return Refusal(message, "data-dependent", advice)
    if torch.Tag.data_dependent_output in tags:
        message = f"{node.target} reads a number out of the data"
        return Refusal(message, "data-dependent", "keep the number a tensor, or make it a host op")
    return None


def _dynamic(types: list[TensorType]) -> Refusal | None:
    if not any(None in type_.shape for type_ in types):
        return None
    advice = "pad to a fixed size, or make the step a part of the host op before it"
    return Refusal("a size is known only at run time", "dynamic-shape", advice)


# --- reading ------------------------------------------------------------------------------------


def read_table(path: Path) -> SupportTable:
    """Read a table.

    Raises:
        BackendError: it is malformed, or a row refers to evidence that is not there.
    """
    try:
        table = _table(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(path, f"{type(error).__name__}: {error}") from error
    _check_rows(table.rows, table.evidence, path)
    return table


def read_rows(document: Any, evidence: Mapping[str, Evidence], path: Path) -> dict[str, Row]:
    """Rows by name that rest on the evidence of a table in another file.

    Args:
        document: name -> entry, as a table has them.
        path: of the document, for messages.

    Raises:
        BackendError: they are malformed, or refer to evidence that is not there.
    """
    try:
        rows = {name: _row(entry) for name, entry in document.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(path, f"{type(error).__name__}: {error}") from error
    _check_rows(rows, evidence, path)
    return rows


def _check_rows(rows: Mapping[str, Row], evidence: Mapping[str, Evidence], path: Path) -> None:
    for name, row in rows.items():
        for reference in row.evidence:
            key, _, item = reference.partition(":")
            if key not in evidence:
                raise _malformed(path, f"{name} rests on {key!r}, which is no evidence")
            if item and item not in evidence[key].names:
                raise _malformed(path, f"{name} rests on {item!r}, which {key!r} does not list")


def _malformed(path: Path, what: str) -> BackendError:
    advice = "this is a defect of the package that brings the table"
    return BackendError(f"the support table is malformed: {what}", where=str(path), advice=advice)


def _table(document: Any) -> SupportTable:
    return SupportTable(
        label=document["label"],
        version=document["version"],
        date=document["date"],
        evidence={
            key: Evidence(e["source"], e["grade"], frozenset(e.get("names", ())))
            for key, e in document["evidence"].items()
        },
        dtypes=frozenset(document["dtypes"]),
        refused_dtypes={
            name: _refusal(entry, "dtype")
            for name, entry in document.get("refused_dtypes", {}).items()
        },
        rows={name: _row(entry) for name, entry in document["rows"].items()},
        families={
            name: _refusal(entry, "op-unsupported")
            for name, entry in document.get("families", {}).items()
        },
        closed=document.get("closed", False),
    )


def _row(entry: Any) -> Row:
    unknown = entry.keys() - {"evidence", "dtypes", "refuses", "ranks", "checks", "refusal"}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    refusal = entry.get("refusal")
    return Row(
        evidence=tuple(entry.get("evidence", ())),
        dtypes=frozenset(entry["dtypes"]) if "dtypes" in entry else None,
        refuses=frozenset(entry.get("refuses", ())),
        ranks=cast("tuple[int, int]", tuple(entry["ranks"])) if "ranks" in entry else None,
        checks=tuple(entry.get("checks", ())),
        refusal=None if refusal is None else _refusal(refusal, "op-unsupported"),
    )


def _refusal(entry: Any, code: Code) -> Refusal:
    given = entry.get("code", code)
    if given not in CODES:
        raise ValueError(f"unknown code {given!r}")
    return Refusal(entry["message"], given, entry.get("advice", ""), entry.get("detail", ""))
