"""Which Neuron devices this host has, and which of their cores this process may use.

Without the SDK: by device files and what the driver says in /sys; ``neuron-ls`` where that is
silent. Paths are those of the documentation of AWS Neuron SDK 2.32.0.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partitioner.errors import UsageError

__all__ = ["Devices", "find_devices", "visible_cores"]

#: NeuronCore architecture of the instance families.
_ARCHITECTURES = {"inf2": 2, "trn1": 2, "trn1n": 2, "trn2": 3, "trn3": 4}

_NEURON_LS = "opt/aws/neuron/bin/neuron-ls"

#: Seconds; it asks the driver and answers at once, or not at all.
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Devices:
    """What a host has.

    Attributes:
        count: of devices (chips).
        cores: physical ones, all devices together; 0 where that cannot be told.
        family: of the instance, ``inf2``; empty where that cannot be told.
        lnc: physical cores a logical one, as the driver has it; 0 where that cannot be told.
    """

    count: int
    cores: int
    family: str = ""
    lnc: int = 0

    def runs(self, family: str) -> bool:
        """Whether what was compiled for a family can be for this host: cores of one generation."""
        here = _ARCHITECTURES.get(self.family)
        return here is None or here == _ARCHITECTURES.get(family)


def find_devices(root: Path = Path("/")) -> Devices:
    """Look at this host, or at a copy of its files under ``root``."""
    names = sorted((root / "dev").glob("neuron[0-9]*"))
    if not names and not _driver_loaded(root):
        return Devices(0, 0)
    folders = sorted((root / "sys/devices/virtual/neuron_device").glob("neuron[0-9]*"))
    cores = sum(_number(folder / "core_count") for folder in folders)
    family = _family(root, folders)
    if cores and family:
        return Devices(len(names) or len(folders), cores, family)
    listed = _neuron_ls(root)
    return Devices(
        len(names) or len(folders) or len(listed),
        cores or sum(int(one.get("nc_count", 0)) for one in listed),
        family,
        max((int(one.get("logical_neuroncore_config", 0)) for one in listed), default=0),
    )


def visible_cores(environment: Mapping[str, str], devices: Devices, lnc: int) -> tuple[int, ...]:
    """Indices, as the process counts them, of the logical cores that it may use.

    ``NEURON_RT_VISIBLE_CORES`` ("0", "0-3", "0,1") goes before ``NEURON_RT_NUM_CORES``; without
    both a process takes all cores. Frameworks number visible cores from 0.

    Args:
        lnc: physical cores a logical one.

    Raises:
        UsageError: a variable that is no list of cores.
    """
    named = environment.get("NEURON_RT_VISIBLE_CORES", "").strip()
    if named:
        return tuple(range(len(_cores_of(named))))
    number = environment.get("NEURON_RT_NUM_CORES", "").strip()
    if number:
        if not number.isdigit() or not int(number):
            raise UsageError(
                f"NEURON_RT_NUM_CORES is {number!r}", advice="give a whole number from 1 on"
            )
        return tuple(range(int(number)))
    # One core at least: where nothing is known of the device, its library decides.
    return tuple(range(max(1, devices.cores // max(1, lnc))))


def _cores_of(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise UsageError(
                f"NEURON_RT_VISIBLE_CORES is {text!r}", advice='give cores as "0", "0-3" or "0,1"'
            )
        found += range(int(low), int(high or low) + 1)
    if not found or len(set(found)) < len(found):
        raise UsageError(
            f"NEURON_RT_VISIBLE_CORES is {text!r}", advice="name each core once, the lower first"
        )
    return found


# --- the host's files ---------------------------------------------------------------------------


def _driver_loaded(root: Path) -> bool:
    listed = root / "proc/devices"
    return listed.is_file() and "neuron" in listed.read_text(errors="replace")


def _family(root: Path, folders: list[Path]) -> str:
    files = [f / "neuron_core0/info/architecture/instance_type" for f in folders]
    for file in (*files, root / "sys/devices/virtual/dmi/id/product_name"):
        if not file.is_file():
            continue
        family = file.read_text(errors="replace").strip().lower().partition(".")[0]
        if family in _ARCHITECTURES:
            return family
    return ""


def _number(file: Path) -> int:
    if not file.is_file():
        return 0
    text = file.read_text(errors="replace").strip()
    return int(text) if text.isdigit() else 0


def _neuron_ls(root: Path) -> list[dict[str, Any]]:
    tool = root / _NEURON_LS
    if not os.access(tool, os.X_OK):
        return []
    try:
        done = subprocess.run(
            [str(tool), "--json-output"], capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        # A tool of the host that does not answer says nothing about it.
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
