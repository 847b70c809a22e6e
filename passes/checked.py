"""Check passes by running the program before and after each one.

The values that both programs compute are compared in the order of execution, so the first that
differs stands next to the mistake. Rounding is told from mistakes in two steps: a difference within
the pass's own ``tolerance`` is none; a larger one is weighed against what rounding does to that
very value in the program before (:func:`partitioner.passes.traces.rounding_noise`), so neither a
loop that amplifies rounding nor a difference of nearly equal numbers is a false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from partitioner.artifacts.manifest import Tolerance
from partitioner.errors import PassError, ProgramError
from partitioner.passes.base import Pass
from partitioner.passes.traces import (
    Key,
    Moment,
    Trace,
    depends_on_data,
    in_order,
    record,
    rounding_noise,
)
from partitioner.program import Program
from partitioner.runtime.compare import Difference, Gist, compare_gists

__all__ = ["Divergence", "check_passes", "find_divergence"]

#: Rounding may do so many times to a value what it did in the runs that measured it.
_ROUNDING_MARGIN = 32.0

_NOISY_RUNS = 2

#: So many nodes around a divergence are named.
_SHOWN = 5


@dataclass(frozen=True)
class Divergence:
    """The first value that a pass changed.

    Attributes:
        node: of the program after the pass; None where only an output differs.
        value: what differs, for people.
        trip: of the loop in whose body it stands.
        source: the user's line.
        stage: path of the stage.
        error: L2 norm of the difference by that of the value before, or infinite.
        allowed: the error that rounding explains.
        fault: what is wrong where it is more than a difference.
        made: new nodes that the value is computed from, nearest first.
        outputs: output name -> error, of those that differ.
    """

    node: fx.Node | None
    value: str
    trip: int | None
    source: str
    stage: str
    error: float
    allowed: float
    fault: str
    made: tuple[str, ...]
    outputs: dict[str, float]


def check_passes(
    inputs: Mapping[str, torch.Tensor],
) -> Callable[[Program, Pass | None, Program], None]:
    """An observer for :func:`partitioner.passes.pipeline.run_pipeline` that checks every pass.

    Args:
        inputs: a tensor for each placeholder of the first program's main graph, draws included.

    The observer raises a PassError at the pass that changed the numbers; it names the pass, the
    first value that differs and its source line.
    """
    traces: list[Trace] = []

    def observe(before: Program, one: Pass | None, after: Program) -> None:
        if one is None:
            traces[:] = [record(after, inputs)]
            return
        try:
            trace = record(after, inputs, limit=traces[0].limit)
        except ProgramError as error:
            raise PassError(
                f"pass {one.name!r} made a program that cannot be run: {error.what}",
                where=error.where,
                advice=_advice(one),
            ) from error
        found = find_divergence(before, traces[0], trace, inputs, one)
        if found is not None:
            raise _error(one, found)
        traces[:] = [trace]

    return observe


def find_divergence(
    program: Program,
    before: Trace,
    after: Trace,
    inputs: Mapping[str, torch.Tensor],
    one: Pass,
) -> Divergence | None:
    """The first value that differs by more than rounding; None if there is none.

    Args:
        program: that ``before`` is the trace of.
        one: the pass, for its ``tolerance`` and ``keeps_values``.
    """
    outputs = {
        name: _error_of(before.outputs[name], gist, exact=name not in before.inexact)
        for name, gist in after.outputs.items()
    }
    pairs = list(_pairs(before, after))
    far = [pair for pair in pairs if not pair.difference.relative <= one.tolerance]
    wrong = {name: d for name, d in outputs.items() if not d.relative <= one.tolerance}
    if not wrong and not (one.keeps_values and any(pair.stays for pair in far)):
        return None
    rounding = _rounding(program, before, inputs, {pair.key for pair in far}, one)
    far = [p for p in far if not p.difference.relative <= rounding.allowed((p.key, p.index))]
    wrong = {n: d for n, d in wrong.items() if not d.relative <= rounding.allowed(n)}
    if not wrong and not (one.keeps_values and any(pair.stays for pair in far)):
        return None
    errors = {name: difference.relative for name, difference in wrong.items()}
    if far:
        allowed = rounding.allowed((far[0].key, far[0].index))
        return _at_value(far[0], before, after, errors, allowed)
    name, difference = next(iter(wrong.items()))
    return Divergence(
        None,
        f"output {name!r}",
        None,
        "",
        "",
        difference.relative,
        rounding.allowed(name),
        difference.fault,
        (),
        errors,
    )


# --- pairs of values ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """A value after the pass and what it was before.

    Attributes:
        key: of the value before.
        index: which of the times that the value after was computed.
        stays: it is in the same graph under the same name, and computed as often.
    """

    key: Key
    now: Key
    index: int
    difference: Difference
    stays: bool


def _pairs(before: Trace, after: Trace) -> Iterator[_Pair]:
    """The values that both programs compute, in the order of execution after the pass."""
    homes = _homes(before, after)
    for now, index in in_order(after):
        key = now if now in before.values else _moved_from(now, homes, before, after)
        if key is None or before.nodes[key].meta["type"] != after.nodes[now].meta["type"]:
            continue
        counterparts = _counterparts(before.values[key], after.values[now], index)
        if not counterparts:
            continue
        gist, exact = after.values[now][index].gist, not depends_on_data(after.nodes[now])
        differences = [_error_of(old.gist, gist, exact=exact) for old in counterparts]
        worst = max(differences, key=lambda d: math.inf if d.fault else d.relative)
        often = len(before.values[key]) == len(after.values[now])
        yield _Pair(key, now, index, worst, stays=key == now and often)


def _counterparts(old: Sequence[Moment], new: Sequence[Moment], index: int) -> Sequence[Moment]:
    """What a value was before; several where it is computed once now, and must fit all of them."""
    if len(old) == len(new):
        return old[index : index + 1]
    return old if len(new) == 1 else ()


def _homes(before: Trace, after: Trace) -> dict[str, list[Key]]:
    """Name -> the places before of values that are no longer there."""
    homes: dict[str, list[Key]] = {}
    for key in before.values:
        if key not in after.values:
            homes.setdefault(key[1], []).append(key)
    return homes


def _moved_from(
    now: Key, homes: Mapping[str, list[Key]], before: Trace, after: Trace
) -> Key | None:
    """Where a node of another graph was before: it keeps its name, op and source line."""
    node = after.nodes[now]
    found = [
        key
        for key in homes.get(now[1], ())
        if before.nodes[key].target is node.target
        and before.nodes[key].meta.get("source") == node.meta.get("source")
    ]
    return found[0] if len(found) == 1 else None


def _error_of(before: Gist, after: Gist, *, exact: bool) -> Difference:
    """The larger of the errors of the samples and of the norm."""
    same = before.norm == after.norm and before.spec == after.spec
    if same and np.array_equal(before.values, after.values):
        return Difference(0.0, 0.0, ok=True)
    nothing = Tolerance(0.0, 0.0)
    difference = compare_gists(before, after, nothing, exact=exact)
    if not exact:
        return Difference(0.0, 0.0, ok=True) if difference.ok else difference
    if difference.ok or difference.fault or before.norm == after.norm:
        return difference
    norm = abs(before.norm - after.norm) / (before.norm or 1.0)
    return difference if norm <= difference.relative else Difference(norm, norm, ok=False)


# --- rounding -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rounding:
    """What rounding does to values (by key and time) and outputs (by name) of one program."""

    tolerance: float
    spread: Mapping[tuple[Key, int] | str, float]

    def allowed(self, what: tuple[Key, int] | str) -> float:
        return max(self.tolerance, _ROUNDING_MARGIN * self.spread.get(what, 0.0))


def _rounding(
    program: Program,
    before: Trace,
    inputs: Mapping[str, torch.Tensor],
    keys: set[Key],
    one: Pass,
) -> _Rounding:
    """Measure it, for the values that are under suspicion."""
    spread: dict[tuple[Key, int] | str, float] = {}
    if one.tolerance == 0.0:
        # Such a pass moves and removes ops; it has no rounding of its own.
        return _Rounding(0.0, spread)
    for seed in range(_NOISY_RUNS):
        with rounding_noise(seed):
            noisy = record(program, inputs, only=keys, limit=before.limit)
        for key, moments in noisy.values.items():
            for index, (old, new) in enumerate(zip(before.values[key], moments, strict=True)):
                _widen(spread, (key, index), _error_of(old.gist, new.gist, exact=True))
        for name, gist in noisy.outputs.items():
            exact = name not in before.inexact
            _widen(spread, name, _error_of(before.outputs[name], gist, exact=exact))
    return _Rounding(one.tolerance, spread)


def _widen(
    spread: dict[tuple[Key, int] | str, float],
    what: tuple[Key, int] | str,
    difference: Difference,
) -> None:
    spread[what] = max(spread.get(what, 0.0), difference.relative)


# --- messages -----------------------------------------------------------------------------------


def _at_value(
    pair: _Pair, before: Trace, after: Trace, outputs: dict[str, float], allowed: float
) -> Divergence:
    node, trip = after.nodes[pair.now], after.values[pair.now][pair.index].trip
    place = f"graph {pair.now[0]!r}" + ("" if trip is None else f", trip {trip}")
    moved = "" if pair.now[0] == pair.key[0] else f", moved here from graph {pair.key[0]!r}"
    return Divergence(
        node,
        f"node {node.name!r} ({_what(node)}) of {place}{moved}",
        trip,
        _source(node),
        node.meta.get("stage", ""),
        pair.difference.relative,
        allowed,
        pair.difference.fault,
        tuple(_made(pair.now, before, after)),
        outputs,
    )


def _what(node: fx.Node) -> str:
    return f"constant {node.target}" if node.op == "get_attr" else str(node.target)


def _source(node: fx.Node) -> str:
    """The node's line, or that of the first node that reads it and has one."""
    nodes = (node, *node.users)
    return next((n.meta["source"] for n in nodes if n.meta.get("source")), "")


