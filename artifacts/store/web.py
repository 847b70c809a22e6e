"""A store behind a web server, for reading.

Redirects are followed to ``https`` (and from ``http`` to ``http``) only, so that a server cannot
turn a request to a file or to another protocol.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.base import Document, Entry, InterruptedReadError, Progress
from partitioner.artifacts.store.options import StoreOptions
from partitioner.artifacts.store.retry import retried
from partitioner.errors import NotInStoreError, StoreError

__all__ = ["WebStore"]

_PIECE = 2**20
_TIMEOUT = 30.0
#: States that another try may change: RFC 9110, and 429 of RFC 6585.
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class WebStore:
    """A store that a web server serves as plain files.

    Args:
        root: its address, without a slash at its end.
        address: key -> address, where that is not ``root/key``; None for keys that are not there.
    """

    def __init__(
        self,
        root: str,
        options: StoreOptions,
        address: Callable[[str], str | None] | None = None,
    ) -> None:
        self.root = root
        self._address = address or (lambda key: f"{root}/{key}")
        context = ssl.create_default_context(cafile=options.ca_file)
        # The default opener also knows file:, ftp: and data:; this one knows the web.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(),
            urllib.request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    @property
    def uri(self) -> str:
        return self.root

    def head(self, key: str) -> Entry | None:
        try:
            with self._open(key, method="HEAD") as answer:
                size = answer.headers.get("Content-Length", "")
                modified = answer.headers.get("Last-Modified")
        except NotInStoreError:
            return None
        if not size.isdecimal():
            raise StoreError("the server tells no Content-Length", where=self._at(key))
        return Entry(key, int(size), _seconds(modified))

    def get(self, key: str, limit: int) -> Document | None:
        def act() -> Document:
            with self._open(key) as answer:
                data = answer.read(limit + 1)
                # A read of so many bytes does not tell when there are fewer than announced.
                if not answer.isclosed() and len(data) <= limit:
                    raise http.client.IncompleteRead(data)
                return Document(data, answer.headers.get("ETag", ""))

        try:
            found = retried(act, OSError, http.client.HTTPException)
        except NotInStoreError:
            return None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(key, error) from error
        if len(found.data) > limit:
            raise StoreError(f"more than {limit} bytes where few are expected", where=self._at(key))
        return found

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        left = stop - start
        with self._open(key, {"Range": f"bytes={start}-{stop - 1}"}) as answer:
            skip = 0 if answer.status == http.client.PARTIAL_CONTENT else start
            if skip == 0 and start:
                _check_range(answer.headers.get("Content-Range", ""), start, self._at(key))
            try:
                while skip and (piece := answer.read(min(_PIECE, skip))):
                    skip -= len(piece)
                while left and (piece := answer.read(min(_PIECE, left))):
                    left -= len(piece)
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise InterruptedReadError(str(error)) from error
        if left:
            raise InterruptedReadError(f"the body ended {left} bytes early")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        raise self._readonly()

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        raise self._readonly()

    def upload_if_absent(self, path: Path, blob: Blob, key: str, progress: Progress) -> bool:
        raise self._readonly()

    def list(self, prefix: str) -> Iterator[Entry]:
        raise self._readonly()

    def delete(self, key: str) -> None:
        raise self._readonly()

    def abandon(self, age: float) -> int:
        raise self._readonly()

    def url(self, key: str, seconds: int) -> str:
        raise self._readonly()

    # --- inside ---

    def _open(self, key: str, headers: dict[str, str] | None = None, method: str = "GET") -> Any:
        """An answer whose state says success.

        Raises:
            NotInStoreError: 404 or 410.
            StoreError: another state, or no answer after retries.
        """
        address = self._address(key)
        if address is None:
            raise NotInStoreError("no such object in the store", where=f"{self.root} {key}")
        request = urllib.request.Request(address, headers=headers or {}, method=method)

        def act() -> Any:
            try:
                return self._opener.open(request, timeout=_TIMEOUT)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in _TRANSIENT:
                    raise
                raise self._refused(key, error) from error

        try:
            return retried(act, OSError, http.client.HTTPException)
        except urllib.error.HTTPError as error:
            raise self._refused(key, error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(key, error) from error

    def _refused(self, key: str, error: urllib.error.HTTPError) -> StoreError:
        if error.code in (404, 410):
            return NotInStoreError("no such object in the store", where=self._at(key))
        what = f"the server answers {error.code} {error.reason}"
        expired = "presigned addresses expire: ask for new ones; or see who may read from it"
        advice = expired if error.code in (400, 401, 403) else None
        return StoreError(what, where=self._at(key), advice=advice)

    def _at(self, key: str) -> str:
        """Where an object is, without what a presigned address gives away."""
        return urllib.parse.urlsplit(self._address(key) or self.root)._replace(query="").geturl()

    def _unreachable(self, key: str, error: Exception) -> StoreError:
        return StoreError(
            f"the server cannot be reached: {error}",
            where=self._at(key),
            advice="see the address and the network; a next run continues",
        )

    def _readonly(self) -> StoreError:
        return StoreError(
            "a web server is for reading only",
            where=self.root,
            advice="use s3:// or file:// to list or change the store",
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type != "http"):
            raise StoreError(
                f"the server redirects from {req.type} to {scheme or 'nothing'}",
                where=urllib.parse.urlsplit(req.full_url)._replace(query="").geturl(),
                advice="this is not followed; give the address that it should be",
            )
        follow = super().redirect_request(req, fp, code, msg, headers, newurl)
        if follow is not None and "Range" in req.headers:
            follow.add_header("Range", req.headers["Range"])
        return follow


def _check_range(text: str, start: int, where: str) -> None:
    if not text.startswith(f"bytes {start}-"):
        raise StoreError(
            "the server answers with other bytes than were asked for",
            where=where,
            advice="the server or a proxy before it is at fault",
        )


def _seconds(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return 0.0
