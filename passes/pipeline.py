"""Pipelines of passes: data that prints and parses as a string, and the loop that runs them."""

from __future__ import annotations

import dataclasses
import difflib
import gc
import importlib
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from partitioner.errors import UsageError
from partitioner.passes.base import Pass
from partitioner.passes.costs import program_cost
from partitioner.printer import format_program
from partitioner.program import Program

__all__ = [
    "DEFAULT",
    "PASSES",
    "PassRecord",
    "dump_to",
    "format_pipeline",
    "parse_pipeline",
    "run_pipeline",
]

#: name -> ``module:class``, imported when it is first asked for.
PASSES: dict[str, str] = {
    "autocast": "partitioner.passes.autocast:Autocast",
    "batch-steps": "partitioner.passes.batch_steps:BatchSteps",
    "cancel-differences": "partitioner.passes.cancel_differences:CancelDifferences",
    "cheapen-moves": "partitioner.passes.cheapen_moves:CheapenMoves",
    "eliminate-common": "partitioner.passes.eliminate_common:EliminateCommon",
    "eliminate-dead": "partitioner.passes.eliminate_dead:EliminateDead",
    "expand-distances": "partitioner.passes.expand_distances:ExpandDistances",
    "fold-constants": "partitioner.passes.fold_constants:FoldConstants",
    "fold-zeros": "partitioner.passes.fold_zeros:FoldZeros",
    "hoist-invariants": "partitioner.passes.hoist_invariants:HoistInvariants",
    "inline-calls": "partitioner.passes.inline_calls:InlineCalls",
    "legalise-dtypes": "partitioner.passes.legalise_dtypes:LegaliseDtypes",
    "narrow-batch": "partitioner.passes.narrow_batch:NarrowBatch",
    "normalise": "partitioner.passes.normalise:Normalise",
    "rewrite-gathers": "partitioner.passes.rewrite_gathers:RewriteGathers",
    "spread-steps": "partitioner.passes.spread_steps:SpreadSteps",
    "split-batch": "partitioner.passes.split_batch:SplitBatch",
    "store-weights": "partitioner.passes.store_weights:StoreWeights",
    "tabulate-steps": "partitioner.passes.tabulate_steps:TabulateSteps",
    "transpose-weights": "partitioner.passes.transpose_weights:TransposeWeights",
    "unroll-filters": "partitioner.passes.unroll_filters:UnrollFilters",
}

#: What a build runs unless it is told otherwise: first one spelling for everything and the cheaper
#: forms of it, then loops are relieved of what need not be done in every step, then weights are
#: laid out and folded. Gathers come before folding, which would make data of their indices.
DEFAULT = (
    "inline-calls,normalise,eliminate-dead,"
    "rewrite-gathers,fold-zeros,cancel-differences,expand-distances,fold-constants,unroll-filters,"
    "eliminate-dead,narrow-batch,split-batch,fold-constants,tabulate-steps,hoist-invariants,batch-steps,"
    "eliminate-dead,normalise,cheapen-moves,transpose-weights,fold-constants,eliminate-common,eliminate-dead"
)

#: What an option may be that is no number: dtypes joined by +, stages with a dtype each.
_WORD = r"[A-Za-z0-9_.:+-]*"

_ITEM = re.compile(r"(?P<name>[a-z0-9-]+)(\{(?P<options>[^{}]*)\})?")


@dataclass(frozen=True)
class PassRecord:
    """What one pass did.

    Attributes:
        name: with the options that differ from their defaults.
        nodes_before, nodes_after: of all graphs.
        constants_before, constants_after: how many; ``bytes_...`` are those of all of them.
        operations_before, operations_after: of one run, as :mod:`partitioner.passes.costs` counts.
        step_weight_bytes_before, step_weight_bytes_after: bytes of constants that one trip of each
            loop reads.
        notes: the pass's own lines.
    """

    name: str
    modified: bool
    seconds: float
    nodes_before: int
    nodes_after: int
    constants_before: int
    constants_after: int
    bytes_before: int
    bytes_after: int
    operations_before: int
    operations_after: int
    step_weight_bytes_before: int
    step_weight_bytes_after: int
    notes: tuple[str, ...] = ()


