"""Serve many requests of all kinds, and print by how much the process has grown.

Run: python growing.py BUNDLE COUNT [lazy]
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from partitioner.errors import InputError
from partitioner.hostops import host_op
from partitioner.runtime import QueueOptions, StepEvent, load
from partitioner.runtime.stats import resident

#: Requests before the first look: arenas, pools and caches of threads are made by then.
WARM = 200


@host_op(name="tests.count_positive", outputs={"rows": ("float32", (None, 8))})
def count_positive(latent: Any, *, above: float) -> Any:
    return latent[latent[:, 0] > above]


def look(event: StepEvent) -> None:
    assert event.carried()


def end(event: StepEvent) -> None:
    if event.step == 2:
        raise ZeroDivisionError


def serve(pipe: Any, start: int, count: int) -> None:
    """Most requests are served; of twenty, one is cancelled, one fails, one has no input."""
    kinds = [
        {"seed": number, "image": np.full((1, 8), number % 7, np.float32)}
        | ({"callback": end} if number % 20 == 5 else {})
        | ({"callback": look} if number % 20 == 7 else {})
        | ({"prompts": 1} if number % 20 == 9 else {})
        for number in range(start, start + count)
    ]
    for at in range(0, count, 16):
        requests = [pipe.submit(**kind) for kind in kinds[at : at + 16]]
        # Called after what counts the request, which may be later than its result is there.
        counted = threading.Semaphore(0)
        for request in requests:
            request.add_done_callback(lambda _, counted=counted: counted.release())
        if at % 32:
            requests[3].cancel()
        for request in requests:
            try:
                assert request.result(120)["latent"].shape == (4, 8)
            except (CancelledError, ZeroDivisionError, InputError):
                continue
        for _ in requests:
            counted.acquire()


def main() -> None:
    path, count = sys.argv[1], int(sys.argv[2])
    settings = {"lazy": True, "max_memory": 2500} if "lazy" in sys.argv else {}
    queue = QueueOptions(workers=2)
    with load(path, host_ops=[count_positive], queue=queue, **settings) as pipe:
        serve(pipe, 0, WARM)
        before = resident()
        serve(pipe, WARM, count)
        after = resident()
        requests = pipe.stats().requests
    assert before is not None
    assert after is not None
    ended = requests.served + requests.failed + requests.cancelled
    print(after - before, ended, requests.served)


if __name__ == "__main__":
    main()
