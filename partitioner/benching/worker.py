"""A process that loads a bundle and serves some requests, and says how long it took: nothing else.

Run by :mod:`partitioner.benching.loading`, which gives it a :class:`Task` on standard input,
pickled: both ends are the same program. It prints one JSON object.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partitioner.benching.serving import Serving

__all__ = ["Start", "Task", "Usage", "main", "memory_usage"]


@dataclass(frozen=True)
class Task:
    """What the process is to do.

    Args:
        serving: the bundle and how it is loaded.
        inputs: of each request.
        seed: of each request.
        requests: after the first one.
    """

    serving: Serving
    inputs: dict[str, Any]
    seed: int
    requests: int


@dataclass(frozen=True)
class Usage:
    """Bytes of memory of a process; None where the system does not tell.

    Args:
        resident: pages that are in memory, mapped files included.
        proportional: likewise, those that n processes share counted as 1/n.
    """

    resident: int | None
    proportional: int | None


@dataclass(frozen=True)
class Start:
    """How a process came up.

    Args:
        imports: seconds of importing the runtime.
        load: seconds of ``partitioner.load``.
        first: seconds of the first request.
        imported: memory before loading.
        loaded: memory after it.
        served: memory after all requests.
    """

    imports: float
    load: float
    first: float
    imported: Usage
    loaded: Usage
    served: Usage


def memory_usage(file: Path = Path("/proc/self/smaps_rollup")) -> Usage:
    """Of this process, as Linux counts it (man 5 proc, ``smaps_rollup``)."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return Usage(None, None)
    sizes = {words[0]: int(words[1]) * 1024 for line in lines[1:] if len(words := line.split()) > 1}
    return Usage(sizes.get("Rss:"), sizes.get("Pss:"))


def main(imports: float) -> None:
    """Do what standard input says.

    Args:
        imports: seconds that importing the runtime has taken.
    """
    # From the process that started this one, by a pipe that nobody else has; a file or a request
    # never comes this way. JSON would not keep the arrays and pictures that inputs may be.
    task: Task = pickle.load(sys.stdin.buffer)
    imported = memory_usage()
    began = time.perf_counter()
    with task.serving.load() as pipe:
        load = time.perf_counter() - began
        loaded = memory_usage()
        began = time.perf_counter()
        pipe(task.inputs, seed=task.seed)
        first = time.perf_counter() - began
        for _ in range(task.requests):
            pipe(task.inputs, seed=task.seed)
        served = memory_usage()
    print(json.dumps(asdict(Start(imports, load, first, imported, loaded, served))))
