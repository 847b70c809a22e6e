"""Whether the variants of a manifest are schedules of its plan, and can be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from partitioner.artifacts.faults import damaged, shown
from partitioner.artifacts.names import check_label
from partitioner.artifacts.validate_plan import check_memory, validate_plan
from partitioner.plan import Call, Plan, Step, rescheduled

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Manifest, Variant

__all__ = ["validate_variants"]


def validate_variants(manifest: Manifest) -> None:
    """Check each variant's plan as the bundle's own, and that options name one variant each.

    Raises:
        BundleError: says which variant, and what is wrong with it.
    """
    seen: list[dict[str, object]] = []
    for variant in manifest.variants:
        what = f"the variant {shown(variant.options)}"
        _check_options(manifest, variant, what)
        if any(_is_equal(variant.options, other) for other in seen):
            raise damaged(f"{what} is there twice")
        seen.append(variant.options)
        _check_schedule(manifest, variant, what)
        _check_data(manifest, variant, what)
    if manifest.variants:
        _check_first(manifest, manifest.variants[0])


def _is_equal(one: dict[str, object], other: dict[str, object]) -> bool:
    # 1, 1.0 and True are one to Python, and one to who asks for a variant.
    return one == other


def _check_options(manifest: Manifest, variant: Variant, what: str) -> None:
    if not variant.options or variant.options.keys() != manifest.variants[0].options.keys():
        raise damaged(f"{what} does not have the options of the others")
    for name, value in variant.options.items():
        check_label(name, f"an option of {what}")
        if not (value is None or isinstance(value, bool | int | float | str)):
            raise damaged(f"{what} has a value that is none of true, false, number or text")
        if any(spec.name == name for spec in manifest.inputs):
            raise damaged(f"{what} has an option with the name of the input {name!r}")


def _check_schedule(manifest: Manifest, variant: Variant, what: str) -> None:
    loops = set(_loops(manifest.plan.steps))
    if variant.trips.keys() != loops:
        raise damaged(f"{what} has trips of {sorted(variant.trips)}, the plan of {sorted(loops)}")
    if len(variant.repeats) != len(manifest.plan.draws):
        raise damaged(f"{what} repeats {len(variant.repeats)} groups of draws, of others than are")
    plan = rescheduled(manifest.plan, variant.trips, variant.repeats)
    validate_plan(plan)
    if variant.memory is not None:
        check_memory(plan, variant.memory, what)


def _loops(steps: tuple[Step, ...]) -> list[str]:
    found: list[str] = []
    for step in steps:
        if not isinstance(step, Call):
            found += [step.name, *_loops(step.body)]
    return found


def _check_data(manifest: Manifest, variant: Variant, what: str) -> None:
    from partitioner.artifacts.validate import check_parity, check_ref

    plan: Plan = manifest.plan
    for value, ref in variant.constants.items():
        if value not in plan.constants:
            raise damaged(f"{what} has data for {shown(value)}, which is no constant of the plan")
        check_ref(manifest, ref, plan.values[value], f"constant {value!r} of {what}")
    if variant.parity is not None:
        check_parity(manifest, variant.parity)


def _check_first(manifest: Manifest, first: Variant) -> None:
    own = rescheduled(manifest.plan, first.trips, first.repeats)
    extra = first.constants or first.parity is not None or first.memory is not None
    if own != manifest.plan or extra:
        raise damaged("the first variant is not the bundle's own plan")
