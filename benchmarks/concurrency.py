"""Many callers of one process: throughput and latency against one call after the other.

Each caller submits a request, waits for its answer, and submits the next. Rounds of this and of the
same number of calls one after the other take turns. The fair share of a caller is its number of
callers times the median of a call alone: what it waits if all are served in turn.

Run: python benchmarks/concurrency.py [--size base] [--callers 8] [--steps 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import partitioner
from partitioner.runtime.queueing import QueueOptions


def build(size: str, steps: int, path: Path) -> None:
    from bernini.model import example_inputs, pipeline

    partitioner.build(
        pipeline(size), example_inputs(size), options={"steps": steps}, parity=False, output=path
    )


def one_by_one(pipe: Any, image: Any, count: int) -> list[float]:
    """Seconds of each call."""
    seconds: list[float] = []
    for number in range(count):
        start = time.perf_counter()
        pipe(image=image, seed=number)
        seconds.append(time.perf_counter() - start)
    return seconds


def at_once(pipe: Any, image: Any, callers: int, each: int) -> tuple[float, list[float]]:
    """Seconds of all, and of each request from its submission to its answer."""
    latencies: list[float] = []

    def call(caller: int) -> None:
        for number in range(each):
            start = time.perf_counter()
            pipe.submit(image=image, seed=caller * each + number).result()
            latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, latencies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--each", type=int, default=3, help="requests of a caller in a round")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    count = given.callers * given.each
    alone: list[float] = []
    latencies: list[float] = []
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = given.bundle
        if path is None:
            path = Path(folder) / "one.bundle"
            build(given.size, given.steps, path)
        with partitioner.load(path, queue=QueueOptions(given.workers)) as pipe:
            one_by_one(pipe, image, 2)
            for _ in range(given.repeat):
                calls = one_by_one(pipe, image, count)
                seconds, own = at_once(pipe, image, given.callers, given.each)
                alone += calls
                latencies += own
                ratios.append(sum(calls) / seconds)
    fair = given.callers * statistics.median(alone)
    result = {
        "size": given.size,
        "callers": given.callers,
        "requests": len(latencies),
        "call_s": statistics.median(alone),
        "throughput_by_one_after_the_other": statistics.median(ratios),
        "p50_by_fair_share": float(np.quantile(latencies, 0.5)) / fair,
        "p99_by_fair_share": float(np.quantile(latencies, 0.99)) / fair,
    }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
