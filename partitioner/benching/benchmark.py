"""The way of a benchmark: load, latency, segments, throughput, starts of processes, price."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from partitioner.benching.loading import starts
from partitioner.benching.measuring import Budget, at_once, in_turn, watched
from partitioner.benching.pricing import cost_of
from partitioner.benching.requests import Sample, sample_request
from partitioner.benching.results import (
    Benchmark,
    Comparison,
    Latency,
    Loading,
    Subject,
    Throughput,
    parts_of,
)
from partitioner.benching.serving import Serving
from partitioner.benching.statistics import ratio_of_pairs
from partitioner.benching.worker import Start, Task
from partitioner.errors import UsageError
from partitioner.runtime import Pipeline
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.cpus import usable_cpus

__all__ = ["Options", "bench"]


@dataclass(frozen=True)
class Options:
    """What is measured, and how long.

    Args:
        inputs: of each request, by name; the bundle's own sample otherwise, or made up.
        seed: of each request, so that all do the same.
        budget: of each measurement of requests.
        concurrency: clients at a time, for throughput.
        workers: calls at a time; None for as many as the most clients.
        starts: processes that are started cold, and warm; 0 for none.
        per_hour: price of this host in USD, instead of the target's.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seed: int = 7
    budget: Budget = field(default_factory=Budget)
    concurrency: tuple[int, ...] = (1,)
    workers: int | None = None
    starts: int = 3
    per_hour: float | None = None

    def __post_init__(self) -> None:
        if not self.concurrency or min(self.concurrency) < 1:
            raise UsageError(f"concurrency is one or more whole numbers, not {self.concurrency}")
        if self.starts < 0:
            raise UsageError(f"starts of processes are not negative: {self.starts}")

    @property
    def calls_at_a_time(self) -> int:
        """How many calls pipelines are loaded for."""
        return max(self.concurrency) if self.workers is None else self.workers


@dataclass(frozen=True)
class _Loaded:
    """A bundle in this process, and the request that is made of it."""

    serving: Serving
    pipe: Pipeline | BatchedPipeline
    sample: Sample
    seed: int

    def call(self) -> object:
        return self.pipe(self.sample.inputs, seed=self.seed)

    def submit(self) -> object:
        return self.pipe.submit(self.sample.inputs, seed=self.seed).result()

    @property
    def subject(self) -> Subject:
        pipe = self.pipe
        return Subject(self.serving.path, pipe.manifest.name, pipe.digest, dict(pipe.labels))


def bench(
    serving: Serving | str, options: Options | None = None, *, other: Serving | str | None = None
) -> Benchmark:
    """Measure a bundle on this host, beside another one if one is given.

    Args:
        serving: the bundle, and how it is loaded.
        options: what is measured; see :class:`Options`.
        other: a bundle that is measured in turn with it, request by request.

    Raises:
        as :func:`partitioner.load` and a call of the pipeline; and
        UsageError: options that cannot be meant.
        BackendError: a process of its own failed.
    """
    options = options or Options()
    before = os.getloadavg()[0]
    with ExitStack() as stack:
        named = [serving] if other is None else [serving, other]
        loaded = [_load(one, options, stack) for one in named]
        seconds = in_turn([one.call for one in loaded], options.budget)
        # A call of each segment is looked at on fewer requests: that takes time by itself.
        looked_at = max(2, min(20, len(seconds[0]) // 4))
        parts = parts_of(watched(loaded[0].call, looked_at), looked_at)
        throughput = tuple(_throughput(loaded[0], n, options) for n in options.concurrency)
        subject, target = loaded[0].subject, loaded[0].pipe.manifest.target
    # The bundles of this process are closed: those that start have the host to themselves.
    started = _starts(loaded, options)
    best = max(one.per_second for one in throughput)
    return Benchmark(
        subject=subject,
        cpus=usable_cpus(),
        load_before=before,
        origins=loaded[0].sample.origins,
        latency=Latency.of(seconds[0]),
        parts=parts,
        throughput=throughput,
        cold=Loading.of(started[0][0]) if started else None,
        warm=Loading.of(started[0][1]) if started else None,
        cost=cost_of(target, best, options.per_hour),
        comparison=_compared(loaded[1].subject, seconds, started) if len(loaded) > 1 else None,
        seconds=tuple(seconds[0]),
    )


def _load(named: Serving | str, options: Options, stack: ExitStack) -> _Loaded:
    serving = Serving(named) if isinstance(named, str) else named
    most = max(options.concurrency)
    pipe = stack.enter_context(serving.load(options.calls_at_a_time, limit=max(64, most)))
    sample = sample_request(serving.path, pipe.manifest.inputs, options.inputs, serving.variant)
    return _Loaded(serving, pipe, sample, options.seed)


def _throughput(one: _Loaded, concurrency: int, options: Options) -> Throughput:
    seconds, whole = at_once(one.submit, concurrency, options.budget)
    workers = options.calls_at_a_time
    return Throughput(concurrency, workers, len(seconds) / whole, Latency.of(seconds))


def _starts(loaded: Sequence[_Loaded], options: Options) -> list[tuple[list[Start], list[Start]]]:
    if not options.starts:
        return []
    task = partial(Task, seed=options.seed, requests=options.budget.warm_up + 1)
    return starts([task(one.serving, one.sample.inputs) for one in loaded], options.starts)


def _compared(
    other: Subject,
    seconds: Sequence[Sequence[float]],
    started: Sequence[tuple[list[Start], list[Start]]],
) -> Comparison:
    ratio = ratio_of_pairs(*seconds)
    if not started:
        return Comparison(other, Latency.of(seconds[1]), ratio, None, None, None)
    totals = [
        [[start.imports + start.load + start.first for start in kind] for kind in one]
        for one in started
    ]
    sizes = [
        [start.served.resident for start in warm if start.served.resident is not None]
        for _, warm in started
    ]
    return Comparison(
        other,
        Latency.of(seconds[1]),
        ratio,
        ratio_of_pairs(totals[0][0], totals[1][0]),
        ratio_of_pairs(totals[0][1], totals[1][1]),
        ratio_of_pairs(*sizes) if all(sizes) else None,
    )
