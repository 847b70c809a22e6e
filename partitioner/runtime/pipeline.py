"""A loaded bundle, to be called: NumPy in, NumPy out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from partitioner.artifacts.bundle import Bundle
from partitioner.backends.execution import Executable
from partitioner.runtime import probes
from partitioner.runtime.draws import draw_noise, draw_rows
from partitioner.runtime.events import Callback, Observer
from partitioner.runtime.gate import Gate
from partitioner.runtime.inputs import check_inputs, merged
from partitioner.runtime.lazy import Shelf
from partitioner.runtime.loading import close_segments
from partitioner.runtime.narrowing import bundle_at, constants_at, executables_at
from partitioner.runtime.queueing import DEFAULT_QUEUE, QueueOptions
from partitioner.runtime.runner import Run
from partitioner.runtime.scheduling.lanes import SteppedRun
from partitioner.runtime.scheduling.stepping import Body, body_of
from partitioner.runtime.seeds import Seeds, one_seed, seeds_of
from partitioner.runtime.stats import Held, Stats, memory_stats, segment_stats
from partitioner.runtime.submitting import Submitting
from partitioner.runtime.tallies import Tallies
from partitioner.runtime.variants import Schedule, Schedules
from partitioner.runtime.warming import warm_inputs
from partitioner.specs import TensorSpec

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Manifest

__all__ = ["Pipeline"]

Array = np.ndarray[Any, Any]


class Pipeline(Submitting):
    """A loaded bundle, made by :func:`load`. Any number of threads may call it at once.

    Attributes:
        manifest: all that the bundle says of itself.
        digest: the bundle's identity.
        inputs: name -> declared tensor, in the order of the pipeline's inputs.
        outputs: name -> tensor; a dimension None is known only when it has run.
        variants: the options of each schedule that a call may choose; empty if there is but one.
        labels: of the bundle's member that was loaded: ``{"target": "cpu"}``.
        choice: why it was: a line for each member that was looked at, the one taken last.
    """

    def __init__(
        self,
        bundle: Bundle,
        executables: Mapping[str, Executable],
        schedules: Schedules,
        choice: tuple[str, ...] = (),
        queue: QueueOptions = DEFAULT_QUEUE,
        shelf: Shelf | None = None,
        tallies: Tallies | None = None,
    ) -> None:
        batch = bundle.manifest.batch
        name = bundle.manifest.name if batch is None else f"{bundle.manifest.name} x {batch.rows}"
        super().__init__(probes.Source(name, bundle.digest), queue)
        self._tallies = tallies or Tallies()
        self._shelf = shelf
        self.manifest: Manifest = bundle.manifest
        self.labels = dict(bundle.labels)
        self.choice = choice
        self.digest = bundle.digest
        self.inputs: dict[str, TensorSpec] = {s.name: s.tensor for s in bundle.manifest.inputs}
        self.outputs: dict[str, TensorSpec] = dict(bundle.manifest.outputs)
        self._bundle = bundle
        self._executables = dict(executables)
        self._schedules = schedules
        self.variants = schedules.options
        self._gate = Gate(f"{bundle.manifest.name} ({bundle.path})")

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
    ) -> dict[str, Array]:
        """Run the pipeline.

        Args:
            given: inputs by name, for names that are no Python keyword or that this call uses
                itself; together with ``inputs``.
            seed: of all random numbers; None for a fresh one. Any 64-bit integer; for a bucket
                also one for each row.
            callback: called with a :class:`StepEvent` after each trip of a loop. An exception it
                raises cancels the request and is raised here; the pipeline can be called again.
            noise: value id -> array, instead of drawing these values (see
                :func:`partitioner.runtime.draws.draw_noise`). Where the pipeline has an input
                named ``noise``, anything but a dict is that input.
            observe: called after each call of a segment; see :data:`Observer`.
            inputs: by name. Arrays are taken as they are if dtype and shape fit, converted where
                nothing is lost (see :mod:`partitioner.runtime.tensors`); image inputs take
                pictures (see :mod:`partitioner.runtime.images`). Where the bundle has variants,
                the options that choose one, too (``steps=20``); the first is run without.

        Returns:
            output name -> array. The arrays are the caller's own.

        Raises:
            InputError: an input is missing, unknown, or of a wrong shape or dtype.
            BackendError: a segment failed; names it and its source lines.
            UsageError: the pipeline is closed.
        """
        with self._recorder.call():
            return self._ask(
                given, seed=seed, callback=callback, noise=noise, observe=observe, **inputs
            )

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
    ) -> dict[str, Array]:
        with self._gate.request(), probes.call(self.source) as watch:
            began = time.perf_counter_ns()
            chosen, given = self._schedules.choose(merged(self.inputs, given or {}, inputs, noise))
            replaced = cast("Mapping[str, Array]", noise if isinstance(noise, Mapping) else {})
            values = self._start(chosen, given, seed, replaced)
            if watch is not None:
                watch.span("inputs", "inputs", began, time.perf_counter_ns())
            return self._run(chosen, values, callback, observe, self._tallies, watch)

    def warmup(self, *, every: bool = False) -> float:
        """Run once, so that the first request does not pay for what happens once.

        With the example inputs of the build's parity check where the bundle holds them here, else
        with zeros. Not counted by :meth:`stats`.

        Args:
            every: each of the variants, not only the first.

        Returns:
            seconds that it took.

        Raises:
            as a call.
        """
        began = time.perf_counter()
        rows = 1 if self.manifest.batch is None else self.manifest.batch.rows
        with self._gate.request():
            given = warm_inputs(self._bundle)
            for options in self.variants if every and self.variants else [{}]:
                chosen, own = self._schedules.choose({**given, **options})
                values = self._start(chosen, own, [0] * rows if rows > 1 else 0, {})
                self._run(chosen, values, None, None, None)
        return time.perf_counter() - began

    def stats(self) -> Stats:
        """What the pipeline has done since it was loaded, and what it takes now.

        Counting is one look at the clock and two additions a call of a segment; all else is added
        up only when this is called.

        Raises:
            UsageError: the pipeline is closed.
        """
        with self._gate.request():
            return Stats(
                self._recorder.stats(),
                segment_stats(self.manifest, self._executables, self._tallies),
                memory_stats([self.held()]),
            )

    def held(self) -> Held:
        """What it has in memory.

        Raises:
            UsageError: the pipeline is closed.
        """
        with self._gate.request():
            return Held(self.manifest, dict(self._executables), self._schedules.arenas.taken)

    @property
    def shelf(self) -> Shelf | None:
        """Where not all segments are in memory at once: what holds them, one request at a time."""
        return self._shelf

    def options_of(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options of the variant that a call with ``given`` runs, and what else is given.

        Raises:
            InputError: there is no such variant.
        """
        chosen, rest = self._schedules.choose(given)
        return dict(chosen.options), rest

    def stepped(self, given: Mapping[str, Any], seed: Seeds) -> SteppedRun:
        """A run whose loop the caller makes step by step, for requests that share its steps.

        Args:
            given, seed: as of a call.

        Raises:
            as a call.
        """
        chosen, given = self._schedules.choose(given)
        values = self._start(chosen, given, seed, {})
        arenas = self._schedules.arenas
        arena = arenas.take()
        release = partial(arenas.give_back, arena)
        try:
            return SteppedRun(
                self._executables,
                chosen.scheduled,
                values,
                arena=arena,
                release=release,
                tallies=self._tallies,
            )
        except BaseException:
            release()
            raise

    def body(self, one: Pipeline) -> Body:
        """The loop of a bucket, for requests that share its steps.

        Args:
            one: the bucket of one request.

        Raises:
            UsageError: requests cannot share its steps; says why.
        """
        return body_of(
            one.manifest,
            self.manifest,
            self._schedules.constants,
            self._executables,
            self._tallies,
            self.source,
        )

    def at(self, rows: int, tallies: Tallies) -> Pipeline:
        """Of a bucket for a range of batch sizes: the same for so many rows, of the same segments.

        Runs of all sizes take their memory in turn: as many arenas as runs are under way at once,
        each as large as the largest size that was asked for.

        Args:
            tallies: where its calls are counted.

        Raises:
            UsageError: the pipeline is closed.
        """
        with self._gate.request():
            manifest = self.manifest
            if manifest.batch is None or rows == manifest.batch.rows:
                return self
            bundle = bundle_at(self._bundle, rows)
            schedules = self._schedules.at(
                bundle.manifest, lambda own: constants_at(own, manifest, rows)
            )
            executables = executables_at(self._executables, bundle.manifest)
            return Pipeline(
                bundle, executables, schedules, self.choice, shelf=self._shelf, tallies=tallies
            )

    def close(self) -> None:
        """Wait for running calls and submitted ones to end and give back memory.

        Later calls are refused.

        Closing twice is fine. From within a call (its callback, a host op) it is refused with a
        UsageError: raise an exception there to end the call instead.
        """
        self._gate.check_outside()
        self._queue.close()
        if self._gate.close():
            close_segments(self._executables)
            self._executables.clear()
            self._schedules.clear()

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
        return (
            f"<Pipeline{state} {self.manifest.name} {self.digest[:19]} ({inputs}) -> ({outputs})>"
        )

    def _run(
        self,
        chosen: Schedule,
        values: Mapping[str, Array],
        callback: Callback | None,
        observe: Observer | None,
        tallies: Tallies | None,
        watch: probes.Watch | None = None,
    ) -> dict[str, Array]:
        with self._shelf.turn() if self._shelf else nullcontext():
            return self._run_now(chosen, values, callback, observe, tallies, watch)

    def _run_now(
        self,
        chosen: Schedule,
        values: Mapping[str, Array],
        callback: Callback | None,
        observe: Observer | None,
        tallies: Tallies | None,
        watch: probes.Watch | None,
    ) -> dict[str, Array]:
        arenas = self._schedules.arenas
        arena = arenas.take()
        try:
            run = Run(
                self._executables,
                chosen.scheduled,
                values,
                arena=arena,
                callback=callback,
                observe=observe,
                tallies=tallies,
                watch=watch,
            )
            return run.run()
        finally:
            arenas.give_back(arena)

    def _start(
        self, chosen: Schedule, given: Mapping[str, Any], seed: Seeds, noise: Mapping[str, Array]
    ) -> dict[str, Array]:
        """All values that exist before the first step, by id."""
        request = check_inputs(self.manifest.inputs, given)
        ids = chosen.plan.inputs
        values = {ids[name]: array for name, array in request.arrays.items()}
        unread = [name for name in given if name not in ids]
        known, sizes, batch = {**noise, **values}, request.dims, self.manifest.batch
        seeds = [one_seed(seed)] if batch is None else seeds_of(seed, batch.rows)
        if len(seeds) == 1:
            drawn = draw_noise(chosen, seeds[0], known, dims=sizes, unread=unread)
        else:
            drawn = draw_rows(chosen, seeds, known, dims=sizes, unread=unread)
        return {**chosen.constants, **values, **drawn}
