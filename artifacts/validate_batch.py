"""Whether what a manifest says of rows is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from partitioner.artifacts.faults import damaged, shown
from partitioner.specs import Noise, TensorSpec

if TYPE_CHECKING:
    from partitioner.artifacts.manifest import Batch, Manifest

__all__ = ["validate_batch"]


def validate_batch(manifest: Manifest) -> None:
    """Check that each input, output and draw that is said to have rows has them.

    Raises:
        BundleError: says which has not.
    """
    batch = manifest.batch
    if batch is None:
        return
    if batch.rows < 1:
        raise damaged(f"a bucket has {batch.rows} rows")
    _check_inputs(manifest, batch)
    _check_outputs(manifest, batch)
    if batch.rows > 1:
        _check_draws(manifest, batch)
    _check_range(manifest, batch)


def _check_range(manifest: Manifest, batch: Batch) -> None:
    if batch.least is None:
        if batch.growth:
            raise damaged("values grow with the rows of a bucket that serves no range")
        return
    if not 1 <= batch.least < batch.rows:
        raise damaged(f"a bucket serves {batch.least} to {batch.rows} rows")
    fewer = batch.rows - batch.least
    for value, growth in batch.growth.items():
        spec = manifest.plan.values.get(value)
        shape = () if spec is None else spec.shape
        if len(shape) != len(growth) or not any(growth):
            raise damaged(f"{shown(value)} is said to grow by {list(growth)}, but is {spec}")
        for size, grows in zip(shape, growth, strict=True):
            if grows and (not isinstance(size, int) or grows < 0 or size - grows * fewer < 0):
                raise damaged(f"{value!r} is {spec}, but grows by {list(growth)} with each row")
    for value in _rowed(manifest, batch):
        if value not in batch.growth:
            raise damaged(f"{value!r} is said to have rows, but does not grow")


def _rowed(manifest: Manifest, batch: Batch) -> list[str]:
    """The values that callers give and get, and that are drawn, with a row for each request."""
    plan = manifest.plan
    given = [plan.inputs[name] for name in batch.inputs if name in plan.inputs]
    drawn = [draw.value for group in plan.draws for draw in group.draws]
    return [*given, *drawn, *(plan.outputs[name] for name in batch.stacked)]


def _check_draws(manifest: Manifest, batch: Batch) -> None:
    # A bucket of one row draws as a request does, whatever the shapes.
    noise = {spec.name for spec in manifest.inputs if isinstance(spec.how, Noise)}
    if not noise <= set(batch.inputs):
        raise damaged("noise inputs are not said to have rows")
    for group in manifest.plan.draws:
        for draw in group.draws:
            spec = manifest.plan.values[draw.value]
            _check_rows(batch, spec, int(draw.row), f"the draw {draw.value!r}")


def _check_inputs(manifest: Manifest, batch: Batch) -> None:
    specs = {spec.name: spec for spec in manifest.inputs}
    if len(set(batch.inputs)) < len(batch.inputs):
        raise damaged("an input is said to have rows twice")
    for name in batch.inputs:
        if name not in specs:
            raise damaged(f"{shown(name)} is said to have rows, but is no input")
        _check_rows(batch, specs[name].tensor, 0, f"input {name!r}")


def _check_outputs(manifest: Manifest, batch: Batch) -> None:
    for name in batch.stacked:
        if name not in manifest.outputs:
            raise damaged(f"{shown(name)} is said to have rows, but is no output")
        _check_rows(batch, manifest.outputs[name], 0, f"output {name!r}")
    for name in batch.listed:
        rows = [f"{name}.{row}" for row in range(batch.rows)]
        single = batch.rows == 1 and name in manifest.outputs
        if not single and not all(row in manifest.outputs for row in rows):
            raise damaged(f"the rows of {shown(name)} are not all outputs")


def _check_rows(batch: Batch, spec: TensorSpec, axis: int, what: str) -> None:
    if spec.shape[axis : axis + 1] != (batch.rows,):
        raise damaged(f"{what} is said to have {batch.rows} rows, but is {spec}")
