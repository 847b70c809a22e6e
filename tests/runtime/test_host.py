"""What this host has."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from partitioner.isa import canonical_machine, machine_of
from partitioner.runtime.host import installed_version, this_host


def test_this_host() -> None:
    host = this_host()
    assert canonical_machine(platform.machine()) == host.machine
    # Linux tells the flags of the machines whose levels are known.
    assert host.machine in (machine_of(host.instructions), "") or not host.instructions
    assert np.__version__ == host.version("numpy")
    assert host.version("no-such-distribution") is None


def test_a_distribution_by_its_module() -> None:
    assert installed_version("Pillow") == installed_version("PIL")


def test_files_of_linux(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "neuron0").touch()
    (tmp_path / "proc").mkdir()
    flags = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
    (tmp_path / "proc" / "cpuinfo").write_text(
        f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags} avx2\n"
    )
    host = this_host(tmp_path)
    assert frozenset({"neuron"}) == host.devices
    assert host.machine != "x86_64" or host.instructions == "x86-64-v2"


def test_nothing_is_known_without_proc(tmp_path: Path) -> None:
    host = this_host(tmp_path / "empty")
    assert frozenset() == host.devices
    assert host.instructions in ("x86-64", "armv8-a", "")
