"""What a loader of compiled segments offers, and which one is used.

``torch`` loads the TorchScript archive as the SDK documents it. ``nrtpy`` (experimental) gives the
NEFF in it to the runtime without torch. Chosen by ``PARTITIONER_NEURON_LOADER``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from partitioner.backends.neuron.archive import EmbeddedNeff
from partitioner.backends.neuron.record import Record
from partitioner.errors import UsageError

__all__ = ["VARIABLE", "Loader", "Model", "Source", "find_loader"]

VARIABLE = "PARTITIONER_NEURON_LOADER"

Array = np.ndarray[Any, Any]

_LOADERS = {
    "torch": "partitioner.backends.neuron.torchscript:TorchLoader",
    "nrtpy": "partitioner.backends.neuron.nrt:NrtLoader",
}


@dataclass(frozen=True)
class Source:
    """An artifact to load.

    Attributes:
        path: the archive.
        record: what it says of itself.
        neff: its NEFF, which has been found and checked.
        outputs: (shape, dtype) of what the traced module gives.
    """

    path: Path
    record: Record
    neff: EmbeddedNeff
    outputs: tuple[tuple[tuple[int, ...], str], ...]


class Model(Protocol):
    """A NEFF on a core. One call at a time."""

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Compute on C-contiguous arrays of the traced module's own types; gives its outputs.

        Raises:
            Exception: whatever the library raises; whoever calls explains it.
        """
        ...

    def close(self) -> None:
        """Give back the core's memory."""
        ...


class Loader(Protocol):
    """Brings artifacts to cores."""

    def load(self, source: Source, core: int) -> Model:
        """Load onto one of the cores that the process sees; not thread-safe.

        Raises:
            MissingDependencyError: the loader's library is not here.
            Exception: whatever the library raises; whoever calls explains it.
        """
        ...


def find_loader() -> Loader:
    """The loader that the environment names; the one through torch by default.

    Raises:
        UsageError: there is none such.
    """
    name = os.environ.get(VARIABLE) or "torch"
    if name not in _LOADERS:
        raise UsageError(
            f"{VARIABLE} is {name!r}", advice=f"one of {', '.join(_LOADERS)}, or leave it unset"
        )
    module, _, kind = _LOADERS[name].partition(":")
    return cast(Loader, getattr(importlib.import_module(module), kind)())
