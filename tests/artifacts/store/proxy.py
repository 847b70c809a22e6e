"""A web server between client and store that misbehaves when it is told to."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["Fault", "faulty"]

#: Of a request's method, path and number: what goes wrong, if anything. ``busy``: 503 and no more.
#: ``reset``: the connection is reset before the request reaches the store. ``lost``: after it did.
#: ``short``: half of the body arrives. ``longer``: more of it than there is. ``stale``: a list as
#: it was when it was first asked for. ``skewed``: refused, as S3 does, by a clock a day ahead.
Fault = Callable[[str, str, int], str | None]

SKEWED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>RequestTimeTooSkewed</Code><Message>The '
    b"difference between the request time and the current time is too large.</Message></Error>"
)


@contextmanager
def faulty(upstream: str, fault: Fault) -> Iterator[tuple[str, list[str]]]:
    """A proxy. Gives its address, and a list that grows by what went wrong."""
    target = urlsplit(upstream).netloc
    happened: list[str] = []
    count = 0
    lock = threading.Lock()
    first: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            nonlocal count
            with lock:
                count += 1
                what = fault(self.command, self.path, count)
                if what:
                    happened.append(what)
            # botocore asks for leave before it sends a body.
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if what == "busy":
                self.answer(503, [], b"")
            elif what == "reset":
                self.reset()
            elif what == "skewed":
                day = formatdate(time.time() + 86_400, usegmt=True)
                body = b"" if self.command == "HEAD" else SKEWED
                headers = [("Content-Length", str(len(body))), ("Date", day)]
                self.answer(403, headers, body)
            else:
                answer = self.forward(data)
                state, headers, body = answer
                if "list-type=2" in self.path:
                    known = first.setdefault(self.path, answer)
                    state, headers, body = known if what == "stale" else answer
                if what == "lost":
                    self.reset()
                else:
                    self.answer(state, headers, body, what)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def forward(self, data: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(target, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
            connection.request(self.command, self.path, data, headers)
            response = connection.getresponse()
            body = response.read()
            found = [
                (k, v)
                for k, v in response.getheaders()
                if k.lower() not in ("transfer-encoding", "connection", "content-length")
            ]
            length = response.headers.get("Content-Length", str(len(body)))
            connection.close()
            return response.status, [*found, ("Content-Length", length)], body

        def answer(
            self, state: int, headers: list[tuple[str, str]], body: bytes, what: str | None = None
        ) -> None:
            self.send_response_only(state)
            if not any(name == "Date" for name, _ in headers):
                self.send_header("Date", self.date_time_string())
            for name, value in headers or [("Content-Length", "0")]:
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(body[: len(body) // 2] if what == "short" else body)
            if what == "longer":
                self.wfile.write(b"more")
            if what in ("short", "longer"):
                self.reset()

        def reset(self) -> None:
            self.wfile.flush()
            linger = struct.pack("ii", 1, 0)
            if self.close_connection is not None:
                self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", happened
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
