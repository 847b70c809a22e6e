"""Segments that are loaded when they are first needed, and closed again where memory is short.

A shelf holds the segments of a bundle, of all its buckets, within a number of bytes:

1. who begins a call of a segment asks the shelf for it; if it is not there, those that were used
   longest ago are closed until it fits, and it is loaded;
2. a segment counts as used until the bound call that was made of it is gone, for within a loop it
   is called again and again; what is used is not closed;
3. requests take turns where not all segments fit: two that each hold what the other one's next
   segment needs the place of would wait for ever. A single one always gets on, since at loading
   the shelf was found large enough for what it holds at any one time.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from partitioner.backends.execution import (
    BoundCall,
    DeviceOptions,
    Executable,
    OfSegment,
    Resizable,
    call_once,
)
from partitioner.backends.weighing import NOTHING, WeightUse, held_weights
from partitioner.errors import InsufficientMemoryError, UsageError
from partitioner.plan import SegmentInfo
from partitioner.runtime.amounts import amount
from partitioner.runtime.arena import Array
from partitioner.runtime.loading import SegmentLoader

if TYPE_CHECKING:
    from partitioner.artifacts.bundle import Bundle

__all__ = ["LazySegment", "Shelf", "lazy_segments"]


class Shelf:
    """What limits how many segments are loaded at a time. Thread-safe.

    Args:
        limit: bytes of weights.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lock = threading.RLock()
        self._turn = threading.RLock()
        self._depth = 0
        self._serving: int | None = None
        #: Loaded ones; those that were used longest ago come first.
        self._loaded: dict[LazySegment, None] = {}

    @contextmanager
    def turn(self) -> Generator[None]:
        """A request, while which no other one runs; but for those made from within."""
        with self._turn:
            self._depth += 1
            self._serving = threading.get_ident()
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    self._serving = None
                    self._release()

    def check_outside(self) -> None:
        """Refuse that a request lets another one wait for its turn, and then waits for that.

        Raises:
            UsageError: the calling thread has its turn.
        """
        if self._serving == threading.get_ident():
            raise UsageError(
                "a request is submitted from within a call, but not all segments are in memory at "
                "once and requests take turns: it would wait for the call, which may wait for it",
                advice="submit it when the call is over, or allow more by max_memory",
            )

    def make_room(self, segment: LazySegment) -> None:
        """Close what is not used until a segment fits, which the caller then loads.

        Raises:
            InsufficientMemoryError: the others are all in use.
        """
        needed = segment.expected.total
        for other in [one for one in self._loaded if not one.used]:
            if self._held() + needed <= self.limit:
                break
            other.close()
        if self._held() + needed > self.limit:
            raise InsufficientMemoryError(
                f"segment {segment.info.name!r} takes {amount(needed)}, but of the "
                f"{amount(self.limit)} that are left for weights {amount(self._held())} are in use",
                advice="allow more by max_memory, or do not call the pipeline from within a call",
            )

    def touch(self, segment: LazySegment) -> None:
        """It is the one that was used last."""
        self._loaded.pop(segment, None)
        self._loaded[segment] = None

    def remove(self, segment: LazySegment) -> None:
        """It is closed."""
        self._loaded.pop(segment, None)

    def _held(self) -> int:
        return sum(one.expected.total for one in self._loaded)

    def _release(self) -> None:
        # Whoever keeps a failed request's traceback keeps its bound calls; they run no more.
        with self.lock:
            for segment in self._loaded:
                segment.used.clear()


