"""How many CPUs this process may really use.

Inside a container ``os.cpu_count()`` is the host's number. What counts is the affinity mask and
the CPU quota of the control groups the process is in (version 1 or 2); threads beyond the quota
only get the process throttled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_quota", "usable_cpus"]


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs in the affinity mask, or the CPU quota rounded down if that is less; at least 1."""
    quota = cpu_quota(root)
    count = _affinity()
    return count if quota is None else max(1, min(count, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The smallest CPU quota of the process's control groups, in CPUs; None without one.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    quotas = [quota for quota in _quotas(root) if quota is not None]
    return min(quotas, default=None)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float | None]:
    mounts = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        hierarchy, controllers, path = [*line.split(":", 2), "", ""][:3]
        if hierarchy == "0" and not controllers:
            for group in _ancestors(mounts, path):
                yield _quota_v2(group)
        elif "cpu" in controllers.split(","):
            for mount in (mounts / "cpu", mounts / controllers):
                for group in _ancestors(mount, path):
                    yield _quota_v1(group)


def _ancestors(mount: Path, path: str) -> Iterator[Path]:
    """The group and those above it; in a container only the mount may be visible."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _quota_v2(group: Path) -> float | None:
    words = " ".join(_lines(group / "cpu.max")).split()
    return _ratio(*words) if len(words) == 2 else None


def _quota_v1(group: Path) -> float | None:
    quota = " ".join(_lines(group / "cpu.cfs_quota_us"))
    period = " ".join(_lines(group / "cpu.cfs_period_us"))
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    """``max`` (version 2) and -1 (version 1) mean no limit."""
    if not (quota.isdigit() and period.isdigit() and int(period) > 0):
        return None
    return int(quota) / int(period)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
