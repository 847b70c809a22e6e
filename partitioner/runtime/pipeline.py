"""Load a bundle and call it: NumPy in, NumPy out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from partitioner.artifacts.bundle import Bundle, Verify
from partitioner.artifacts.store.options import DEFAULT_OPTIONS, StoreOptions
from partitioner.artifacts.store.sources import is_source
from partitioner.backends.execution import DeviceOptions, Executable, Memory, Mode
from partitioner.errors import IncompatibleBundleError, UsageError
from partitioner.runtime import probes
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.code import refuse_code
from partitioner.runtime.draws import draw_noise, draw_rows
from partitioner.runtime.events import Callback, Observer
from partitioner.runtime.gate import Gate
from partitioner.runtime.inputs import check_inputs, merged
from partitioner.runtime.loading import close_segments, load_segments
from partitioner.runtime.opening import Keys, opened
from partitioner.runtime.queueing import DEFAULT_QUEUE, QueueOptions
from partitioner.runtime.runner import Run
from partitioner.runtime.seeds import Seeds, one_seed, seeds_of
from partitioner.runtime.submitting import Submitting
from partitioner.runtime.variants import Schedule, Schedules
from partitioner.specs import TensorSpec

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import ConstantRef, Manifest
    from partitioner.hostops import HostOp

__all__ = ["Pipeline", "check_options", "load", "load_bucket"]

Array = np.ndarray[Any, Any]


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    memory: Memory = "fast",
    verify: Verify = "once",
    host_ops: Iterable[HostOp] = (),
    mode: Mode = "latency",
    pinning: bool = False,
    require_signature: Keys = None,
    allow_executable: bool = False,
    store: StoreOptions = DEFAULT_OPTIONS,
    variant: Mapping[str, str] | None = None,
    queue: QueueOptions = DEFAULT_QUEUE,
) -> Pipeline | BatchedPipeline:
    """Load a bundle.

    A bundle that was built with batch sizes is loaded as :class:`BatchedPipeline`, which serves any
    number of requests; ``variant={"batch": "4"}`` loads one of its buckets only.

    Args:
        path: the bundle's directory, or its address in a store: ``s3://bucket/prefix/name@tag``,
            and the same with ``file://`` and ``https://``. From a store only what is needed is
            fetched, into a cache that processes share; segments are loaded while others arrive.
        threads: worker threads of a call; None for as many CPUs as the process may use (affinity
            and container quota). All pipelines of a process share one pool, whose size the first
            of them sets.
        memory: ``fast`` lets backends keep a second, repacked copy of the weights; ``low`` runs
            on the memory-mapped weights alone.
        verify: when the content of blobs is hashed: at each load, once per file in this process,
            or never. Only "never" is faster for large bundles, and trusts the disk.
        host_ops: host ops that are not installed, for bundles that call them.
        mode: ``latency`` for one call at a time; ``throughput`` where many threads call at once.
            OpenVINO segments tell them apart.
        pinning: tie worker threads to CPUs; good where the process has its CPUs for itself. For
            OpenVINO segments.
        require_signature: file of a public key (or files of several, of which one will do) that
            must have signed the bundle, beside what the policy file requires.
        allow_executable: load artifacts that are executable code from a bundle whose signature was
            not required, too. Whoever made it can then do whatever this process may.
        store: how the store is reached.
        variant: labels of the member to load, of a bundle for several targets:
            ``{"target": "xeon"}``. By default the best that this host can run; ``choice`` says why.
            A target that is named is loaded on a CPU that it was not meant for, too.
        queue: how submitted requests wait and are served.

    Raises:
        BundleError: no bundle, damaged, or hostile.
        SignatureError: a required signature is missing; or the bundle holds executable code, none
            was required, and it is not allowed.
        StoreError: the store cannot be reached, or does not have the bundle.
        IncompatibleBundleError: this version or host cannot run it; says what it requires.
        MissingDependencyError: a backend's library or a host op is not installed.
        BackendError: a backend refuses its part.
        UsageError: an option that cannot be meant.
    """
    device = DeviceOptions(threads, memory, tuple(host_ops), mode, pinning)
    check_options(device, verify)
    with opened(path, verify, keys=require_signature, options=store, wanted=variant) as choice:
        for bundle in choice.buckets or (choice.bundle,):
            refuse_code(bundle, allowed=allow_executable)
        if not choice.buckets:
            return load_bucket(choice.bundle, device, choice.reasons, queue)
        loaders = {
            batch.rows: partial(load_bucket, bundle, device, choice.reasons)
            for bundle in choice.buckets
            if (batch := bundle.manifest.batch) is not None
        }
        # What comes from a store comes now: later its connection is closed.
        return BatchedPipeline(loaders, at_once=is_source(path), queue=queue)


def check_options(device: DeviceOptions, verify: Verify) -> None:
    """Refuse options that cannot be meant.

    Raises:
        UsageError: says which.
    """
    if device.threads is not None and device.threads < 1:
        raise UsageError(f"threads must be at least 1, not {device.threads}")
    if device.memory not in ("fast", "low"):
        raise UsageError(f"memory is 'fast' or 'low', not {device.memory!r}")
    if verify not in ("always", "once", "never"):
        raise UsageError(f"verify is 'always', 'once' or 'never', not {verify!r}")
    if device.mode not in ("latency", "throughput"):
        raise UsageError(f"mode is 'latency' or 'throughput', not {device.mode!r}")


def load_bucket(
    bundle: Bundle,
    device: DeviceOptions,
    reasons: tuple[str, ...] = (),
    queue: QueueOptions = DEFAULT_QUEUE,
) -> Pipeline:
    """Load one member of a bundle as it is: of a bucket, full batches only are served.

    Whether it may run code is for the caller to ask, by ``refuse_code``.

    Args:
        reasons: why it was chosen.
        queue: how submitted requests wait and are served.

    Raises:
        as :func:`load`.
    """
    _refuse_bfloat16(bundle)
    executables = load_segments(bundle, device)
    try:
        # After the segments: from a store, constants arrive last.
        schedules = _load_schedules(bundle)
    except BaseException:
        close_segments(executables)
        raise
    return Pipeline(bundle, executables, schedules, reasons, queue)


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
    ) -> None:
        batch = bundle.manifest.batch
        name = bundle.manifest.name if batch is None else f"{bundle.manifest.name} x {batch.rows}"
        super().__init__(probes.Source(name, bundle.digest), queue)
        self.manifest: Manifest = bundle.manifest
        self.labels = dict(bundle.labels)
        self.choice = choice
        self.digest = bundle.digest
        self.inputs: dict[str, TensorSpec] = {s.name: s.tensor for s in bundle.manifest.inputs}
        self.outputs: dict[str, TensorSpec] = dict(bundle.manifest.outputs)
        self._path = bundle.path
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
        with self._gate.request(), probes.call(self.source) as watch:
            began = time.perf_counter_ns()
            chosen, given = self._schedules.choose(merged(self.inputs, given or {}, inputs, noise))
            replaced = cast("Mapping[str, Array]", noise if isinstance(noise, Mapping) else {})
            values = self._start(chosen, given, seed, replaced)
            if watch is not None:
                watch.span("inputs", "inputs", began, time.perf_counter_ns())
            return self._run(chosen, values, callback, observe, watch)

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


def _refuse_bfloat16(bundle: Bundle) -> None:
    for name, spec in bundle.manifest.plan.values.items():
        if spec.dtype == "bfloat16":
            raise IncompatibleBundleError(
                f"value {name!r} is bfloat16, which no array of this runtime can hold",
                where=str(bundle.path),
                advice="build the bundle so that bfloat16 stays inside of segments",
            )


def _load_schedules(bundle: Bundle) -> Schedules:
    own = _arrays(bundle, bundle.manifest.constants)
    varied = tuple(_arrays(bundle, variant.constants) for variant in bundle.manifest.variants)
    return Schedules(bundle.manifest, own, varied)


def _arrays(bundle: Bundle, refs: Mapping[str, ConstantRef]) -> dict[str, Array]:
    values = bundle.manifest.plan.values
    constants: dict[str, Array] = {}
    for value, ref in refs.items():
        mapped = bundle.constant(ref, values[value])
        # Plain arrays over the same mapping: slicing a memmap costs microseconds.
        constants[value] = cast("Array", mapped.view(np.ndarray))
    return constants
