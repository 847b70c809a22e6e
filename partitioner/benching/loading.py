"""How long a process takes from its start to its first result, and how much memory it has then.

*Cold* is a first start on a host whose cache is empty (``PARTITIONER_CACHE`` names a fresh folder):
OpenVINO compiles its segments, and a bundle in a store is fetched. *Warm* is the next start, which
finds what that one has left. In both, the bundle's files are in the system's page cache, if they
fit: only an administrator could empty it.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from partitioner.benching.worker import Start, Task, Usage
from partitioner.errors import BackendError

__all__ = ["starts"]

_CODE = """
import time
began = time.perf_counter()
import partitioner.runtime
imports = time.perf_counter() - began
from partitioner.benching.worker import main
main(imports)
"""


def starts(tasks: Sequence[Task], rounds: int) -> list[tuple[list[Start], list[Start]]]:
    """Start a process for each task, cold and then warm; the tasks take turns.

    Returns:
        for each task its cold and its warm starts, one of each a round.

    Raises:
        BackendError: a process failed; with the end of what it said.
    """
    found: list[tuple[list[Start], list[Start]]] = [([], []) for _ in tasks]
    for _ in range(rounds):
        for task, (cold, warm) in zip(tasks, found, strict=True):
            with tempfile.TemporaryDirectory(prefix="partitioner-") as folder:
                cold.append(_start(task, Path(folder)))
                warm.append(_start(task, Path(folder)))
    return found


def _start(task: Task, cache: Path) -> Start:
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=pickle.dumps(task),
        capture_output=True,
        # What the caller may import, host ops for instance, the process may, too.
        env={
            **os.environ,
            "PARTITIONER_CACHE": str(cache),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        raise BackendError(
            f"a process that loads {task.serving.path} ended with {done.returncode}",
            where=task.serving.path,
            advice=f"run it without --starts, and see what it said:\n{said}",
        )
    document: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return Start(
        imports=document["imports"],
        load=document["load"],
        first=document["first"],
        imported=Usage(**document["imported"]),
        loaded=Usage(**document["loaded"]),
        served=Usage(**document["served"]),
    )
