"""Load the NEFF of a compiled segment by nrtpy, without torch. Experimental.

nrtpy (beta since SDK 2.32) gives the runtime a NEFF from a file. Nobody documents how the inputs of
a NEFF that ``torch_neuronx.trace`` made are named; as far as is known they are ``input0``,
``input1`` ... and ``output0`` ... in the order of the traced module. So what the model says of its
tensors is compared with the artifact's record, and anything else is refused.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from partitioner.backends.neuron.loaders import Source
from partitioner.errors import BackendError, IncompatibleBundleError, MissingDependencyError

__all__ = ["NrtLoader"]

Array = np.ndarray[Any, Any]


class NrtLoader:
    """Loads NEFFs through nrtpy."""

    def __init__(self) -> None:
        warnings.warn(
            "the nrtpy loader is experimental: it was never run on a device",
            RuntimeWarning,
            stacklevel=3,
        )
        try:
            self._nrtpy: Any = importlib.import_module("nrtpy")
        except ImportError as error:
            raise MissingDependencyError(
                f"nrtpy cannot be imported: {error}",
                advice="install nrtpy and the Neuron runtime, and set "
                "LD_LIBRARY_PATH=/opt/aws/neuron/lib",
            ) from error

    def load(self, source: Source, core: int) -> NrtModel:
        """See :class:`partitioner.backends.neuron.loaders.Loader`."""
        if not source.record.inline_weights:
            raise IncompatibleBundleError(
                "nrtpy runs NEFFs with inlined weights only",
                where=str(source.path),
                advice="compile with neuron.weights=inline, or use the loader through torch",
            )
        with tempfile.TemporaryDirectory(prefix="partitioner-") as folder:
            path = Path(folder) / "graph.neff"
            source.neff.extract(path)
            model = self._nrtpy.NrtpyModel.load_from_neff(str(path), core_id=core)
        inputs = [f"input{index}" for index in range(len(source.record.arguments))]
        outputs = [f"output{index}" for index in range(len(source.outputs))]
        _check_names(model.input_tensors_info, inputs, "inputs")
        _check_names(model.output_tensors_info, outputs, "outputs")
        return NrtModel(self._nrtpy, model, inputs, source, core)


class NrtModel:
    """A model of nrtpy with its tensors on the device."""

    def __init__(
        self, nrtpy: Any, model: Any, inputs: Sequence[str], source: Source, core: int
    ) -> None:
        self._model: Any = model
        self._outputs = source.outputs
        self._tensors = {
            name: nrtpy.NrtpyTensor.from_numpy(
                np.zeros(one.shape, one.dtype), name=name, core_id=core
            )
            for name, one in zip(inputs, source.record.arguments, strict=True)
        }

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """See :class:`partitioner.backends.neuron.loaders.Model`."""
        for tensor, array in zip(self._tensors.values(), arrays, strict=True):
            tensor.write_from_numpy(array)
        made: Mapping[str, Any] = self._model(inputs=self._tensors)
        found = [np.asarray(made[f"output{i}"].numpy()) for i in range(len(self._outputs))]
        return [
            array.reshape(shape) for array, (shape, _) in zip(found, self._outputs, strict=True)
        ]

    def close(self) -> None:
        self._model = None
        self._tensors = {}


def _check_names(info: Any, wanted: Sequence[str], what: str) -> None:
    found = sorted(map(str, info))
    if found != sorted(wanted):
        raise BackendError(
            f"the NEFF's {what} are {found}, expected were {list(wanted)}",
            advice="use the loader through torch (unset PARTITIONER_NEURON_LOADER)",
        )
