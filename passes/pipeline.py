"""Pipelines of passes: data that prints and parses as a string, and the loop that runs them."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from partitioner.errors import UsageError
from partitioner.passes.base import Pass
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
    "eliminate-common": "partitioner.passes.eliminate_common:EliminateCommon",
    "eliminate-dead": "partitioner.passes.eliminate_dead:EliminateDead",
    "fold-constants": "partitioner.passes.fold_constants:FoldConstants",
    "inline-calls": "partitioner.passes.inline_calls:InlineCalls",
    "normalise": "partitioner.passes.normalise:Normalise",
    "transpose-weights": "partitioner.passes.transpose_weights:TransposeWeights",
}

#: What a build runs unless it is told otherwise.
DEFAULT = (
    "inline-calls,normalise,eliminate-dead,transpose-weights,fold-constants,"
    "eliminate-common,eliminate-dead"
)

_ITEM = re.compile(r"(?P<name>[a-z0-9-]+)(\{(?P<options>[^{}]*)\})?")


@dataclass(frozen=True)
class PassRecord:
    """What one pass did. Bytes are those of all constants."""

    name: str
    modified: bool
    seconds: float
    nodes_before: int
    nodes_after: int
    constants_before: int
    constants_after: int
    bytes_before: int
    bytes_after: int


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
    values: dict[str, int] = {}
    for item in options.split():
        key, _, value = item.partition("=")
        if key not in known or not re.fullmatch(r"-?\d+", value):
            raise UsageError(
                f"pass {name!r} does not take {item!r}",
                advice=f"its options are whole numbers: {', '.join(known) or 'none'}",
            )
        values[key] = int(value)
    return cls(**values)


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
    for one in passes:
        start = time.perf_counter()
        result = one.run(program)
        seconds = time.perf_counter() - start
        before, after = _size(program), _size(result.program)
        pairs = [size for both in zip(before, after, strict=True) for size in both]
        records.append(PassRecord(str(one), result.modified, seconds, *pairs))
        for observe in observers:
            observe(program, one, result.program)
        program = result.program
    return program, records


def _size(program: Program) -> tuple[int, int, int]:
    nodes = sum(len(graph.nodes) for _, graph in program.all_graphs())
    return nodes, len(program.constants), sum(t.nbytes for t in program.constants.values())


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
