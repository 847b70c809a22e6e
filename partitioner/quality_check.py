"""``partition verify --quality``: a bundle's results by the pipeline's own metric."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

import partitioner.runtime
from partitioner.artifacts.manifest import Batch
from partitioner.capture import evaluation_mode
from partitioner.capture.module_paths import find_modules
from partitioner.capture.structure import named_leaves, named_tensors
from partitioner.compressing import complete
from partitioner.errors import ParityError
from partitioner.frontend import PARITY_SEED
from partitioner.modelfile import LoadedModel
from partitioner.quality import Metric, judge
from partitioner.row_parity import rows_of

__all__ = ["Measured", "measure_bundle", "requests_of"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Measured:
    """Quality of each request, in their order: the example inputs first."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "least": min(self.values), "requests": list(self.values)}


def requests_of(loaded: LoadedModel) -> list[dict[str, Any]]:
    """The example inputs, then the file's ``quality_inputs``, each filled up from these."""
    return [
        loaded.example_inputs,
        *complete(loaded.example_inputs, loaded.quality_inputs, "quality inputs"),
    ]


def measure_bundle(
    path: str | os.PathLike[str],
    pipeline: Any,
    requests: Sequence[Mapping[str, Any]],
    metric: Metric,
    *,
    options: Mapping[str, Any] | None = None,
    least: float | None = None,
    **load_options: Any,
) -> Measured:
    """Run a bundle and the eager pipeline on the same requests and seeds, and compare by a metric.

    Args:
        path: of the bundle.
        pipeline: that the bundle was built of.
        requests: of the form of the example inputs; each has a seed of its own.
        metric: of the model file.
        options: arguments of the pipeline that were fixed at build.
        least: what the mean has to be.
        load_options: as of :func:`partitioner.runtime.load`.

    Raises:
        ParityError: the mean is less than ``least``.
        ModelError: the metric fails.
        PartitionerError: as ``load`` and the loaded pipeline.
    """
    values: list[float] = []
    with partitioner.runtime.load(path, **load_options) as loaded:
        batch = cast("Batch | None", cast(Any, loaded).manifest.batch)
        alone = None if batch is None else replace(batch, rows=1)
        for seed, request in enumerate(requests, PARITY_SEED):
            tensors = named_tensors(request)
            given = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
            eager = _run_eager(pipeline, request, options or {}, seed)
            # Eager gives a list of one where a bucket's only row stands by itself.
            pair = (rows_of(alone, one)[0] for one in (eager, cast(Any, loaded)(given, seed=seed)))
            values.append(judge(metric, *pair))
    found = Measured(tuple(values))
    if least is not None and found.mean < least:
        raise ParityError(
            f"results have {found.mean:.2%} of the eager pipeline's quality, on average over "
            f"{len(values)} requests, which is less than {least:.2%}",
            where=str(path),
            advice="compress less (--quality-budget of build), or ask for less",
        )
    return found


@torch.no_grad()
def _run_eager(
    pipeline: Any, request: Mapping[str, Any], options: Mapping[str, Any], seed: int
) -> dict[str, Array]:
    """What the pipeline gives for a seed, on the CPU."""
    with evaluation_mode(pipeline, find_modules(pipeline)), torch.random.fork_rng([]):
        torch.manual_seed(seed)
        result = pipeline(**{**request, **options})
    leaves = named_leaves(result, "output")
    return {name: np.asarray(leaf) for name, leaf in leaves.items() if leaf is not None}
