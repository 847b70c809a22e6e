"""The schedules of a loaded bundle, and which of them a request wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from partitioner.errors import InputError
from partitioner.plan import Plan, rescheduled
from partitioner.runtime.arena import Arenas
from partitioner.runtime.schedule import Scheduled, schedule
from partitioner.specs import InputSpec

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Manifest

__all__ = ["Schedule", "Schedules"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Schedule:
    """One schedule, ready to run.

    Attributes:
        options: that choose it.
        plan: with its trips.
        scheduled: the plan, ready to run.
        constants: value id -> array.
        inputs: of the bundle.
    """

    options: dict[str, Any]
    plan: Plan
    scheduled: Scheduled
    constants: dict[str, Array]
    inputs: tuple[InputSpec, ...]


class Schedules:
    """All schedules of a bundle, and the memory for runs of any of them.

    Args:
        manifest: of the bundle.
        constants: arrays of the bundle's own constants, by value id.
        varied: for each variant, arrays of its own.
        shared: of other sizes of the same bundle; memory for runs is that of theirs.
    """

    def __init__(
        self,
        manifest: Manifest,
        constants: Mapping[str, Array],
        varied: tuple[Mapping[str, Array], ...],
        shared: Schedules | None = None,
    ) -> None:
        plan, inputs = manifest.plan, manifest.inputs
        self._own = constants
        if not manifest.variants:
            self._all = [Schedule({}, plan, schedule(plan), dict(constants), inputs)]
        else:
            self._all = []
        for variant, own in zip(manifest.variants, varied, strict=True):
            changed = rescheduled(plan, variant.trips, variant.repeats)
            self._all.append(
                Schedule(variant.options, changed, schedule(changed), {**constants, **own}, inputs)
            )
        self._varied = varied
        arenas = None if shared is None else shared.arenas
        self.arenas = Arenas([one.scheduled for one in self._all], arenas)

    def at(
        self, manifest: Manifest, sized: Callable[[Mapping[str, Array]], dict[str, Array]]
    ) -> Schedules:
        """The same schedules of a manifest with other sizes, on the same memory for runs.

        Args:
            sized: constants with these sizes.
        """
        return Schedules(manifest, sized(self._own), tuple(map(sized, self._varied)), self)

    @property
    def options(self) -> list[dict[str, Any]]:
        """The options of each variant; empty where there is but one schedule."""
        return [dict(one.options) for one in self._all if one.options]

    @property
    def constants(self) -> dict[str, Array]:
        """Those of the first schedule; what all schedules share is the same in each."""
        return self._all[0].constants

    def choose(self, given: Mapping[str, Any]) -> tuple[Schedule, dict[str, Any]]:
        """The schedule that the options in ``given`` choose, and what else is given.

        Options that are left out are those of the first variant, if there is such a variant, or
        of the first that fits.

        Raises:
            InputError: no variant has these options.
        """
        first = self._all[0]
        wanted = {name: value for name, value in given.items() if name in first.options}
        rest = {name: value for name, value in given.items() if name not in wanted}
        fitting = [one for one in self._all if _fits(one.options, wanted)]
        if not fitting:
            known = "; ".join(_text(one.options) for one in self._all)
            raise InputError(
                f"the bundle has no variant with {_text(wanted)}; it has {known}",
                advice=f"build it with --variant {_text(wanted).replace(', ', ',')}, too",
            )
        exact = {**first.options, **wanted}
        return next((one for one in fitting if one.options == exact), fitting[0]), rest

    def clear(self) -> None:
        """Give back what the schedules hold."""
        for one in self._all:
            one.constants.clear()
        self.arenas.clear()


def _fits(options: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    try:
        return all(bool(options[name] == value) for name, value in wanted.items())
    except ValueError:  # an array, which is no option's value
        return False


def _text(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
