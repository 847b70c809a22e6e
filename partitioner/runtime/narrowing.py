"""A bundle for a range of batch sizes with fewer rows: its manifest, constants and segments."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from partitioner.backends.execution import Executable, Resizable
from partitioner.plan_rows import batch_at, kept_outputs, narrowed, plan_at

if TYPE_CHECKING:
    from partitioner.artifacts.bundle import Bundle
    from partitioner.artifacts.manifest import Manifest

__all__ = ["bundle_at", "constants_at", "executables_at", "manifest_at"]

Array = np.ndarray[Any, Any]


def bundle_at(bundle: Bundle, rows: int) -> Bundle:
    """The bundle with a manifest of so many rows; it names no data, which are the bundle's own."""
    found = copy.copy(bundle)
    found.manifest = manifest_at(bundle.manifest, rows)
    return found


def manifest_at(manifest: Manifest, rows: int) -> Manifest:
    """What a manifest for a range says of so many rows."""
    batch = manifest.batch
    assert batch is not None
    plan = plan_at(manifest.plan, batch, rows)
    inputs = tuple(
        replace(spec, tensor=replace(spec.tensor, shape=(rows, *spec.tensor.shape[1:])))
        if spec.name in batch.inputs
        else spec
        for spec in manifest.inputs
    )
    return replace(
        manifest,
        inputs=inputs,
        outputs={n: plan.values[plan.outputs[n]] for n in kept_outputs(plan.outputs, batch, rows)},
        plan=plan,
        constants={},
        parity=None,
        memory=None,
        variants=tuple(replace(one, constants={}, parity=None) for one in manifest.variants),
        batch=batch_at(batch, rows),
    )


def constants_at(constants: Mapping[str, Array], manifest: Manifest, rows: int) -> dict[str, Array]:
    """Constants of the range with so many rows; contiguous, as segments read them."""
    batch = manifest.batch
    assert batch is not None
    return {
        # Not ascontiguousarray, which gives a number a dimension.
        value: np.asarray(
            narrowed(array, batch.growth.get(value, (0,)), batch.rows - rows), order="C"
        )
        for value, array in constants.items()
    }


def executables_at(
    executables: Mapping[str, Executable], manifest: Manifest
) -> dict[str, Executable]:
    """Segments with the sizes of a manifest; those that share an executable go on doing so."""
    made: dict[tuple[int, str], Executable] = {}
    found: dict[str, Executable] = {}
    for name, executable in executables.items():
        info = manifest.plan.segments[name]
        key = id(executable), repr((info.inputs, info.outputs))
        if key not in made:
            made[key] = cast("Resizable", executable).at(info)
        found[name] = made[key]
    return found
