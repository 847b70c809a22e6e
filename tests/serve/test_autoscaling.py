"""Replicas by the number of requests, and what a node fetches for them."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partitioner.artifacts.store.locations import open_store
from partitioner.artifacts.store.push import push
from partitioner.errors import UsageError
from partitioner.runtime import Pipeline
from tests.serve.models import pause
from tests.serve.test_limits import steps_request

PORT = 8124
CALLERS = 8


@pytest.fixture
def proxies(cluster: Any) -> Iterator[str]:
    """Ray Serve with a proxy; its address."""
    from ray import serve

    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    yield f"http://127.0.0.1:{PORT}"
    serve.shutdown()


def replicas() -> dict[str, int]:
    """By their state."""
    from ray import serve

    (deployment,) = serve.status().applications["steps"].deployments.values()
    return {str(getattr(s, "value", s)): n for s, n in deployment.replica_states.items() if n}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, replicas()
        time.sleep(0.2)


class Caller(threading.Thread):
    """Asks with a seed of its own, again and again, until it is told that it is enough."""

    def __init__(self, url: str, seed: int, enough: threading.Event) -> None:
        super().__init__()
        self.seed = seed
        self.answers: list[list[float]] = []
        self.errors: list[Exception] = []
        self._url = url
        self._enough = enough

    def run(self) -> None:
        body = json.dumps(steps_request(0.05, seed=self.seed)).encode()
        request = urllib.request.Request(f"{self._url}/v2/models/steps/infer", body)
        while not self._enough.is_set():
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    self.answers.append(json.load(answer)["outputs"][0]["data"])
            except OSError as error:
                self.errors.append(error)


@pytest.mark.slow
def test_replicas_come_and_go_with_the_load_and_a_node_fetches_once(
    proxies: str, steps_bundle: Path, steps: Pipeline, tmp_path: Path
) -> None:
    from partitioner.serve.ray import ReplicaOptions, deploy

    store = tmp_path / "store"
    push(steps_bundle, open_store(store.as_uri()), name="steps", version="1", tag="live")
    how = ReplicaOptions(
        1, 2, ongoing=1.0, health_period=1.0, grow_after=1.0, shrink_after=1.0, window=3.0
    )
    served = deploy(
        f"{store.as_uri()}/steps@live",
        name="steps",
        replicas=how,
        cache=tmp_path / "cache",
        memory="low",
        host_ops=[pause],
    )
    assert {"RUNNING": 1} == replicas()
    # What the store has no more can come from the node's cache only; it says that there is one.
    for blob in (store / "blobs" / "sha256").iterdir():
        if blob.name not in served.uri:
            blob.unlink()
    enough = threading.Event()
    callers = [Caller(proxies, seed, enough) for seed in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        until(lambda: replicas() == {"RUNNING": 2})
        before = [len(caller.answers) for caller in callers]
        until(lambda: all(len(c.answers) > n + 2 for c, n in zip(callers, before, strict=True)))
    finally:
        enough.set()
        for caller in callers:
            caller.join()
    x, pauses = np.array([[1, 2, 3, 4]], np.float32), np.zeros(1, np.float32)
    for caller in callers:
        assert [] == caller.errors
        expected = steps(x=x, seconds=pauses, seed=caller.seed)["y"].ravel().tolist()
        np.testing.assert_allclose(caller.answers, [expected] * len(caller.answers), rtol=1e-6)
    until(lambda: replicas() == {"RUNNING": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ongoing", float("nan")),
        ("limit", -1),
        ("health_period", -1),
        ("drain_limit", float("nan")),
        ("window", 0),
        ("queue", -1),
        ("surge", -1),
        ("shrink_after", float("inf")),
    ],
)
def test_options_of_replicas_that_cannot_be_meant(name: str, value: float) -> None:
    from partitioner.serve.ray import ReplicaOptions

    given: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=f"{name} must be a number"):
        ReplicaOptions(**given)
