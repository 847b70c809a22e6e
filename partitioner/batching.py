"""Batches: a pipeline captured with several requests at once, and what its rows are.

A *bucket* is the pipeline captured with so many rows, a row for each request. What makes it one is
found by comparison with the pipeline captured with one row: which outputs have a row for each
request, and that every draw has one. So a row of a bucket can be given what it would be given
alone, and gives what it would give alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from partitioner.artifacts.manifest import Batch
from partitioner.batch_faults import captured_with, line_of_lost_rows
from partitioner.capture import Captured
from partitioner.capture.structure import named_tensors, replace_leaves
from partitioner.errors import CaptureError, UsageError
from partitioner.program import Program, TensorType, node_type, types_of
from partitioner.rowcounts import RowRange
from partitioner.specs import Noise
from partitioner.taken_rows import with_taken_rows, without_last_row

__all__ = [
    "Bucket",
    "Size",
    "check_sizes",
    "check_with_ranges",
    "find_batch",
    "make_buckets",
    "parse_sizes",
    "row_inputs",
    "single_batch",
    "with_rows",
]

#: More rows than that are a slip of the keyboard.
MAX_ROWS = 4096

#: So many requests, or any number of a range, by one graph with a symbol for the rows.
Size = int | RowRange


def parse_sizes(text: str) -> tuple[Size, ...]:
    """The sizes of ``--batch``, in rising order: ``1,4``, or with a range ``1-8``.

    Raises:
        UsageError: not positive whole numbers, each once.
    """
    return check_sizes([item.strip() for item in text.split(",")])


def check_sizes(sizes: Sequence[int | str | RowRange]) -> tuple[Size, ...]:
    """The sizes of buckets, in rising order.

    Args:
        sizes: numbers, and ranges such as ``"1-8"``.

    Raises:
        UsageError: they are not 1 to 4096, each once.
    """
    found = [_size(one) for one in sizes]
    every = [rows for one in found for rows in _rows_of(one)]
    if len(set(every)) < len(every):
        texts = ", ".join(map(str, found))
        raise UsageError(f"the batch sizes {texts} name one twice", advice="leave one out")
    return tuple(sorted(found, key=lambda one: _rows_of(one)[0]))


def check_with_ranges(sizes: Sequence[Size], asked: Mapping[str, bool]) -> None:
    """Refuse a range beside options of a build that take static sizes.

    Args:
        asked: option -> whether it is asked for.

    Raises:
        UsageError: names the range and the option.
    """
    span = next((size for size in sizes if isinstance(size, RowRange)), None)
    option = next((name for name, given in asked.items() if given), None)
    if span is not None and option is not None:
        raise UsageError(
            f"{option} takes buckets of one size each, not the range {span}",
            advice="build with --batch 1,4",
        )


def _size(given: int | str | RowRange) -> Size:
    size: Size = given if not isinstance(given, str) else _parsed(given)
    ends = (size.least, size.most) if isinstance(size, RowRange) else (size,)
    wrong = next((rows for rows in ends if not 1 <= rows <= MAX_ROWS), None)
    if wrong is not None:
        raise UsageError(f"a batch has 1 to {MAX_ROWS} rows, not {wrong}")
    return size


def _parsed(text: str) -> Size:
    found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", text)
    if found is None:
        raise UsageError(f"--batch takes sizes such as 1,4 or 1-8, not {text!r}")
    least, most = found.groups()
    return int(least) if most is None else RowRange(int(least), int(most))


def _rows_of(size: Size) -> Sequence[int]:
    return size.sizes if isinstance(size, RowRange) else (size,)


def row_inputs(example_inputs: Mapping[str, Any], named: Sequence[str] | None) -> tuple[str, ...]:
    """The inputs that have a row for each request, in dimension 0.

    Args:
        named: by the model's author; without, all of them, which must then have equally many.

    Raises:
        UsageError: a name is not an input's, or it cannot be known which have rows.
    """
    tensors = named_tensors(example_inputs)
    names = tuple(tensors) if named is None else tuple(named)
    unknown = [name for name in names if name not in tensors]
    if unknown:
        raise UsageError(
            f"batched names {unknown[0]!r}, but the example inputs are {', '.join(tensors)}"
        )
    counts = {name: tensors[name].shape[0] if tensors[name].ndim else 0 for name in names}
    if not names or 0 in counts.values() or len(set(counts.values())) > 1:
        texts = ", ".join(f"{name} {list(tensors[name].shape)}" for name in names)
        raise UsageError(
            f"the inputs do not have equally many rows in dimension 0: {texts or 'there is none'}",
            advice="say which have a row for each request: batched = ('image',) in the model file, "
            "or build(batched=...)",
        )
    return names


def with_rows(example_inputs: Mapping[str, Any], names: Sequence[str], rows: int) -> dict[str, Any]:
    """The example inputs with so many rows.

    The rows of the example come first. Further ones are the same, turned along the last dimension
    by one more each time around: other rows of the same values, so that a mix-up shows.
    """

    def repeated(name: str, leaf: Any) -> Any:
        if name not in names or not isinstance(leaf, torch.Tensor):
            return leaf
        return torch.cat([_row(leaf, index) for index in range(rows)])

    return {key: replace_leaves(value, key, repeated) for key, value in example_inputs.items()}


def _row(tensor: torch.Tensor, index: int) -> torch.Tensor:
    turns, place = divmod(index, tensor.shape[0])
    row = tensor[place : place + 1]
    return row.roll(turns, -1) if turns and row.ndim > 1 else row


# --- buckets ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bucket:
    """A pipeline with so many rows, or one that serves one request and says nothing of rows.

    Attributes:
        example_inputs: with these rows.
        captures: a variant each.
        batch: what its rows are; None for a pipeline that is built without batch sizes.
        span: the range that it serves, up to these rows; None for these rows only.
        more: captures with one row more, where there is a range.
    """

    example_inputs: dict[str, Any]
    captures: tuple[Captured, ...]
    batch: Batch | None
    span: RowRange | None = None
    more: tuple[Captured, ...] = ()

    @property
    def rows(self) -> int:
        """How many requests it serves at once."""
        return 1 if self.batch is None else self.batch.rows

    def filled(self, examples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Other examples of the pipeline with these rows, as :func:`with_rows` makes them."""
        if self.batch is None:
            return list(examples)
        return [with_rows(one, self.batch.inputs, self.batch.rows) for one in examples]


