"""A benchmark as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from partitioner.artifacts.oci import label_text
from partitioner.benching.numbers import number
from partitioner.benching.results import Benchmark, Comparison, Latency, Loading, Subject
from partitioner.benching.statistics import Estimate
from partitioner.cli.tables import size_text, wide_table

__all__ = ["bench_text"]


def bench_text(found: Benchmark) -> str:
    """All that was found, a table for each kind of figure."""
    return "\n".join(_lines(found))


def _lines(found: Benchmark) -> Iterator[str]:
    yield f"{_named(found.subject)}, {found.cpus} CPUs, load before {found.load_before:.1f}"
    origins = [f"{name} {origin}" for name, origin in found.origins.items()]
    yield f"inputs: {', '.join(origins) or 'none'}"
    yield ""
    yield from wide_table([_LATENCY, *_latency_rows(found)])
    yield ""
    yield from wide_table([("part of a request", "calls", "ms", "share"), *_part_rows(found)])
    loads = [("cold", found.cold), ("warm", found.warm)]
    rows = [(label, *_loading(one)) for label, one in loads if one is not None]
    if rows:
        yield ""
        yield from wide_table([_LOADING, *rows])
    yield ""
    yield from _cost(found)
    if found.comparison is not None:
        yield ""
        yield from _comparison(found.comparison)


def _named(subject: Subject) -> str:
    labels = label_text(subject.labels)
    return f"{subject.name} {subject.digest[:19]}" + (f" ({labels})" if labels else "")


# --- requests -----------------------------------------------------------------------------------

_LATENCY = ("clients", "requests", "a second", "mean ms", "p50 ms", "p90 ms", "p99 ms")


def _latency_rows(found: Benchmark) -> Iterator[Sequence[str]]:
    yield _latency("in turn", 1 / found.latency.mean, found.latency)
    for one in found.throughput:
        yield _latency(f"{one.concurrency}", one.per_second, one.latency)


def _latency(label: str, per_second: float, latency: Latency) -> Sequence[str]:
    marks = (_milliseconds(mark) for mark in (latency.p50, latency.p90, latency.p99))
    return (label, str(latency.count), number(per_second), _ms(latency.mean), *marks)


def _milliseconds(mark: Estimate) -> str:
    """The figure and its interval; a bound that so few samples do not give is left open."""
    low = "" if mark.low is None else _ms(mark.low)
    high = "" if mark.high is None else _ms(mark.high)
    return f"{_ms(mark.value)} ({low}..{high})"


def _ms(seconds: float) -> str:
    return number(seconds * 1e3)


def _part_rows(found: Benchmark) -> Iterator[Sequence[str]]:
    for part in found.parts:
        yield (part.name, f"{part.calls:g}", _ms(part.seconds), f"{part.share:.1%}")


# --- loading and memory -------------------------------------------------------------------------

_LOADING = (
    "start",
    "imports s",
    "load s",
    "first s",
    "together s",
    "RSS loaded",
    "RSS served",
    "PSS served",
)


def _loading(one: Loading) -> Iterator[str]:
    yield from (f"{s:.3f}" for s in (one.imports, one.load, one.first, one.total))
    for size in (one.loaded.resident, one.served.resident, one.served.proportional):
        yield "-" if size is None else size_text(size)


# --- price and comparison -----------------------------------------------------------------------


def _cost(found: Benchmark) -> Iterator[str]:
    cost = found.cost
    if isinstance(cost, str):
        yield f"price of a million requests: {cost}"
        return
    yield (
        f"price of a million requests: {cost.per_million:.2f} {cost.currency}, if this host costs "
        f"{cost.per_hour:g} an hour ({cost.source})"
    )


def _interval(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return "too few for one"
    return f"{one.low:.3f}..{one.high:.3f}"


def _comparison(found: Comparison) -> Iterator[str]:
    yield f"compared with {found.other.path}: {_named(found.other)}"
    rows = [
        ("latency", found.ratio),
        ("cold start", found.cold),
        ("warm start", found.warm),
        ("resident memory", found.memory),
    ]
    cells = [(name, f"{one.value:.3f}", _interval(one)) for name, one in rows if one is not None]
    yield from wide_table([("this / other", "ratio", "95 % interval"), *cells])
