"""Tensors whose content is known, as they go on the tape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes

from partitioner.capture.aliases import Geometry
from partitioner.capture.tape import Constant
from partitioner.errors import CaptureError

__all__ = ["Constants"]

#: Constants up to this size are copied when they go on the tape, since the driver may write to
#: them later; larger ones are checked for that at the end.
_SNAPSHOT_BYTES = 16 * 2**20


class Constants:
    """The constants of one run: each content once, parameters and buffers under their names."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._names = _parameter_names(modules)
        self._known: dict[Any, tuple[StorageWeakRef, Constant]] = {}
        self._held: list[tuple[torch.Tensor, int]] = []

    def of(self, tensor: torch.Tensor) -> Constant:
        """What a tensor holds now."""
        storage = StorageWeakRef(tensor.untyped_storage())
        version = 0 if tensor.is_inference() else tensor._version
        key = (storage.cdata, Geometry.of(tensor), version)
        known = self._known.get(key)
        if known is not None:
            return known[1]
        name = self._names.get((storage.cdata, Geometry.of(tensor)))
        with _disable_current_modes():
            if name is None and tensor.nbytes <= _SNAPSHOT_BYTES:
                constant = Constant(tensor.detach().clone())
            else:
                constant = Constant(tensor.detach(), name)
                self._held.append((constant.tensor, constant.tensor._version))
        # The weak reference keeps the storage's address from being used again.
        self._known[key] = (storage, constant)
        return constant

    def check_unchanged(self) -> None:
        """Make sure that no constant that was not copied has been written to since.

        Raises:
            CaptureError: one has.
        """
        for tensor, version in self._held:
            if tensor._version != version:
                raise CaptureError(
                    f"the driver wrote to a constant of {tensor.nbytes} bytes "
                    f"{list(tensor.shape)} after using it",
                    advice="write the new value to a new tensor",
                )


def _parameter_names(modules: Mapping[str, nn.Module]) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for path, module in modules.items():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in own:
            key = (tensor.untyped_storage()._cdata, Geometry.of(tensor))
            names.setdefault(key, f"{path}.{name}" if path else name)
    return names
