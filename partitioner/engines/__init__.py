"""Where segments are compiled: in this process's workers, one or several, or on a Ray cluster.

``docs/distributed-builds.md`` says how to use them, and what holds for each.
"""

from partitioner.engines.base import CompileJob, Engine
from partitioner.engines.opening import ENGINES, opened_engine

__all__ = ["ENGINES", "CompileJob", "Engine", "opened_engine"]
