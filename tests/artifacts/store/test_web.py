"""Stores behind web servers: with and without ranges, redirecting, lying."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from partitioner.artifacts.bundle import Bundle
from partitioner.artifacts.store.base import InterruptedReadError
from partitioner.artifacts.store.cache import Cache
from partitioner.artifacts.store.locations import open_store, parse_reference
from partitioner.artifacts.store.pull import pull
from partitioner.artifacts.store.push import push
from partitioner.errors import NotInStoreError, StoreError
from tests.artifacts.store.servers import web_server

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(*answers: Answer) -> Iterator[str]:
    """A server that gives these answers, one after another, the last again and again."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(state)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("partitioner.artifacts.store.retry._BASE", 0.001)


def test_pull(bundle: Path, tmp_path: Path) -> None:
    push(bundle, open_store((tmp_path / "www/models").as_uri()), tag="t")
    with web_server(tmp_path / "www", tmp_path / "log") as address:
        store = open_store(f"{address}/models")
        reference = parse_reference(f"{address}/models/sample@t")
        pulled = pull(store, reference, tmp_path / "out", cache=Cache())
        with pytest.raises(NotInStoreError):
            pull(
                store, parse_reference(f"{address}/models/sample@u"), tmp_path / "x", cache=Cache()
            )
        for act in (
            lambda: push(bundle, store),
            lambda: store.list("refs/"),
            lambda: store.delete("a"),
        ):
            with pytest.raises(StoreError, match="for reading only"):
                act()
    Bundle.open(pulled.path).check()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "//"])
def test_redirects_to_elsewhere_are_not_followed(target: str) -> None:
    with answering((302, {"Location": target}, b"")) as address, pytest.raises(StoreError):
        open_store(address).get("a", 100)


def test_redirects_are_followed(tmp_path: Path) -> None:
    with (
        answering((200, {}, b"there")) as other,
        answering((307, {"Location": f"{other}/b"}, b"")) as address,
    ):
        found = open_store(address).get("a", 100)
    assert found is not None
    assert b"there" == found.data


def test_redirects_in_a_circle() -> None:
    with answering((302, {"Location": "/a"}, b"")) as address, pytest.raises(StoreError):
        open_store(address).get("a", 100)


def test_a_busy_server_is_asked_again() -> None:
    with answering((503, {}, b""), (429, {}, b""), (200, {}, b"there")) as address:
        found = open_store(address).get("a", 100)
    assert found is not None
    assert b"there" == found.data
    with answering((503, {}, b"")) as address, pytest.raises(StoreError, match="503"):
        open_store(address).get("a", 100)
    refused = pytest.raises(StoreError, match="403")
    with answering((403, {}, b"")) as address, refused as caught:
        open_store(address).get("a", 100)
    assert "expire" in (caught.value.advice or "")


def test_servers_that_lie() -> None:
    with answering((200, {}, b"x" * 101)) as address, pytest.raises(StoreError, match="more than"):
        open_store(address).get("a", 100)
    short = (206, {"Content-Length": "10", "Content-Range": "bytes 5-14/20"}, b"abc")
    with answering(short) as address, pytest.raises(InterruptedReadError):
        list(open_store(address).read("a", 5, 15))
    other = (206, {"Content-Range": "bytes 0-9/20"}, b"0123456789")
    with answering(other) as address, pytest.raises(StoreError, match="other bytes"):
        list(open_store(address).read("a", 5, 15))
    longer = (206, {"Content-Range": "bytes 5-7/20"}, b"0123456789")
    with answering(longer) as address:
        assert b"012" == b"".join(open_store(address).read("a", 5, 8))
    with answering((200, {}, b"0123456789")) as address:
        assert b"567" == b"".join(open_store(address).read("a", 5, 8))
    # A body that never ends in what it was announced to be.
    ended = answering((200, {"Content-Length": "99"}, b"abc"))
    with ended as address, pytest.raises(StoreError, match="cannot be reached"):
        open_store(address).get("a", 100)


def test_what_is_compressed_is_not_inflated() -> None:
    # A bomb: a thousand times as large as what travels. Blobs are stored as they are.
    bomb = gzip.compress(bytes(10 * 2**20))
    packed = (200, {"Content-Encoding": "gzip"}, bomb)
    with answering(packed) as address:
        found = open_store(address).get("a", len(bomb))
        assert found is not None
        assert bomb == found.data
        assert bomb == b"".join(open_store(address).read("a", 0, len(bomb)))


def test_head() -> None:
    with answering((200, {"Last-Modified": "Thu, 01 Jan 1970 00:01:00 GMT"}, b"abc")) as address:
        entry = open_store(address).head("a")
    assert entry is not None
    assert (3, 60.0) == (entry.size, entry.modified)
    with answering((404, {}, b"")) as address:
        assert open_store(address).head("a") is None
