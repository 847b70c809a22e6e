"""Replicas on a Ray cluster: they answer, and are replaced without losing a request."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from partitioner.artifacts.store.locations import open_store
from partitioner.artifacts.store.push import push
from partitioner.errors import BackendError, UsageError
from partitioner.serve.options import ServeOptions
from partitioner.serve.placing import look_up
from tests.serve.scaled import make_scaled

PORT = 8123
INPUT = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}


@pytest.fixture(scope="module")
def proxies(cluster: Any) -> Iterator[str]:
    """Ray Serve with a proxy; its address."""
    from ray import serve

    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    yield f"http://127.0.0.1:{PORT}"
    serve.shutdown()


def ask(url: str) -> float:
    """The factor of the bundle that answers."""
    body = json.dumps({"inputs": [INPUT]}).encode()
    request = urllib.request.Request(f"{url}/v2/models/scaled/infer", body)
    with urllib.request.urlopen(request, timeout=120) as answer:
        (output,) = json.load(answer)["outputs"]
    return output["data"][0]


class Asking:
    """Threads that ask all the time; what came back."""

    def __init__(self, url: str) -> None:
        self.answers: list[float] = []
        self.errors: list[Exception] = []
        self._url = url
        self._over = threading.Event()

    def ask(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(ask(self._url))
            except OSError as error:
                self.errors.append(error)

    @contextmanager
    def by(self, count: int) -> Iterator[None]:
        threads = [threading.Thread(target=self.ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()


@pytest.mark.slow
def test_an_update_loses_no_request(
    proxies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from partitioner.serve.ray import ReplicaOptions, deploy

    store = (tmp_path / "store").as_uri()
    replicas = ReplicaOptions(health_period=1.0, drain_limit=20.0)

    def release(factor: float) -> None:
        path = make_scaled(tmp_path / f"{factor}.bundle", factor)
        push(path, open_store(store), name="scaled", version=str(factor), tag="live")
        deploy(f"{store}/scaled@live", name="scaled", replicas=replicas, memory="low")

    release(2.0)
    assert 2.0 == ask(proxies)
    with urllib.request.urlopen(f"{proxies}/v2/health/ready", timeout=60) as answer:
        assert 200 == answer.status
    asking = Asking(proxies)
    with asking.by(2):
        release(3.0)
    assert [] == asking.errors
    assert {2.0, 3.0} >= set(asking.answers)
    assert 2.0 in asking.answers
    assert 3.0 == ask(proxies)


def test_a_replica_answers_and_is_watched(tmp_path: Path) -> None:
    """Without a cluster: what runs in its processes."""
    from partitioner.serve.ray import Replica

    bundle = make_scaled(tmp_path / "bundle", 2.0)
    replica = Replica(str(bundle), "scaled", {"memory": "low"}, ServeOptions())
    with TestClient(replica.__serve_build_asgi_app__()) as client:
        replica.check_health()
        answer = client.post("/v2/models/scaled/infer", json={"inputs": [INPUT]})
        assert [2.0, 4.0, 6.0, 8.0] == answer.json()["outputs"][0]["data"]
    with pytest.raises(BackendError, match="'scaled' is closed"):
        replica.check_health()


def test_what_a_deployment_asks_for(tmp_path: Path) -> None:
    from partitioner.serve.ray import ReplicaOptions, replica_deployment

    served = look_up(make_scaled(tmp_path / "bundle", 2.0), threads=3)
    application = replica_deployment(served, replicas=ReplicaOptions(1, 4), threads=None)
    deployment = application._bound_deployment
    memory = served.needs.memory_bytes
    assert {"num_cpus": 3.0, "memory": memory} == deployment.ray_actor_options
    assert 3 == deployment.init_args[2]["threads"]
    assert 4 == deployment.max_ongoing_requests


def test_numbers_of_replicas_that_cannot_be_meant() -> None:
    from partitioner.serve.ray import ReplicaOptions

    with pytest.raises(UsageError, match="from 2 to 1 replicas"):
        ReplicaOptions(least=2, most=1)
