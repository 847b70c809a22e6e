"""Ahead-of-time compiler and packager for whole generative pipelines.

The names below are imported when they are first used: ``import partitioner`` alone costs nothing,
and serving code never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partitioner.builder import build as build
    from partitioner.errors import PartitionerError as PartitionerError
    from partitioner.hostops import host_op as host_op
    from partitioner.runtime import Pipeline as Pipeline
    from partitioner.runtime import load as load
    from partitioner.specs import Image as Image
    from partitioner.specs import Noise as Noise

__version__ = "0.1.0"

__all__ = ["Image", "Noise", "PartitionerError", "Pipeline", "build", "host_op", "load"]

_HOMES = {
    "Image": "partitioner.specs",
    "Noise": "partitioner.specs",
    "PartitionerError": "partitioner.errors",
    "Pipeline": "partitioner.runtime",
    "build": "partitioner.builder",
    "host_op": "partitioner.hostops",
    "load": "partitioner.runtime",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
