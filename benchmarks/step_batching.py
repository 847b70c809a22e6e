"""Throughput of many requests at once: one at a time, by shared steps, and by two such workers.

Three ways to serve the same requests for the example, 16 of which are under way at any time, each
in a process of its own (a process has one pool of threads), taken in turn:

- `alone`: one call after the other, each with all CPUs;
- `steps`: submitted; requests at different steps share calls of the loop's body (--step-batching);
- `workers`: likewise, by as many workers as there are CPUs, each call on one thread.

Each round gives a throughput by way; the ratios are medians over the rounds. `cpu_s` is processor
time a request, which other work on the machine changes less. All answers are compared with those of
`alone`.

Run: python benchmarks/step_batching.py [--size tiny] [--backends openvino,host] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import deque
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

import partitioner
from partitioner.runtime.cpus import usable_cpus
from partitioner.runtime.queueing import QueueOptions

WAYS = ("alone", "steps", "workers")
VARIANTS = (5, 8)


def build(size: str, rows: str, backends: str | None, path: Path) -> None:
    from bernini.model import example_inputs, pipeline

    partitioner.build(
        pipeline(size),
        example_inputs(size),
        backends=backends.split(",") if backends else None,
        variants=[{"steps": steps} for steps in VARIANTS],
        batch=[int(count) for count in rows.split(",")],
        step_batching=True,
        parity=False,
        output=path,
    )


# --- in the process of one way ------------------------------------------------------------------

_pipe: Any = None


def load(path: Path, way: str) -> None:
    global _pipe
    workers = usable_cpus() if way == "workers" else 1
    _pipe = partitioner.load(
        path,
        threads=1 if way == "workers" else None,
        queue=QueueOptions(workers, limit=256),
    )
    serve(way, 4, 4)


def arguments(number: int) -> dict[str, Any]:
    image = np.random.default_rng(number % 4).standard_normal((1, 3, 224, 224)).astype(np.float32)
    return {"image": image, "seed": number, "steps": VARIANTS[number % 2]}


def serve(way: str, count: int, concurrency: int) -> tuple[float, float, list[float]]:
    """Seconds and processor seconds of so many requests, and a figure of each answer."""
    requests = [arguments(number) for number in range(count)]
    start, cpu = time.perf_counter(), time.process_time()
    if way == "alone":
        answers = [_pipe(**request) for request in requests]
    else:
        under_way: deque[Any] = deque()
        answers = []
        for request in requests:
            if len(under_way) == concurrency:
                answers.append(under_way.popleft().result())
            under_way.append(_pipe.submit(**request))
        answers += [request.result() for request in under_way]
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    return seconds, used, [float(np.abs(one["vertices"]).sum()) for one in answers]


# --- in turn ------------------------------------------------------------------------------------


def measure(pools: dict[str, Pool], given: argparse.Namespace) -> dict[str, Any]:
    throughput: dict[str, list[float]] = {way: [] for way in WAYS}
    cpu: dict[str, list[float]] = {way: [] for way in WAYS}
    answers: dict[str, list[float]] = {}
    for _ in range(given.repeat):
        for way, pool in pools.items():
            seconds, used, own = pool.apply(serve, (way, given.requests, given.concurrency))
            throughput[way].append(given.requests / seconds)
            cpu[way].append(used / given.requests)
            answers[way] = own
    return {
        "size": given.size,
        "concurrency": given.concurrency,
        "requests_per_s": {way: statistics.median(own) for way, own in throughput.items()},
        "by_alone": {
            way: statistics.median(a / b for a, b in zip(own, throughput["alone"], strict=True))
            for way, own in throughput.items()
        },
        "cpu_s": {way: statistics.median(own) for way, own in cpu.items()},
        "error": {way: _error(own, answers["alone"]) for way, own in answers.items()},
    }


def _error(own: list[float], alone: list[float]) -> float:
    return float(np.max(np.abs(np.array(own) / np.array(alone) - 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--rows", default="1,4", help="sizes of buckets")
    parser.add_argument("--backends")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--bundle", type=Path, help="one that was built with --step-batching")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = given.bundle
        if path is None:
            path = Path(folder) / "steps.bundle"
            build(given.size, given.rows, given.backends, path)
        pools = {way: spawn.Pool(1, load, (path, way)) for way in WAYS}
        result = measure(pools, given)
        for pool in pools.values():
            pool.terminate()
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
