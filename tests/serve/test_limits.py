"""What is refused, what is given up, and that neither holds up others."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.serve.conftest import MAX_BODY
from tests.serve.models import PAUSES, STEPS

INFER = "/v2/models/steps/infer"


def steps_request(seconds: float = 0.0, **parameters: Any) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
            {"name": "seconds", "datatype": "FP32", "shape": [1], "data": [seconds]},
        ],
    }


def metrics(url: str) -> str:
    return requests.get(f"{url}/metrics", timeout=30).text


def gauge(url: str, name: str) -> float:
    text = metrics(url)
    found = re.search(rf"^partitioner_{name} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def busy(url: str) -> list[float]:
    """Requests of the model that wait and run."""
    return [gauge(url, f'{what}_requests{{model="steps"}}') for what in ("waiting", "running")]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def raw(url: str) -> Iterator[socket.socket]:
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 30) as connection:
        yield connection


def head(length: int | None, path: str = INFER) -> bytes:
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{size}\r\n\r\n".encode()


def status_line(connection: socket.socket) -> bytes:
    return connection.makefile("rb").readline().strip()


@pytest.mark.parametrize("path", [INFER, "/generate"])
def test_a_body_that_says_that_it_is_too_large_is_refused_unread(
    raw: socket.socket, path: str
) -> None:
    raw.sendall(head(MAX_BODY + 1, path))
    assert b"HTTP/1.1 413" in status_line(raw)


def test_a_body_that_does_not_say_so_is_refused_when_it_is_too_large(raw: socket.socket) -> None:
    raw.sendall(head(None))
    for _ in range(MAX_BODY // 10_000 + 1):
        raw.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
    assert b"HTTP/1.1 413" in status_line(raw)


def test_a_body_that_is_too_large_when_decompressed_is_refused(url: str) -> None:
    body = gzip.compress(b" " * (MAX_BODY * 100))
    assert len(body) < MAX_BODY
    done = requests.post(url + INFER, body, headers={"content-encoding": "gzip"}, timeout=30)
    assert 413 == done.status_code


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4]),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"x"),
        ("br", b"x"),
    ],
)
def test_compressed_bodies_that_are_damaged(url: str, coding: str, body: bytes) -> None:
    done = requests.post(url + INFER, body, headers={"content-encoding": coding}, timeout=30)
    assert 400 == done.status_code


def test_a_body_that_does_not_arrive_is_not_waited_for(raw: socket.socket) -> None:
    raw.sendall(head(100) + b"{")
    assert b"HTTP/1.1 408" in status_line(raw)


def test_more_than_may_wait_are_refused_and_those_that_wait_are_served(url: str) -> None:
    def post() -> requests.Response:
        return requests.post(url + INFER, json=steps_request(0.1), timeout=60)

    with ThreadPoolExecutor(6) as threads:
        answers = [sent.result() for sent in [threads.submit(post) for _ in range(6)]]
    statuses = [answer.status_code for answer in answers]
    assert {200, 429} == set(statuses)
    refused = answers[statuses.index(429)]
    assert "requests wait for hand-made already" in refused.json()["error"]
    assert "1" == refused.headers["retry-after"]


def test_a_client_that_goes_gives_its_request_up(url: str, raw: socket.socket) -> None:
    until(lambda: busy(url) == [0, 0])
    body = json.dumps(steps_request(0.5)).encode()
    raw.sendall(head(len(body)) + body)
    until(lambda: busy(url) == [0, 1])
    raw.close()
    # Served when the other has ended, which it does after the present step.
    assert 200 == requests.post(url + INFER, json=steps_request(), timeout=60).status_code
    assert 1 <= PAUSES.count(0.5) < STEPS
    assert 'endpoint="infer",model="steps",status="499"' in metrics(url)


def test_a_client_that_goes_while_progress_is_told_is_no_error(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    until(lambda: busy(url) == [0, 0])
    document = {"x": [[1, 2, 3, 4]], "seconds": [0.375], "stream": True}
    path = "/v2/models/steps/generate"
    with requests.post(url + path, json=document, stream=True, timeout=60) as done:
        assert b"event: step" in next(done.iter_content(None))
    until(lambda: busy(url) == [0, 0])
    assert 1 <= PAUSES.count(0.375) < STEPS
    until(lambda: 'endpoint="generate",model="steps",status="499"' in metrics(url))
    assert "partitioner_active_requests 0.0" in metrics(url)
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]
