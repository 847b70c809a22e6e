"""How a segment is compiled: what an artifact may ask for, and the plugin's properties it becomes.

A bundle is data from elsewhere, so an artifact chooses among the settings here and gives no
property by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from partitioner.backends.execution import DeviceOptions
from partitioner.backends.openvino.library import core
from partitioner.errors import IncompatibleBundleError
from partitioner.runtime.cpus import usable_cpus

__all__ = ["PRECISIONS", "Settings", "plugin_properties", "read_settings"]

#: ``bf16``: products in bfloat16 where the CPU has instructions for it, in float32 elsewhere.
PRECISIONS = ("f32", "bf16")


@dataclass(frozen=True)
class Settings:
    """The options of an OpenVINO artifact.

    Attributes:
        snippets: whether element-wise ops and small MLPs are fused by code generation.
        dynamic: whether the graph is compiled as if its shapes were not known.
        precision: one of :data:`PRECISIONS`.
    """

    snippets: bool = True
    dynamic: bool = False
    precision: str = "f32"

    def options(self) -> dict[str, Any]:
        """As an artifact has them: the precision, and what is not the default."""
        default = Settings()
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value
            for name, value in named.items()
            if name == "precision" or value != getattr(default, name)
        }


def read_settings(options: Mapping[str, Any], where: str) -> Settings:
    """The settings that an artifact's options name.

    Raises:
        IncompatibleBundleError: an option that this version does not know.
    """
    kinds = {"snippets": (True, False), "dynamic": (True, False), "precision": PRECISIONS}
    for name, value in options.items():
        known = kinds.get(name, ())
        if not any(value is one or (isinstance(value, str) and value == one) for one in known):
            raise IncompatibleBundleError(
                f"the artifact asks for '{name}={value!r:.60}', which this version does not allow",
                where=where,
                advice="upgrade partitioner if the bundle was built by a newer version",
            )
    return Settings(**options)


def plugin_properties(settings: Settings, device: DeviceOptions) -> dict[str, Any]:
    """Properties of the CPU plugin, on this host.

    - The precision is always set: left alone, the plugin takes bfloat16 where the host has it, and
      results would change with the host; asked for bfloat16, it fails where the host has none.
    - The number of threads is always set: the plugin does not see a container's CPU quota.
    - No streams: they are the performance hint's business.
    - Operands of products with packed weights are not rounded to 8 bits.
    """
    bfloat16 = settings.precision == "bf16" and has_bfloat16()
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "PERFORMANCE_HINT": device.mode.upper(),
        "INFERENCE_NUM_THREADS": device.threads or usable_cpus(),
        "ENABLE_CPU_PINNING": device.pinning,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    if not settings.snippets:
        properties["SNIPPETS_MODE"] = "DISABLE"
    return properties


def has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 (AVX512-BF16 or AMX)."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
