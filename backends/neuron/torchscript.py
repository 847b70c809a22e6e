"""Load compiled segments as the Neuron SDK documents it: ``torch.jit.load``.

The one part of serving that imports torch, and only when a Neuron segment is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from partitioner.backends.neuron.loaders import Source
from partitioner.backends.neuron.sdk import Sdk, import_sdk

__all__ = ["TorchLoader"]

Array = np.ndarray[Any, Any]


class TorchLoader:
    """Loads archives through torch-neuronx."""

    def __init__(self) -> None:
        self._sdk: Sdk | None = None

    def load(self, source: Source, core: int) -> TorchModel:
        """See :class:`partitioner.backends.neuron.loaders.Loader`."""
        if self._sdk is None:
            self._sdk = import_sdk()
        loaded = self._sdk.load(source.path, core)
        if not source.record.inline_weights:
            self._sdk.move_weights(loaded, core)
        return TorchModel(loaded)


class TorchModel:
    """A traced module on a core; takes and gives tensors on the CPU."""

    def __init__(self, module: Any) -> None:
        self._module: Any = module

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """See :class:`partitioner.backends.neuron.loaders.Model`."""
        import torch

        with torch.inference_mode():
            given = [torch.from_numpy(_writeable(array)) for array in arrays]
            made = self._module(*given)
        tensors = made if isinstance(made, tuple | list) else (made,)
        return [tensor.detach().numpy() for tensor in tensors]

    def close(self) -> None:
        self._module = None


def _writeable(array: Array) -> Array:
    """The same memory, marked as torch wants it; nothing writes to inputs."""
    return array if array.flags.writeable else np.asarray(_Writeable(array))


class _Writeable:
    def __init__(self, array: Array) -> None:
        self._array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