#: Called after each pass with (program before, pass or None at the start, program after).
Observer = Callable[[Program, Pass | None, Program], None]


def parse_pipeline(text: str) -> tuple[Pass, ...]:
    """Passes of a string such as ``normalise,fold-constants{budget=1024}``.

    Raises:
        UsageError: an unknown pass or option, or a malformed string.
    """
    passes: list[Pass] = []
    position = 0
    while position < len(text):
        match = _ITEM.match(text, position)
        after = match.end() if match else position
        if match is None or (after < len(text) and text[after] != ","):
            raise UsageError(
                f"the pass pipeline cannot be read at {text[position:][:30]!r}",
                advice="write names with options: normalise,fold-constants{budget=1024}",
            )
        passes.append(_make(match["name"], match["options"] or ""))
        position = after + 1
    return tuple(passes)


def format_pipeline(passes: Sequence[Pass]) -> str:
    """The string that :func:`parse_pipeline` reads."""
    return ",".join(str(p) for p in passes)


def _make(name: str, options: str) -> Pass:
    home = PASSES.get(name)
    if home is None:
        near = difflib.get_close_matches(name, PASSES, 1)
        raise UsageError(
            f"there is no pass {name!r}",
            advice=f"did you mean {near[0]!r}?" if near else f"passes: {', '.join(PASSES)}",
        )
    module, kind = home.split(":")
    cls: type[Pass] = getattr(importlib.import_module(module), kind)
    known = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, int | str] = {}
    for item in options.split():
        key, _, value = item.partition("=")
        # An option is what its default is: a whole number or a word.
        whole = key in known and isinstance(known[key].default, int)
        if key not in known or not re.fullmatch(r"-?\d+" if whole else _WORD, value):
            raise UsageError(
                f"pass {name!r} does not take {item!r}",
                advice=f"its options are {', '.join(map(_option, known.values())) or 'none'}",
            )
        if key in values:
            raise UsageError(f"pass {name!r} is given {key} twice", advice="leave one out")
        values[key] = int(value) if whole else value
    return cls(**cast(Any, values))


def _option(field: dataclasses.Field[Any]) -> str:
    kind = "a whole number" if isinstance(field.default, int) else "a word"
    return f"{field.name} ({kind})"


def run_pipeline(
    program: Program, passes: Sequence[Pass], *, observers: Sequence[Observer] = ()
) -> tuple[Program, list[PassRecord]]:
    """Run passes in order, each checked by its base class.

    Returns:
        the last program, and what each pass did.
    """
    for observe in observers:
        observe(program, None, program)
    records: list[PassRecord] = []
    before, known = _measures(program), None
    for one in passes:
        start = time.perf_counter()
        with _no_collections():
            result = one.run(program, known=known)
        seconds = time.perf_counter() - start
        after = _measures(result.program) if result.modified else before
        pairs = [number for both in zip(before, after, strict=True) for number in both]
        records.append(PassRecord(str(one), result.modified, seconds, *pairs, notes=result.notes))
        for observe in observers:
            observe(program, one, result.program)
        program, before, known = result.program, after, result.fingerprint
    return program, records


@contextmanager
def _no_collections() -> Generator[None, None, None]:
    """Let the garbage collector wait until a pass is done.

    A pass makes every node anew and they all live, so looking for garbage among them finds none,
    and takes two fifths of the time of all passes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _measures(program: Program) -> tuple[int, int, int, int, int]:
    """The numbers of a record, in its order."""
    cost = program_cost(program)
    return (
        sum(len(graph.nodes) for _, graph in program.all_graphs()),
        len(program.constants),
        sum(tensor.nbytes for tensor in program.constants.values()),
        cost.operations,
        cost.step_weight_bytes,
    )


def dump_to(directory: Path) -> Observer:
    """An observer that writes ``00-capture.txt``, ``01-normalise.txt``, ... for people to read."""
    directory.mkdir(parents=True, exist_ok=True)
    count = 0

    def observe(before: Program, one: Pass | None, after: Program) -> None:
        nonlocal count
        name = one.name if one is not None else "capture"
        target = directory / f"{count:02d}-{name}.txt"
        partial = target.with_suffix(".partial")
        partial.write_text(format_program(after))
        partial.replace(target)
        count += 1

    return observe
