"""A web server between client and store that misbehaves when it is told to."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["Fault", "faulty"]

#: Of a request's method, path and number: what goes wrong, if anything. ``busy``: 503 and no more.
#: ``reset``: the connection is reset before the request reaches the store. ``lost``: after it did.
#: ``short``: half of the body arrives. ``longer``: more of it than there is.
Fault = Callable[[str, str, int], str | None]


@contextmanager
def faulty(upstream: str, fault: Fault) -> Iterator[tuple[str, list[str]]]:
    """A proxy. Gives its address, and a list that grows by what went wrong."""
    target = urlsplit(upstream).netloc
    happened: list[str] = []
    count = 0
    lock = threading.Lock()

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
            else:
                state, headers, body = self.forward(data)
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
            self.send_response(state)
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
