"""The request that a benchmark makes: the caller's inputs, the bundle's own sample, or made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.store.sources import is_source
from partitioner.runtime.choosing import choose
from partitioner.runtime.opening import open_directory
from partitioner.runtime.verify import sample_inputs
from partitioner.specs import InputSpec, Noise, TensorSpec

__all__ = ["Origin", "Sample", "sample_request"]

Array = np.ndarray[Any, Any]

#: Where inputs come from.
Origin = Literal["given", "sample", "made up"]


@dataclass(frozen=True)
class Sample:
    """A request.

    Args:
        inputs: by name.
        origins: by name, where each comes from.
    """

    inputs: dict[str, Any]
    origins: dict[str, Origin]


def sample_request(
    path: str,
    specs: tuple[InputSpec, ...],
    given: Mapping[str, Any],
    variant: Mapping[str, str] | None = None,
) -> Sample:
    """All inputs of a request: those given, else the bundle's sample, else numbers by their types.

    Samples of a bundle in a store are not fetched. Noise is left to be drawn.

    Args:
        path: of the bundle.
        specs: its inputs.
        given: by name; what is no input chooses a variant.
        variant: labels of the member.
    """
    inputs: dict[str, Any] = dict(given)
    origins: dict[str, Origin] = dict.fromkeys(given, "given")
    wanted = [s for s in specs if s.used and not isinstance(s.how, Noise) and s.name not in given]
    own = _own_sample(path, variant) if wanted else {}
    for spec in wanted:
        found = spec.name in own
        inputs[spec.name] = own[spec.name] if found else made_up(spec.tensor)
        origins[spec.name] = "sample" if found else "made up"
    return Sample(inputs, origins)


def _own_sample(path: str, variant: Mapping[str, str] | None) -> dict[str, Array]:
    if is_source(path):
        return {}
    bundle: Bundle = choose(open_directory(path), variant).bundle
    sample = bundle.manifest.parity
    return {} if sample is None else sample_inputs(bundle, sample)


def made_up(spec: TensorSpec) -> Array:
    """Numbers that any pipeline takes: normal ones, and 0 where they are whole.

    Whole numbers may be places in a table. A dimension of no fixed size is 1.
    """
    shape = tuple(dim if isinstance(dim, int) else 1 for dim in spec.shape)
    if spec.dtype.startswith("float"):
        return np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)
    return np.zeros(shape, spec.dtype)
