"""Whether a bundle fits in the memory that a caller allows, known before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from partitioner.backends.execution import DeviceOptions
from partitioner.backends.weighing import Place, WeightUse, bytes_of
from partitioner.buffers import plan_buffers
from partitioner.errors import InsufficientMemoryError
from partitioner.plan import Call, Plan, Step, rescheduled
from partitioner.runtime.amounts import amount
from partitioner.runtime.lazy import Shelf
from partitioner.runtime.loading import SegmentLoader, constant_places

if TYPE_CHECKING:
    from partitioner.artifacts.bundle import Bundle

__all__ = ["Need", "admit", "need_of"]


@dataclass(frozen=True)
class Need:
    """Bytes that serving a bundle takes, as far as is known before; backends take more.

    Args:
        mapped: weights of all segments that are read in place.
        packed: bytes of copies of weights, those that share an executable once.
        least: the most bytes of weights that one request uses at a time.
        constants: constants and tables, which are read in place.
        arena: bytes of one request.
    """

    mapped: frozenset[Place]
    packed: int
    least: int
    constants: frozenset[Place]
    arena: int

    @property
    def fixed(self) -> int:
        """Bytes of constants and tables."""
        return bytes_of(self.constants)

    def whole(self, workers: int) -> int:
        """All segments loaded, and as many requests under way."""
        return bytes_of(self.mapped | self.constants) + self.packed + workers * self.arena

    @property
    def smallest(self) -> int:
        """Segments loaded as they are needed, one request at a time."""
        return self.least + self.fixed + self.arena

    def __add__(self, other: Need) -> Need:
        """Of two buckets, which may read the same in place."""
        return Need(
            self.mapped | other.mapped,
            self.packed + other.packed,
            max(self.least, other.least),
            self.constants | other.constants,
            self.arena + other.arena,
        )


def admit(
    bundles: Sequence[Bundle],
    device: DeviceOptions,
    *,
    limit: int,
    workers: int,
    lazy: bool,
) -> Shelf | None:
    """Compare what buckets (or a bundle without) need with a limit of bytes.

    Args:
        workers: requests that are served at a time.
        lazy: whether segments may be loaded one by one, and closed again.

    Returns:
        what keeps to the limit while requests are served; None if all fits at once.

    Raises:
        InsufficientMemoryError: it does not fit, with the figures that would.
        BundleError: a graph is damaged.
    """
    need = _together(bundles, device)
    if need.whole(workers) <= limit:
        return None
    if lazy and need.smallest <= limit:
        return Shelf(limit - need.fixed - need.arena)
    wanted = need.smallest if lazy else need.whole(workers)
    raise InsufficientMemoryError(
        f"{bundles[0].manifest.name} needs about {amount(wanted)} ({wanted} bytes)"
        f"{' even with lazy=True' if lazy else ''}, allowed by max_memory are {amount(limit)}",
        where=str(bundles[0].path),
        advice=_advice(bundles, device, need, workers=workers, lazy=lazy),
    )


def _advice(
    bundles: Sequence[Bundle], device: DeviceOptions, need: Need, *, workers: int, lazy: bool
) -> str:
    ways: list[str] = []
    if device.memory == "fast":
        low = _together(bundles, replace(device, memory="low"))
        takes = low.smallest if lazy else low.whole(workers)
        if takes < (need.smallest if lazy else need.whole(workers)):
            ways.append(f"memory='low' takes {amount(takes)}")
    if not lazy and need.smallest < need.whole(workers):
        ways.append(f"lazy=True at least {amount(need.smallest)}, requests then take turns")
    if not lazy and workers > 1:
        ways.append(f"one worker {amount(need.whole(1))}")
    return "; ".join([*ways, "or allow more"]) if ways else "allow more"


def _together(bundles: Sequence[Bundle], device: DeviceOptions) -> Need:
    first, *others = (need_of(bundle, device) for bundle in bundles)
    return sum(others, first)


def need_of(bundle: Bundle, device: DeviceOptions) -> Need:
    """What one bucket, or a bundle without, takes.

    Raises:
        BundleError: a graph is damaged.
    """
    loader, manifest = SegmentLoader(bundle, device), bundle.manifest
    weights: dict[str, WeightUse] = {}
    shared: dict[str, str] = {}
    for names in loader.groups().values():
        weights[names[0]] = loader.weigh(names[0])
        shared.update(dict.fromkeys(names, names[0]))
    at_once = (
        sum(weights[one].total for one in {shared[name] for name in _segments([step])})
        for step in manifest.plan.steps
    )
    return Need(
        frozenset[Place]().union(*(use.places for use in weights.values())),
        sum(use.packed for use in weights.values()),
        max(at_once, default=0),
        constant_places(manifest),
        max(plan_buffers(plan).arena for plan in _plans(bundle)),
    )


def _plans(bundle: Bundle) -> list[Plan]:
    plan, variants = bundle.manifest.plan, bundle.manifest.variants
    return [plan, *(rescheduled(plan, v.trips, v.repeats) for v in variants)]


def _segments(steps: Iterable[Step]) -> Iterable[str]:
    """Those that a step calls. A loop holds all of its own until it is over."""
    for step in steps:
        if isinstance(step, Call):
            yield step.segment
        else:
            yield from _segments(step.body)
