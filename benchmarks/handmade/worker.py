"""A process that has one way loaded, and runs requests when it is told to.

Each way has a process of its own, so that thread pools do not meet and memory can be told apart.
"""

from __future__ import annotations

import time

START = time.perf_counter()

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]


def loaded(case: str, way: str, folder: Path) -> Callable[[int], Any]:
    """A function of the seed that serves one request."""
    import numpy as np

    if way.startswith("bundle"):
        import partitioner.runtime

        request = dict(np.load(folder / "request.npz"))
        pipe = partitioner.runtime.load(folder / way)
        return lambda seed: pipe(request, seed=seed)
    from handmade.drivers import DRIVERS
    from handmade.loading import WAYS

    kind, load = WAYS[way]
    calls = load(case, folder / (kind or ""))
    driver = DRIVERS[case](dict(np.load(folder / "data.npz")))
    return lambda seed: driver(calls, seed)


def main() -> None:
    case, way, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    run = loaded(case, way, folder)
    ready = time.perf_counter()
    run(0)
    done = time.perf_counter()
    # Its share of what it maps with others, and all that is its own.
    memory = psutil.Process().memory_full_info().pss
    print(
        json.dumps({"load_s": ready - START, "first_s": done - START, "bytes": memory}), flush=True
    )
    for line in sys.stdin:
        start = time.perf_counter()
        run(int(line))
        print(json.dumps(time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
