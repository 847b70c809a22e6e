"""CPU quotas, in folders that look like /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitioner.runtime import cpus
from partitioner.runtime.cpus import cpu_quota, usable_cpus


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


GROUPS = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("expected", "files"),
    [
        (None, {}),
        (None, {"proc/self/cgroup": "0::/"}),
        (None, {"proc/self/cgroup": "0::/", f"{GROUPS}/cpu.max": "max 100000"}),
        (2.5, {"proc/self/cgroup": "0::/", f"{GROUPS}/cpu.max": "250000 100000"}),
        # The narrowest of the groups above counts.
        (
            1.5,
            {
                "proc/self/cgroup": "0::/a/b",
                f"{GROUPS}/a/b/cpu.max": "400000 100000",
                f"{GROUPS}/a/cpu.max": "150000 100000",
            },
        ),
        # In a container the mount is the group itself, whatever its path on the host.
        (3.0, {"proc/self/cgroup": "0::/../x", f"{GROUPS}/cpu.max": "300000 100000"}),
        # Version 1.
        (
            None,
            {
                "proc/self/cgroup": "3:cpuset:/\n2:cpu:/",
                f"{GROUPS}/cpu/cpu.cfs_quota_us": "-1",
                f"{GROUPS}/cpu/cpu.cfs_period_us": "100000",
            },
        ),
        (
            0.5,
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n0::/",
                f"{GROUPS}/cpu,cpuacct/cpu.cfs_quota_us": "50000",
                f"{GROUPS}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
        ),
        # Nonsense is no quota.
        (None, {"proc/self/cgroup": "nonsense", f"{GROUPS}/cpu.max": "1 1"}),
        (None, {"proc/self/cgroup": "0::/", f"{GROUPS}/cpu.max": "100 0"}),
        (None, {"proc/self/cgroup": "0::/", f"{GROUPS}/cpu.max": ""}),
    ],
)
def test_quota(tmp_path: Path, expected: float | None, files: dict[str, str]) -> None:
    assert expected == cpu_quota(write(tmp_path, files))


@pytest.mark.parametrize(
    ("expected", "quota"), [(8, "max"), (2, "250000"), (1, "50000"), (8, "1600000")]
)
def test_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: int, quota: str) -> None:
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    root = write(tmp_path, {"proc/self/cgroup": "0::/", f"{GROUPS}/cpu.max": f"{quota} 100000"})

    assert expected == usable_cpus(root)


def test_here() -> None:
    assert usable_cpus() >= 1
