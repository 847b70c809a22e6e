"""The libraries that verbs ask for: what each is for, and which are installed."""

from __future__ import annotations

import importlib.metadata

__all__ = ["BUILD", "OPTIONAL", "RUN", "version_of"]

#: distribution -> what it is for.
RUN = {"numpy": "run", "onnxruntime": "run onnx segments"}
BUILD = {"torch": "build", "onnx": "build", "onnxscript": "build"}
OPTIONAL = {
    "openvino": "build and run openvino segments (extra openvino)",
    "torch-neuronx": "compile and run neuron segments (docs/neuron.md)",
    "pillow": "pictures in and out (extra image)",
    "rich": "progress bars (extra build)",
    "scikit-image": "the host op marching_cubes (extra example)",
    "trimesh": "mesh files (extra example)",
}


def version_of(name: str) -> str | None:
    """Of an installed distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
