"""Engines by name."""

from __future__ import annotations

from typing import Literal, get_args

from partitioner.engines.base import Engine
from partitioner.engines.local import LocalEngine
from partitioner.errors import UsageError

__all__ = ["ENGINES", "EngineName", "opened_engine"]

EngineName = Literal["local", "ray"]

ENGINES: tuple[str, ...] = get_args(EngineName)


def opened_engine(
    engine: str | Engine, jobs: int | None = None, *, measuring: bool = False
) -> Engine:
    """An engine that is ready for jobs; the caller closes it.

    Args:
        engine: a name of ``ENGINES``, or an engine, which is given as it is.
        jobs: how many run at a time at most; by default what the machine or cluster has room for.
        measuring: some jobs measure, and others would disturb them: one runs at a time.

    Raises:
        UsageError: no such engine, or no number of jobs.
        MissingDependencyError: Ray is not installed.
        BackendError: the Ray cluster cannot be reached.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} jobs at a time", advice="give a number from 1 on (--jobs)")
    if not isinstance(engine, str):
        return engine
    if measuring:
        jobs = 1
    if engine == "local":
        return LocalEngine(jobs)
    if engine == "ray":
        from partitioner.engines.ray import RayEngine

        return RayEngine(jobs)
    raise UsageError(
        f"there is no engine {engine!r}", advice=f"choose one of: {', '.join(ENGINES)}"
    )