def make_buckets(
    captured: Callable[[Mapping[str, Any]], Sequence[Captured]],
    example_inputs: Mapping[str, Any],
    names: Sequence[str],
    sizes: Sequence[Size],
) -> tuple[Bucket, ...]:
    """Capture a pipeline with each number of rows; for a range, with the most and one more.

    Args:
        captured: captures the pipeline on example inputs, each variant of it.
        names: of the inputs that have rows.
        sizes: in rising order.

    Raises:
        CaptureError: the pipeline cannot be captured, or is written for one request; says where.
    """
    given = with_rows(example_inputs, names, 1)
    alone = tuple(captured(given))

    def bucket(rows: int) -> Bucket:
        inputs = with_rows(example_inputs, names, rows)
        with captured_with(rows):
            captures = tuple(captured(inputs))
        pairs = zip(alone, captures, strict=True)
        batches = [find_batch(one, many, rows, names) for one, many in pairs]
        return Bucket(inputs, captures, batches[0])

    buckets = [
        _for_range(bucket(size.most), bucket(size.most + 1), size)
        if isinstance(size, RowRange)
        else bucket(size)
        for size in sizes
        if size != 1
    ]
    if 1 not in sizes:
        return tuple(buckets)
    larger = buckets[0].batch if buckets else None
    batch = replace(larger, rows=1) if larger else single_batch(alone[0].program, names)
    return (Bucket(given, alone, batch), *buckets)


def _for_range(most: Bucket, more: Bucket, span: RowRange) -> Bucket:
    """A bucket for a range: both captures with rows that are taken one by one as calls."""
    assert most.batch is not None
    listed = most.batch.listed

    def taken(one: Captured, rows: int) -> Captured:
        return replace(one, program=with_taken_rows(one.program, rows))

    def shortened(one: Captured) -> Captured:
        return replace(one, program=without_last_row(one.program, listed, span.most + 1))

    return replace(
        most,
        captures=tuple(taken(one, span.most) for one in most.captures),
        more=tuple(shortened(taken(one, span.most + 1)) for one in more.captures),
        span=span,
    )


# --- what has rows ------------------------------------------------------------------------------


def single_batch(program: Program, names: Sequence[str]) -> Batch:
    """What a bucket of one row is, where there is no larger one to compare with.

    Requests do not meet in it, so nothing can go wrong: outputs with one row in dimension 0 are
    stacked, all others listed.
    """
    types = _output_types(program)
    stacked = tuple(name for name, type_ in types.items() if type_.shape[:1] == (1,))
    listed = tuple(dict.fromkeys(_base(name) for name in types if name not in stacked))
    return Batch(1, tuple(names), stacked, listed)