def _made(now: Key, before: Trace, after: Trace) -> Iterator[str]:
    """Nodes that the pass made and that the value is computed from."""
    graph, pending, seen = now[0], [after.nodes[now]], set[fx.Node]()
    while pending and len(seen) < _SHOWN:
        node = pending.pop(0)
        for operand in node.all_input_nodes:
            if (graph, operand.name) not in before.values and operand not in seen:
                seen.add(operand)
                pending.append(operand)
                yield f"{operand.name} ({_what(operand)})"


def _error(one: Pass, found: Divergence) -> PassError:
    size = found.fault or f"differs by {found.error:.3g} relative, allowed are {found.allowed:.3g}"
    lines = [f"pass {one.name!r} changed the numbers: {found.value} {size}"]
    if found.made:
        lines.append(f"  computed from what the pass made: {', '.join(found.made)}")
    if found.outputs:
        errors = ", ".join(f"{name} by {error:.3g}" for name, error in found.outputs.items())
        lines.append(f"  outputs that differ: {errors}")
    return PassError("\n".join(lines), where=found.source or None, advice=_advice(one))


def _advice(one: Pass) -> str:
    return (
        f"this is a defect of the pass: build without it (--passes), and report it with the "
        f"programs around {one.name!r} that --dump-passes writes"
    )
