"""How the bundles are built that are compared."""

from __future__ import annotations

from typing import Any

__all__ = ["BUNDLES"]

#: By the name under which a bundle runs.
BUNDLES: dict[str, dict[str, Any]] = {
    "bundle": {"backends": ["openvino", "onnx", "host"], "tune": True},
    "bundle, onnx": {"backends": ["onnx", "host"]},
    "bundle, openvino": {"backends": ["openvino", "host"]},
}