def find_batch(one: Captured, many: Captured, rows: int, names: Sequence[str]) -> Batch:
    """What the rows of a bucket are, by comparison with the pipeline captured with one row.

    Raises:
        CaptureError: draws, or an output, have no row for each request; says where.
    """
    _check_noise(many.program, names)
    _check_draws(one.program, many.program, rows)
    alone, types = _output_types(one.program), _output_types(many.program)
    stacked: list[str] = []
    listed: list[str] = []
    for name, type_ in alone.items():
        base = _base(name)
        if _is_stacked(type_, types.get(name), rows):
            stacked.append(name)
        elif name in _constant_outputs(many.program):
            continue
        elif all(types.get(f"{base}.{row}") == type_ for row in range(rows)):
            listed.append(base)
        else:
            _refuse_output(one.program, many.program, name, rows)
    return Batch(rows, tuple(names), tuple(stacked), tuple(listed))


def _output_types(program: Program) -> dict[str, TensorType]:
    nodes = cast("tuple[torch.fx.Node, ...]", program.main.output_node().args[0])
    return dict(zip(program.outputs, types_of(nodes), strict=True))


def _constant_outputs(program: Program) -> set[str]:
    """Those that depend on no input: the same for all requests."""
    nodes = cast("tuple[torch.fx.Node, ...]", program.main.output_node().args[0])
    return {n for n, node in zip(program.outputs, nodes, strict=True) if node.op == "get_attr"}


def _base(name: str) -> str:
    """The output whose first row this is: a pipeline may list its only row, too."""
    return name.removesuffix(".0")


def _is_stacked(alone: TensorType, together: TensorType | None, rows: int) -> bool:
    return (
        together is not None
        and together == TensorType((rows, *alone.shape[1:]), alone.dtype)
        and alone.shape[:1] == (1,)
    )


def _refuse_output(one: Program, many: Program, name: str, rows: int) -> None:
    alone, together = _output_types(one)[name].spec, _output_types(many).get(name)
    given = "is not there" if together is None else f"is {together.spec}"
    raise CaptureError(
        f"the output {name!r} is {alone} for one request, but {given} for {rows}: it has no row "
        "for each",
        where=line_of_lost_rows(one, many, name),
        advice="keep the batch in dimension 0 to the end, or return a list with an item for each "
        "row where rows differ in size; `--batch 1` serves several requests one by one",
    )


def _check_noise(program: Program, names: Sequence[str]) -> None:
    for spec in program.inputs:
        if isinstance(spec.how, Noise) and spec.name not in names:
            raise UsageError(
                f"the noise {spec.name!r} has no row for each request",
                advice="name it in `batched`, with the other inputs that have rows",
            )


def _check_draws(one: Program, many: Program, rows: int) -> None:
    pairs = list(zip(one.draws, many.draws, strict=False))
    nodes = [{n.target: n for n in p.main.nodes if n.op == "placeholder"} for p in (one, many)]
    if len(one.draws) != len(many.draws):
        raise CaptureError(
            f"the pipeline draws random numbers in another way for {rows} requests than for one",
            advice="draw once for all rows: torch.randn(x.shape[0], ...)",
        )
    for alone, together in pairs:
        same = alone.repeat == together.repeat and len(alone.draws) == len(together.draws)
        for own, other in zip(alone.draws, together.draws, strict=False):
            types = [node_type(nodes[0][own.placeholder]), node_type(nodes[1][other.placeholder])]
            same &= (own.distribution, own.args, own.stream, own.row) == (
                other.distribution,
                other.args,
                other.stream,
                other.row,
            )
            if not same or not _has_rows(types[0], types[1], rows, axis=int(own.row)):
                source = nodes[1][other.placeholder].meta["source"]
                _refuse_draw(types[1], rows, source, axis=int(own.row))


def _has_rows(alone: TensorType, together: TensorType, rows: int, axis: int) -> bool:
    wanted = (*alone.shape[:axis], rows, *alone.shape[axis + 1 :])
    return alone.shape[axis : axis + 1] == (1,) and together.shape == wanted


def _refuse_draw(drawn: TensorType, rows: int, source: str, axis: int) -> None:
    shape = list(drawn.shape[axis:])
    raise CaptureError(
        f"the pipeline draws random numbers of the shape {shape} for {rows} requests: they have no "
        "row for each",
        where=source or None,
        advice="draw with the batch of an input in dimension 0: torch.randn(x.shape[0], ...)",
    )
