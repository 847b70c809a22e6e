"""What a benchmark has found; all times in seconds, all sizes in bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from partitioner.benching.measuring import Spent
from partitioner.benching.pricing import Cost
from partitioner.benching.requests import Origin
from partitioner.benching.statistics import Estimate, percentile
from partitioner.benching.worker import Start, Usage

__all__ = [
    "Benchmark",
    "Comparison",
    "Latency",
    "Loading",
    "Part",
    "Subject",
    "Throughput",
    "parts_of",
]


@dataclass(frozen=True)
class Subject:
    """What was measured.

    Args:
        path: as the caller names it.
        name, digest, labels: of the bundle and its member.
    """

    path: str
    name: str
    digest: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Latency:
    """Requests that were made one after the other, or by several clients.

    Args:
        count: how many; those to warm up are not among them.
        mean: seconds.
        p50, p90, p99: percentiles with 95 % intervals, see
            :func:`partitioner.benching.statistics.percentile`.
    """

    count: int
    mean: float
    p50: Estimate
    p90: Estimate
    p99: Estimate

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """From the seconds of each request."""
        marks = [percentile(seconds, fraction) for fraction in (0.5, 0.9, 0.99)]
        return cls(len(seconds), statistics.fmean(seconds), *marks)


@dataclass(frozen=True)
class Throughput:
    """Requests of so many clients at a time, through the queue.

    Args:
        workers: calls that the pipeline makes at a time.
        per_second: requests.
        latency: waiting included.
    """

    concurrency: int
    workers: int
    per_second: float
    latency: Latency


@dataclass(frozen=True)
class Part:
    """A part of a request: a segment, ``inputs`` (checks and noise), or ``runtime``, the rest.

    Args:
        calls: a request, on average.
        seconds: a request, on average.
        share: of the request's time.
    """

    name: str
    calls: float
    seconds: float
    share: float


def parts_of(spent: Spent, requests: int) -> tuple[Part, ...]:
    """Where the time of a request goes, segments by their names; the shares sum to 1."""
    whole = spent.whole.seconds
    rest = whole - spent.inputs.seconds - sum(tally.seconds for tally in spent.segments.values())
    rows = [(name, tally.calls, tally.seconds) for name, tally in spent.segments.items()]
    rows += [("inputs", spent.inputs.calls, spent.inputs.seconds)]
    rows += [("runtime", spent.whole.calls, rest)]
    return tuple(Part(n, c / requests, s / requests, s / whole) for n, c, s in rows)


@dataclass(frozen=True)
class Loading:
    """Starts of processes, all cold or all warm: medians.

    Args:
        count: how many.
        imports, load, first: seconds of importing the runtime, of loading, of the first request.
        imported, loaded, served: memory at the end of imports, of loading, of all requests.
    """

    count: int
    imports: float
    load: float
    first: float
    imported: Usage
    loaded: Usage
    served: Usage

    @classmethod
    def of(cls, starts: Sequence[Start]) -> Loading:
        """From at least one start."""
        return cls(
            len(starts),
            *(statistics.median(times) for times in _columns(starts, "imports", "load", "first")),
            *(_median(usages) for usages in _columns(starts, "imported", "loaded", "served")),
        )

    @property
    def total(self) -> float:
        """Seconds from imports to the first result."""
        return self.imports + self.load + self.first


def _columns(starts: Sequence[Start], *names: str) -> list[list[Any]]:
    return [[getattr(start, name) for start in starts] for name in names]


def _median(usages: Sequence[Usage]) -> Usage:
    def middle(sizes: Sequence[int | None]) -> int | None:
        known = [size for size in sizes if size is not None]
        return int(statistics.median(known)) if known else None

    return Usage(middle([u.resident for u in usages]), middle([u.proportional for u in usages]))


@dataclass(frozen=True)
class Comparison:
    """The bundle by another one, as ratios: above 1, the bundle takes more.

    Args:
        other: what it is compared with.
        latency: of the other, from the same rounds.
        ratio: of latencies, pair by pair.
        cold, warm: of seconds from imports to the first result; None where not measured.
        memory: of resident memory after requests, warm.
    """

    other: Subject
    latency: Latency
    ratio: Estimate
    cold: Estimate | None
    warm: Estimate | None
    memory: Estimate | None


@dataclass(frozen=True)
class Benchmark:
    """All that was found.

    Args:
        subject: the bundle.
        cpus: that the process may use.
        load_before: the system's load, a minute's average, when the benchmark began: what else it
            did.
        origins: of inputs, by name.
        latency: one request at a time.
        parts: where its time goes.
        throughput: by concurrency.
        cold, warm: None where not measured.
        cost: the reason, where there is no price.
        comparison: None where there is no other bundle.
        seconds: of each request that ``latency`` is of, for charts.
    """

    subject: Subject
    cpus: int
    load_before: float
    origins: dict[str, Origin]
    latency: Latency
    parts: tuple[Part, ...]
    throughput: tuple[Throughput, ...]
    cold: Loading | None
    warm: Loading | None
    cost: Cost | str
    comparison: Comparison | None
    seconds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)
