"""What a loaded bundle gives the application: work off the event loop, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.backends.execution import DeviceOptions
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.bundles import load_bucket
from partitioner.serve.service import PipelineService
from tests.loops import TRIPS, WIDTH, buckets_of, finite, make_loop_bucket
from tests.serve.test_limits import until

SCALE = np.float32(2)


class Slow:
    """An input that becomes an array when it is let, and knows in which thread."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let = threading.Event()
        self.thread = 0

    def __array__(self, *_: Any, **__: Any) -> Any:
        self.thread = threading.get_ident()
        self.begun.set()
        self.let.wait(60)
        return np.ones((1, WIDTH), np.float32)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[BatchedPipeline]:
    bundle = Bundle.open(make_loop_bucket(tmp_path / "bundle", 1))
    load = partial(load_bucket, bundle, DeviceOptions(host_ops=(finite,)))
    with BatchedPipeline(buckets_of({1: load})) as p:
        yield p


def test_inputs_are_made_arrays_while_the_event_loop_goes_on(pipe: BatchedPipeline) -> None:
    service, slow = PipelineService(pipe), Slow()

    async def serve() -> Any:
        task = asyncio.create_task(service.infer({"x": slow, "scale": SCALE}, seed=0))
        while not slow.begun.is_set():
            await asyncio.sleep(0.001)
        slow.let.set()
        return await task

    outputs = asyncio.run(serve())
    assert threading.get_ident() != slow.thread
    expected = pipe(x=np.ones((1, WIDTH), np.float32), scale=SCALE, seed=0)
    np.testing.assert_array_equal(expected["y"], outputs["y"])
    body = next(s for s in pipe.stats().segments if s.name == "body")
    assert {"body": body.seconds}.items() <= service.stats().segment_seconds.items()
    assert 2 * TRIPS == body.calls


def test_a_request_that_is_given_up_before_it_is_submitted(pipe: BatchedPipeline) -> None:
    service, slow, over = PipelineService(pipe), Slow(), threading.Event()
    ones = np.ones((1, WIDTH), np.float32)
    before = pipe.submit(x=ones, scale=SCALE, callback=lambda _: over.wait(60))

    async def give_up() -> None:
        task = asyncio.create_task(service.infer({"x": slow, "scale": SCALE}))
        while not slow.begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        slow.let.set()
        await asyncio.to_thread(until, lambda: pipe.stats().requests.cancelled == 1)

    try:
        asyncio.run(give_up())
    finally:
        over.set()
    before.result(60)
    assert (0, 0) == (service.stats().waiting, service.stats().running)
