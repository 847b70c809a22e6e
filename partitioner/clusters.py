"""Connecting to a Ray cluster: the one that there is, else a new one on this machine."""

from __future__ import annotations

import os
from typing import Any

from partitioner.errors import BackendError, MissingDependencyError

__all__ = ["connect", "import_ray"]


def import_ray() -> Any:
    """The module ``ray``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            f"Ray is needed: {error}", advice="pip install 'partitioner[ray]'"
        ) from error
    return ray


def connect(ray: Any) -> bool:
    """Connect, unless the caller has: to the cluster of ``RAY_ADDRESS``, else to one that runs on
    this machine, else to a new one here, which ends with ``ray.shutdown``. ``RAY_ADDRESS=local``
    is a new one whatever runs.

    Returns:
        whether the cluster is a new one.

    Raises:
        BackendError: the cluster that ``RAY_ADDRESS`` names cannot be reached, or none be started.
    """
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    named = os.environ.get("RAY_ADDRESS")
    if named != "local" and _joined(ray, named, quiet):
        return False
    # Nothing is told to anybody of a cluster that its user has not asked for.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address="local", include_dashboard=False, **quiet)
    except Exception as error:
        raise BackendError(
            f"Ray cannot be started here: {str(error).splitlines()[0]}",
            advice="see its logs in /tmp/ray/session_latest/logs; a busy machine may be too slow",
        ) from error
    return True


def _joined(ray: Any, named: str | None, options: dict[str, Any]) -> bool:
    """Whether there was a cluster to connect to.

    Raises:
        BackendError: the one that was named cannot be reached.
    """
    try:
        ray.init(address=named or "auto", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if named is None:
            return False
        raise BackendError(
            f"the Ray cluster cannot be reached: {str(error).splitlines()[0]}",
            where=named,
            advice="see whether it runs (ray status), and what RAY_ADDRESS says",
        ) from error
    return True