class LazySegment(OfSegment):
    """An executable that is loaded when it is first called. Thread-safe.

    Args:
        info: of the segment, the first of those that share it.
        load: loads it; called at the first use, and after it was closed.
        blobs: the segment's, file name -> bytes.
        shelf: what limits how many are loaded; None for no limit.
        expected: what its weights will take; counts on a shelf.

    Attributes:
        used: a number for each bound call that there is, where there is a shelf.
    """

    def __init__(
        self,
        info: SegmentInfo,
        load: Callable[[], Executable],
        blobs: Mapping[str, int],
        shelf: Shelf | None = None,
        expected: WeightUse = NOTHING,
    ) -> None:
        super().__init__(info)
        self.expected = expected
        self.used: set[int] = set()
        self._load = load
        self._blobs = blobs
        self._shelf = shelf
        self._lock = threading.RLock() if shelf is None else shelf.lock
        self._executable: Executable | None = None
        self._numbers = itertools.count()

    @property
    def loaded(self) -> bool:
        """Whether it is now."""
        return self._executable is not None

    @property
    def weights(self) -> WeightUse:
        """What its weights take now: nothing before it is loaded."""
        executable = self._executable
        return NOTHING if executable is None else held_weights(executable, self._blobs)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """As of the segment; loads it if need be.

        Raises:
            as :meth:`partitioner.backends.execution.Executor.load`; BackendError: it failed; and
            InsufficientMemoryError: there is no place for it.
        """
        return call_once(self, self.info, arrays)

    def bind(self) -> BoundCall:
        """A call of the segment; loads it if need be.

        Raises:
            as a call, but for what running raises.
        """
        with self._lock:
            call = self._ready().bind()
            return call if self._shelf is None else self._watched(call)

    def at(self, info: SegmentInfo) -> Executable:
        """The same segment for another number of rows; loaded when either is first needed."""
        return _LazyAt(self, info)

    def bind_at(self, info: SegmentInfo) -> BoundCall:
        """As :meth:`bind`, with the sizes of ``info``."""
        with self._lock:
            call = cast("Resizable", self._ready()).at(info).bind()
            return call if self._shelf is None else self._watched(call)

    def close(self) -> None:
        """Give back memory; the next use loads it again."""
        with self._lock:
            executable, self._executable = self._executable, None
            if self._shelf is not None:
                self._shelf.remove(self)
        if executable is not None:
            executable.close()

    def _ready(self) -> Executable:
        if self._executable is None:
            if self._shelf is not None:
                self._shelf.make_room(self)
            self._executable = self._load()
        if self._shelf is not None:
            self._shelf.touch(self)
        return self._executable

    def _watched(self, call: BoundCall) -> BoundCall:
        watched, number = _Watched(call), next(self._numbers)
        self.used.add(number)
        weakref.finalize(watched, self.used.discard, number).atexit = False
        # Its methods are attributes here, which have no names of arguments.
        return cast("BoundCall", watched)


class _LazyAt(OfSegment):
    """A lazy segment with the sizes of another number of rows."""

    weights = NOTHING

    def __init__(self, segment: LazySegment, info: SegmentInfo) -> None:
        super().__init__(info)
        self._segment = segment

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        return call_once(self, self.info, arrays)

    def bind(self) -> BoundCall:
        return self._segment.bind_at(self.info)

    def close(self) -> None:
        """The segment itself is closed by its owner."""


class _Watched:
    """A bound call of which it can be seen when it is gone; calling it costs nothing more."""

    __slots__ = ("__weakref__", "run", "set_input", "set_output")

    def __init__(self, call: BoundCall) -> None:
        self.set_input: Callable[[int, Array], None] = call.set_input
        self.set_output: Callable[[int, Array | None], None] = call.set_output
        self.run: Callable[[], tuple[Array, ...]] = call.run


def lazy_segments(
    bundle: Bundle, device: DeviceOptions, shelf: Shelf | None, *, ahead: bool
) -> dict[str, Executable]:
    """A segment each, to be loaded when needed; those that compile to the same share one.

    Args:
        ahead: have the files now: later the store cannot be asked.

    Raises:
        IncompatibleBundleError, MissingDependencyError: a backend cannot be had here.
        BundleError: where there is a shelf, a graph is damaged.
        StoreError: a file cannot be fetched.
    """
    loader = SegmentLoader(bundle, device)
    found: dict[str, Executable] = {}
    for first, *others in loader.groups().values():
        if ahead:
            loader.arrive(first)
        segment = LazySegment(
            bundle.manifest.plan.segments[first],
            partial(loader.load, first),
            loader.weight_blobs(first),
            shelf,
            NOTHING if shelf is None else loader.weigh(first),
        )
        found.update(dict.fromkeys((first, *others), segment))
    return {name: found[name] for name in bundle.manifest.artifacts}
