"""Inputs to run a pipeline with before the first request comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from partitioner.artifacts.digest import hex_of
from partitioner.specs import Noise, TensorSpec

if TYPE_CHECKING:
    from partitioner.artifacts.bundle import Bundle

__all__ = ["warm_inputs"]

Array = np.ndarray[Any, Any]


def warm_inputs(bundle: Bundle) -> dict[str, Array]:
    """The inputs of the bundle's parity sample, or zeros where it has none here.

    Noise is left to be drawn. Sizes that callers choose are 1.

    Raises:
        BundleError: the sample is damaged.
    """
    manifest = bundle.manifest
    samples: Mapping[str, Any] = manifest.parity.inputs if manifest.parity else {}
    given: dict[str, Array] = {}
    for spec in manifest.inputs:
        if not spec.used or isinstance(spec.how, Noise):
            continue
        sample = samples.get(spec.name)
        # From a store, what only checks need is not fetched.
        if sample is not None and (bundle.blobs_dir / hex_of(sample.data.blob)).exists():
            given[spec.name] = np.array(bundle.constant(sample.data, sample.spec))
        else:
            given[spec.name] = _zeros(spec.tensor)
    return given


def _zeros(spec: TensorSpec) -> Array:
    return np.zeros([dim if isinstance(dim, int) else 1 for dim in spec.shape], spec.dtype)
