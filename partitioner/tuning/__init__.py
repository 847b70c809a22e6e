"""``--tune``: measurements on this machine instead of estimates.

1. A plan is made by the estimates, and its segments are taken apart by stage (:mod:`.pieces`).
2. Each piece is measured on each backend that takes all of it and can run here
   (:mod:`.measuring`); measurements are kept on the host (:mod:`.records`).
3. The nodes of a piece get the factor measured / estimated, so the same planner, with borders,
   calls and limits as before, finds the best assignment by measured seconds.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from partitioner.artifacts.writer import BundleWriter
from partitioner.backends import find_backend
from partitioner.backends.base import CompileOptions
from partitioner.errors import UsageError
from partitioner.planning.planned import Planned
from partitioner.planning.scale import Scale
from partitioner.program import Program
from partitioner.targets import Target
from partitioner.tuning.measuring import Measured, Workbench
from partitioner.tuning.pieces import Piece, pieces_of
from partitioner.tuning.records import Records, key_of

__all__ = ["Tuned", "scale_of", "tune"]

#: A piece that a backend cannot compile costs so much more there than elsewhere.
_FAILED = 1e6


@dataclass(frozen=True)
class Tuned:
    """What was measured of one piece.

    Attributes:
        piece: for people; see :attr:`Piece.label`.
        graph: the program's graph it is in.
        nodes: how many ops and items it has.
        seconds: backend -> the median of its runs; None where it failed.
        failures: backend -> why.
        cached: the backends whose figure was measured earlier.

    ``plain`` and ``read`` turn it into JSON's types and back, for a manifest.
    """

    piece: str
    graph: str
    nodes: int
    seconds: Mapping[str, float | None]
    failures: Mapping[str, str]
    cached: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """What placement depends on."""
        return {
            "piece": self.piece,
            "graph": self.graph,
            "nodes": self.nodes,
            "seconds": dict(self.seconds),
            "failures": dict(self.failures),
        }

    @classmethod
    def read(cls, document: Any) -> Tuned:
        """The same again.

        Raises:
            TypeError, KeyError, ValueError: the document is not of that form.
        """
        seconds = {
            str(name): None if value is None else float(value)
            for name, value in document["seconds"].items()
        }
        failures = {str(name): str(text) for name, text in document["failures"].items()}
        return cls(
            str(document["piece"]),
            str(document["graph"]),
            int(document["nodes"]),
            seconds,
            failures,
        )


def tune(
    program: Program,
    planned: Planned,
    target: Target,
    records: Records | None = None,
    options: CompileOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Tuned], Scale]:
    """Measure the pieces of a plan.

    Args:
        planned: made by the estimates.
        records: where measurements are kept; the host's cache directory by default.
        options: how the build will compile; its folders are not used.
        progress: called with the pieces done and their number.

    Raises:
        UsageError: fewer than two of the target's backends can run here.
    """
    able = _able(target)
    records = records or Records()
    pieces = pieces_of(program, planned, target)
    tuned: list[Tuned] = []
    with (
        tempfile.TemporaryDirectory(prefix="partitioner-") as name,
        BundleWriter(Path(name) / "weights") as writer,
    ):
        folder = Path(name)
        own = CompileOptions(folder, writer.blobs_dir) if options is None else options
        bench = Workbench(
            program.constants, writer, folder, replace(own, target=target, defer=False)
        )
        for count, piece in enumerate(pieces):
            if progress is not None:
                progress(count, len(pieces))
            backends = [b for b in piece.takers if b in able]
            tuned.append(_measure(piece, backends, bench, records))
    return tuned, scale_of(pieces, tuned)


def _able(target: Target) -> list[str]:
    """The backends that compile and run here.

    Raises:
        UsageError: there is nothing to choose from.
    """
    able = [n for n in target.backends if n != "host" and not find_backend(n).missing()]
    if len(able) < 2:
        raise UsageError(
            f"tuning for {target.name!r} has nothing to choose from: of its backends "
            f"({', '.join(target.backends)}) {', '.join(able) or 'none'} can run here",
            advice="install another of them, name more (--backends openvino,onnx), or do not tune",
        )
    return able


def _measure(piece: Piece, backends: Sequence[str], bench: Workbench, records: Records) -> Tuned:
    keys = {name: key_of(piece.part, name, bench.options) for name in backends}
    known = {name: seconds for name, key in keys.items() if (seconds := records.find(key))}
    results = {name: Measured(seconds) for name, seconds in known.items()}
    missing = [name for name in backends if name not in known]
    # Measured together, so that they compare: a figure of another day is replaced with the others.
    if missing and len(backends) > 1:
        results, known = bench.measure(piece.part, backends), {}
        for name, measured in results.items():
            if measured.seconds is not None and not measured.limited:
                records.keep(keys[name], measured.seconds)
    return Tuned(
        piece.label,
        piece.graph,
        len(piece.part.nodes),
        {name: measured.seconds for name, measured in results.items()},
        {name: measured.failure for name, measured in results.items() if measured.failure},
        tuple(known),
    )


def scale_of(pieces: Sequence[Piece], tuned: Sequence[Tuned]) -> Scale:
    """Factors on estimates: measured seconds by estimated ones, piece by piece."""
    found: dict[str, list[float]] = {}
    rows: list[dict[str, float]] = []
    for piece, own in zip(pieces, tuned, strict=True):
        row = {
            name: seconds / piece.estimate[name]
            for name, seconds in own.seconds.items()
            if seconds is not None and piece.estimate[name] > 0
        }
        rows.append(row)
        for name, factor in row.items():
            found.setdefault(name, []).append(factor)
    usual = {name: statistics.median(factors) for name, factors in found.items()}
    most = max(usual.values(), default=1.0)
    factors: dict[str, dict[str, dict[str, float]]] = {}
    for piece, own, row in zip(pieces, tuned, rows, strict=True):
        failed = dict.fromkeys(own.failures, most * _FAILED)
        whole = {**row, **failed}
        for node in piece.part.nodes:
            factors.setdefault(piece.graph, {})[node.name] = whole
    return Scale(factors, usual)
