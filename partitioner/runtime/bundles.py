"""Load a bundle: find it, choose its member, see that it may be run and fits, make a pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from partitioner.artifacts.bundle import Bundle, Verify
from partitioner.artifacts.store.options import DEFAULT_OPTIONS, StoreOptions
from partitioner.artifacts.store.sources import is_source
from partitioner.backends.execution import DeviceOptions, Memory, Mode
from partitioner.errors import IncompatibleBundleError, UsageError
from partitioner.runtime.admitting import admit
from partitioner.runtime.amounts import parse_amount
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.code import refuse_code
from partitioner.runtime.lazy import Shelf, lazy_segments
from partitioner.runtime.loading import close_segments, load_segments
from partitioner.runtime.opening import Keys, opened
from partitioner.runtime.pipeline import Pipeline
from partitioner.runtime.queueing import DEFAULT_QUEUE, QueueOptions
from partitioner.runtime.sized import SizedBucket
from partitioner.runtime.variants import Schedules

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import ConstantRef
    from partitioner.hostops import HostOp

__all__ = ["Lazily", "check_options", "load", "load_bucket"]

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
    lazy: bool = False,
    max_memory: str | int | None = None,
    device: str | None = None,
    cache: str | os.PathLike[str] | None = None,
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
        memory: ``fast`` lets backends keep a second, repacked copy of the weights; ``shared`` keeps
            that of ONNX Runtime in files of the host's cache, which the first load makes, and which
            all processes map; ``low`` runs on the memory-mapped weights alone.
        verify: when the content of blobs is hashed: at each load; once per file until it is
            touched or the host restarts, which the user's cache remembers; or never, which trusts
            the disk.
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
        lazy: load a segment when it is first needed; its blobs are hashed then, and what is wrong
            with it is said then.
        max_memory: bytes, or a text like ``4GiB``, that weights, tables and the values of
            ``queue.workers`` requests may take. What they need is estimated before anything is
            loaded, and compared. With ``lazy``, segments that were used longest ago are closed to
            stay within it, and requests take turns where not all segments fit.
        device: the target to load, as ``variant={"target": device}``.
        cache: directory for what comes from a store; None for ``PARTITIONER_CACHE``, else the
            user's own.

    Raises:
        InsufficientMemoryError: more is needed than ``max_memory``; says how much.
        BundleError: no bundle, damaged, or hostile.
        SignatureError: a required signature is missing; or the bundle holds executable code, none
            was required, and it is not allowed.
        StoreError: the store cannot be reached, or does not have the bundle.
        IncompatibleBundleError: this version or host cannot run it; says what it requires.
        MissingDependencyError: a backend's library or a host op is not installed.
        BackendError: a backend refuses its part.
        UsageError: an option that cannot be meant.
    """
    host = DeviceOptions(threads, memory, tuple(host_ops), mode, pinning)
    check_options(host, verify)
    limit = None if max_memory is None else parse_amount(max_memory)
    wanted = labels_wanted(variant, device)
    with opened(
        path, verify, keys=require_signature, options=store, wanted=wanted, cache=cache
    ) as choice:
        bundles = choice.buckets or (choice.bundle,)
        for bundle in bundles:
            refuse_code(bundle, allowed=allow_executable)
        shelf = None
        if limit is not None:
            shelf = admit(bundles, host, limit=limit, workers=queue.workers, lazy=lazy)
        lazily = Lazily(shelf, ahead=is_source(path)) if lazy else None
        if not choice.buckets:
            return load_bucket(choice.bundle, host, choice.reasons, queue, lazily)
        buckets = [
            SizedBucket(partial(load_bucket, one, host, choice.reasons, lazily=lazily), batch.sizes)
            for one in choice.buckets
            if (batch := one.manifest.batch) is not None
        ]
        # What comes from a store comes now: later its connection is closed.
        return BatchedPipeline(buckets, at_once=is_source(path), queue=queue)


def check_options(device: DeviceOptions, verify: Verify) -> None:
    """Refuse options that cannot be meant.

    Raises:
        UsageError: says which.
    """
    if device.threads is not None and device.threads < 1:
        raise UsageError(f"threads must be at least 1, not {device.threads}")
    if device.memory not in ("fast", "shared", "low"):
        raise UsageError(f"memory is 'fast', 'shared' or 'low', not {device.memory!r}")
    if verify not in ("always", "once", "never"):
        raise UsageError(f"verify is 'always', 'once' or 'never', not {verify!r}")
    if device.mode not in ("latency", "throughput"):
        raise UsageError(f"mode is 'latency' or 'throughput', not {device.mode!r}")


def load_bucket(
    bundle: Bundle,
    device: DeviceOptions,
    reasons: tuple[str, ...] = (),
    queue: QueueOptions = DEFAULT_QUEUE,
    lazily: Lazily | None = None,
) -> Pipeline:
    """Load one member of a bundle as it is: of a bucket, full batches only are served.

    Whether it may run code is for the caller to ask, by ``refuse_code``.

    Args:
        reasons: why it was chosen.
        queue: how submitted requests wait and are served.
        lazily: load segments as they are needed; None for all of them now.

    Raises:
        as :func:`load`.
    """
    _refuse_bfloat16(bundle)
    shelf = None if lazily is None else lazily.shelf
    if lazily is None:
        executables = load_segments(bundle, device)
    else:
        executables = lazy_segments(bundle, device, shelf, ahead=lazily.ahead)
    try:
        # After the segments: from a store, constants arrive last.
        schedules = _load_schedules(bundle)
    except BaseException:
        close_segments(executables)
        raise
    return Pipeline(bundle, executables, schedules, reasons, queue, shelf)


@dataclass(frozen=True)
class Lazily:
    """How segments are loaded as they are needed.

    Args:
        shelf: what limits how many are loaded at a time; None for no limit.
        ahead: whether their files are fetched now.
    """

    shelf: Shelf | None = None
    ahead: bool = False


def labels_wanted(
    variant: Mapping[str, str] | None, device: str | None
) -> Mapping[str, str] | None:
    """The labels of the member to load.

    Raises:
        UsageError: two different targets are named.
    """
    if device is None:
        return variant
    labels = {"target": device, **(variant or {})}
    if labels["target"] != device:
        raise UsageError(
            f"device={device!r} and variant={dict(variant or {})!r} name different targets",
            advice="give one of them",
        )
    return labels


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
