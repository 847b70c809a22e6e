"""A bundle with buckets: one pipeline over several, each for so many requests at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from partitioner.errors import InputError
from partitioner.runtime.events import Callback, Observer
from partitioner.runtime.gate import Gate
from partitioner.runtime.inputs import check_names, merged
from partitioner.runtime.lazy import Shelf
from partitioner.runtime.probes import Source, serving
from partitioner.runtime.queueing import (
    DEFAULT_QUEUE,
    Job,
    QueueOptions,
    RequestQueue,
    Share,
    answer,
)
from partitioner.runtime.requests import Outputs
from partitioner.runtime.rows import Part, Rows, gather, join, parts, with_batch
from partitioner.runtime.scheduling.lanes import Lane, SteppedRun
from partitioner.runtime.scheduling.sharing import (
    Abandoned,
    Content,
    Members,
    joined_call,
    own_outputs,
    shared_key,
    tell,
)
from partitioner.runtime.scheduling.stepping import Bodies, drive
from partitioner.runtime.seeds import Seeds, seeds_of
from partitioner.runtime.sized import SizedBucket
from partitioner.runtime.stats import Stats, memory_stats
from partitioner.runtime.submitting import Submitting
from partitioner.specs import TensorSpec

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Batch, Manifest
    from partitioner.runtime.pipeline import Pipeline

__all__ = ["BatchedPipeline"]

Array = np.ndarray[Any, Any]

#: The key of requests that share steps: whatever else they are, their loop's body is the same.
_STEPS = "steps"


class BatchedPipeline(Submitting):
    """A loaded bundle with buckets, made by :func:`partitioner.load`. Thread-safe.

    A call serves any number of requests, a row each. They go to the smallest bucket that holds
    them, which is filled up with repeats of the last one; more than the largest bucket holds are
    served by several calls. A row's result is what it would be alone, its random numbers included.

    Buckets but the first are loaded when they are first needed: each keeps what its backends make
    of the weights, the mapped weights themselves are shared.

    Args:
        buckets: no two of which serve the same size; closed in the end.
        at_once: load all of them now.
        queue: how submitted requests wait and are served.

    Attributes:
        manifest: of the smallest bucket.
        digest: the bundle's identity.
        batch_sizes: of the buckets, all those of a range, in rising order.
        inputs: name -> declared tensor; the dimension ``batch`` is any number of rows.
        outputs: likewise; those that give a list for several rows as they are for one.
        variants, choice: as of :class:`Pipeline`; the same for all buckets.
        labels: those that all buckets have.
    """

    def __init__(
        self,
        buckets: Sequence[SizedBucket],
        *,
        at_once: bool = False,
        queue: QueueOptions = DEFAULT_QUEUE,
    ) -> None:
        self._buckets = sorted(buckets, key=lambda one: one.sizes[0])
        self._by_size = {size: one for one in self._buckets for size in one.sizes}
        self.batch_sizes = tuple(self._by_size)
        first = self._bucket(self.batch_sizes[0])
        try:
            for bucket in self._buckets if at_once else ():
                bucket.whole()
        except BaseException:
            self._close_buckets()
            raise
        built = self.batch_sizes[0] == 1 and first.manifest.options.get("step_batching") is True
        self._shelf = first.shelf
        self._steps = built and self._shelf is None
        if self._steps:
            queue = replace(queue, max_wait=0.0)  # who comes later joins at the next step
        super().__init__(
            Source(first.manifest.name, first.digest),
            queue,
            rows=self.batch_sizes[-1],
            together=self._together,
        )
        self.digest = first.digest
        self.manifest: Manifest = first.manifest
        self.variants, self.choice = first.variants, first.choice
        self.labels = {name: text for name, text in first.labels.items() if name != "batch"}
        self._batch = _batch_of(first)
        self.inputs: dict[str, TensorSpec] = {
            name: with_batch(spec) if name in self._batch.inputs else spec
            for name, spec in first.inputs.items()
        }
        self.outputs: dict[str, TensorSpec] = _outputs(first)
        self._gate = Gate(f"{first.manifest.name} {self.digest[:19]}")

    def __call__(
        self,
        given: Mapping[str, Any] | None = None,
        /,
        *,
        seed: Seeds = None,
        callback: Callback | None = None,
        noise: Any = None,
        observe: Observer | None = None,
        **inputs: Any,
    ) -> Outputs:
        """Serve one request, or several.

        Args:
            given, callback, observe: as of :class:`Pipeline`; several calls of buckets tell of
                their trips and segments one after the other.
            seed: of each row, in a list; or of all of them, so that equal rows give equal results;
                None for fresh ones.
            noise: as of :class:`Pipeline`, where the requests are just as many as a bucket holds.
            inputs: by name: a list with an item for each request, or an array with as many rows;
                what has one row serves all requests.

        Returns:
            output name -> array with a row for each request. Where each row's result has its own
            size, a list of arrays; the array alone, if one request was given and no list.

        Raises:
            as :class:`Pipeline`.
        """
        with self._recorder.call():
            return self._ask(
                given, seed=seed, callback=callback, noise=noise, observe=observe, **inputs
            )

    @property
    def shelf(self) -> Shelf | None:
        """Where not all segments are in memory at once: what holds those of all buckets."""
        return self._shelf

    def _ask(
        self,
        given: Mapping[str, Any] | None = None,
        /,
        *,
        seed: Seeds = None,
        callback: Callback | None = None,
        noise: Any = None,
        observe: Observer | None = None,
        **inputs: Any,
    ) -> Outputs:
        with self._gate.request():
            given = merged(self.inputs, given or {}, inputs, noise)
            rows = self._rows(given, seed)
            seeds = seeds_of(seed, rows.count)
            calls = list(parts(rows.count, self.batch_sizes))
            replaced = _replaced(noise, calls)
            results = [
                (part, *self._run(part, rows, given, seeds, callback, observe, replaced))
                for part in calls
            ]
            return join(results, several=rows.several)

    def warmup(self, *, every: bool = False) -> float:
        """As of :class:`Pipeline`, of the smallest bucket, or of all buckets and variants.

        Returns:
            seconds, loading of buckets that were not loaded included.
        """
        began = time.perf_counter()
        for size in self.batch_sizes if every else self.batch_sizes[:1]:
            self._bucket(size).warmup(every=every)
        return time.perf_counter() - began

    def stats(self) -> Stats:
        """As of :class:`Pipeline`, with the segments of all buckets that have been loaded.

        What buckets read in place is counted once, what backends have copied for each of them.
        """
        parts = [stats for bucket in self._buckets if (stats := bucket.stats()) is not None]
        segments = tuple(segment for part in parts for segment in part.segments)
        memory = memory_stats([one for bucket in self._buckets if (one := bucket.held())])
        return Stats(self._recorder.stats(), segments, memory)

    def close(self) -> None:
        """As of :class:`Pipeline`, for all buckets."""
        self._gate.check_outside()
        self._queue.close()
        if self._gate.close():
            self._close_buckets()

    def _close_buckets(self) -> None:
        for bucket in self._buckets:
            bucket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name}: {spec}" for name, spec in self.inputs.items())
        outputs = ", ".join(f"{name}: {spec}" for name, spec in self.outputs.items())
        state = " closed" if self._gate.closed else ""
        sizes = ", ".join(map(str, self.batch_sizes))
        return (
            f"<BatchedPipeline{state} {self.manifest.name} {self.digest[:19]} batches {sizes} "
            f"({inputs}) -> ({outputs})>"
        )

    # --- requests -------------------------------------------------------------------------------

    def _rows(self, given: Mapping[str, Any], seed: Seeds) -> Rows:
        options = {name for variant in self.variants for name in variant}
        check_names(self.manifest.inputs, {n: v for n, v in given.items() if n not in options})
        rowed = [s for s in self.manifest.inputs if s.name in self._batch.inputs]
        return gather(rowed, given, seed)

    def _share(
        self, given: Mapping[str, Any], seed: Seeds, callback: Callback | None
    ) -> Share | None:
        rows = self._rows(given, seed)
        if rows.count > self.batch_sizes[-1]:
            return None
        options, named = self._buckets[0].whole().options_of(given)
        rest = {name: value for name, value in named.items() if name not in self._batch.inputs}
        content = Content(rows, {**options, **rest}, seeds_of(seed, rows.count), callback)
        shared = [s for s in self.manifest.inputs if s.name not in self._batch.inputs]
        key = shared_key(options, shared, rest, rows.arrays)
        if self._steps and rows.count == 1:
            return Share(_STEPS, 1, content)
        return Share(key, rows.count, content)

    def _together(self, jobs: Sequence[Job], queue: RequestQueue) -> None:
        """Serve requests by one call; those that it fails are served again, each by itself."""
        if jobs[0].share and jobs[0].share.key == _STEPS:
            with self._gate.request():
                self._share_steps(jobs, queue)
            return
        contents = [cast("Content", job.share.content) for job in jobs if job.share]
        members = Members([(j.request, c.callback) for j, c in zip(jobs, contents, strict=True)])
        given, seeds = joined_call(contents)
        try:
            with serving(*(job.request.follower for job in jobs)):
                outputs = self._ask(given, seed=seeds, callback=members.callback)
        except Abandoned:
            return
        except Exception as error:
            # Whatever it is, it may be the fault of one of them, who fails alone then, too.
            if len(jobs) == 1:
                raise
            tell("call", len(jobs), error)
            for job in jobs:
                if not job.request.done():
                    answer(job)
            return
        start = 0
        for job, content in zip(jobs, contents, strict=True):
            if not job.request.done():
                job.request.finish(own_outputs(outputs, self._batch, start, content.rows))
            start += content.rows.count

    def _share_steps(self, jobs: Sequence[Job], queue: RequestQueue) -> None:
        """Serve requests, and those that come meanwhile, by steps that they share."""
        one = self._bucket(1)

        def joining(room: int) -> list[Lane]:
            came = queue.join(_STEPS, room)
            return [_lane(one, j) for j in came if j.request.set_running_or_notify_cancel()]

        bodies = Bodies(self.batch_sizes, lambda size: self._bucket(size).body(one))
        drive([_lane(one, job) for job in jobs], bodies, joining)

    # --- buckets --------------------------------------------------------------------------------

    def _run(
        self,
        part: Part,
        rows: Rows,
        given: Mapping[str, Any],
        seeds: Sequence[int],
        callback: Callback | None,
        observe: Observer | None,
        noise: Mapping[str, Array] | None,
    ) -> tuple[Batch, dict[str, Array]]:
        bucket = self._bucket(part.size)
        places = part.places
        whole = len(places) == rows.count
        own = {n: a if whole else a[places] for n, a in rows.arrays.items()}
        outputs = bucket(
            {**given, **own},
            seed=[seeds[place] for place in places],
            callback=callback,
            observe=observe,
            noise=noise,
        )
        return _batch_of(bucket), outputs

    def _bucket(self, size: int) -> Pipeline:
        return self._by_size[size].at(size)


def _lane(one: Pipeline, job: Job) -> Lane:
    assert job.share is not None
    content = cast("Content", job.share.content)

    def start() -> SteppedRun:
        given, (seed,) = joined_call([content])
        return one.stepped(given, seed)

    def finish(outputs: dict[str, Array]) -> dict[str, Any]:
        return join([(Part(0, 1, 1), _batch_of(one), outputs)], several=content.rows.several)

    return Lane(job, one.source, start, content.callback, finish)


def _batch_of(bucket: Pipeline) -> Batch:
    batch = bucket.manifest.batch
    assert batch is not None
    return batch


def _outputs(bucket: Pipeline) -> dict[str, TensorSpec]:
    batch, outputs = _batch_of(bucket), dict[str, TensorSpec]()
    for name, spec in bucket.outputs.items():
        if name in batch.stacked:
            outputs[name] = with_batch(spec)
            continue
        head, _, tail = name.rpartition(".")
        listed = tail.isdigit() and head in batch.listed
        outputs.setdefault(head if listed else name, spec)
    return outputs


def _replaced(noise: Any, calls: Sequence[Part]) -> Mapping[str, Array] | None:
    if not isinstance(noise, Mapping):
        return None
    if len(calls) > 1 or calls[0].count < calls[0].size:
        raise InputError(
            "noise is given by value for requests that do not fill one bucket",
            advice="give as many requests as a bucket holds, or seeds",
        )
    return cast("Mapping[str, Array]", noise)
