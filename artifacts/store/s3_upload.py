"""One blob to S3: a single request if it is small, else parts in parallel that survive a kill.

1. The file is read once, in order. Each part's SHA-256 goes with the part, and the SHA-256 of the
   whole is taken on the way; S3 has none for objects of several parts.
2. Parts that an earlier run has sent are found by their checksum (or, where the service keeps
   none, by the MD5 that an ETag then is), and not sent again. Two runs at once share an upload.
3. The object comes into being only if the whole had the blob's digest, and if it is not there yet.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from partitioner.artifacts.faults import damaged
from partitioner.artifacts.files import open_plain
from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.base import Progress
from partitioner.artifacts.store.s3_errors import BUSY, REFUSED, is_code
from partitioner.errors import NotInStoreError, StoreError

if TYPE_CHECKING:
    from partitioner.artifacts.store.s3 import S3Store

__all__ = ["PART", "Upload"]

#: Bytes of a part, and the largest object that is sent in one request. S3 wants at least 5 MiB.
PART = 16 * 2**20

#: S3's limit of parts in an object.
MAX_PARTS = 10_000

#: Bytes of parts that are held in memory at once.
BUDGET = 96 * 2**20

_ROUND = 2**20
_TRIES = 3


class Upload:
    """One blob on its way to a key."""

    def __init__(
        self, store: S3Store, path: Path, blob: Blob, key: str, progress: Progress
    ) -> None:
        self.store = store
        self.path = path
        self.blob = blob
        self.key = key
        self.progress = progress
        self.part = part_size(blob.size)
        self.threads = max(1, min(store.options.threads, BUDGET // self.part - 1))

    def run(self) -> bool:
        """Send it. False if the object is there already.

        Raises:
            BundleError: the file is not the blob.
            StoreError: as the store's methods.
        """
        with open_plain(self.path) as (file, info):
            if info.st_size != self.blob.size:
                raise damaged(f"{info.st_size} bytes, declared are {self.blob.size}", self.path)
            if self.blob.size <= PART:
                return self._send_whole(file)
            for left in reversed(range(_TRIES)):
                file.seek(0)
                try:
                    return self._send_parts(file)
                except StoreError as error:
                    # Another run may have completed or dropped the upload that we share with it,
                    # or be completing it just now.
                    if self.store.head(self.key) is not None:
                        return False
                    again = isinstance(error, NotInStoreError) or is_code(error, BUSY)
                    if not (again and left):
                        raise
        raise AssertionError("the last try returns or raises")

    def _send_whole(self, file: FileIO) -> bool:
        data = _read(file, self.blob.size)
        self._check(hashlib.sha256(data).hexdigest())
        done = self.store.put(self.key, data, {"IfNoneMatch": "*"})
        self.progress(len(data))
        return done

    def _send_parts(self, file: FileIO) -> bool:
        upload, sent = self._resume()
        whole = hashlib.sha256()
        with ThreadPoolExecutor(self.threads, "upload") as pool:
            # What is read ahead waits in memory, so there is a bound to it.
            free = BoundedSemaphore(self.threads + 1)
            parts: list[Future[dict[str, Any]]] = []
            try:
                for number, data in enumerate(self._pieces(file), 1):
                    whole.update(data)
                    free.acquire()
                    job = pool.submit(self._send_part, upload, number, data, sent.get(number))
                    job.add_done_callback(lambda _: free.release())
                    del data
                    parts.append(job)
                    if job.done():
                        job.result()
                listed = [job.result() for job in parts]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self._check(whole.hexdigest())
        return self._complete(upload, listed)

    def _pieces(self, file: FileIO) -> Iterator[bytes]:
        left = self.blob.size
        while left:
            piece = _read(file, min(self.part, left))
            left -= len(piece)
            yield piece

    def _send_part(
        self, upload: str, number: int, data: bytes, earlier: dict[str, Any] | None
    ) -> dict[str, Any]:
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        etag = earlier["ETag"] if earlier and _is_same(earlier, data, checksum) else None
        if etag is None:
            with self.store.failing(self.key):
                etag = self.store.client.upload_part(
                    **self.store.where(self.key),
                    UploadId=upload,
                    PartNumber=number,
                    Body=data,
                    ChecksumSHA256=checksum,
                )["ETag"]
        self.progress(len(data))
        return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum}

    def _resume(self) -> tuple[str, dict[int, dict[str, Any]]]:
        """An upload that an earlier run began, and its parts by number; else a new one."""
        upload = self._find()
        if upload is None:
            with self.store.failing(self.key):
                started = self.store.client.create_multipart_upload(
                    **self.store.where(self.key),
                    **self.store.encryption(),
                    ChecksumAlgorithm="SHA256",
                )
            return started["UploadId"], {}
        pages = self.store.client.get_paginator("list_parts").paginate(
            **self.store.where(self.key), UploadId=upload
        )
        with self.store.failing(self.key):
            rows = [row for page in pages for row in page.get("Parts", [])]
        return upload, {row["PartNumber"]: row for row in rows}

    def _find(self) -> str | None:
        where = self.store.where(self.key)
        try:
            with self.store.failing(self.key):
                found = self.store.client.list_multipart_uploads(
                    Bucket=where["Bucket"], Prefix=where["Key"]
                )
        except StoreError:
            # Not everybody may list uploads; then nothing is resumed, and nothing is lost.
            return None
        rows = [row for row in found.get("Uploads", []) if row["Key"] == where["Key"]]
        return max(rows, key=lambda row: row["Initiated"])["UploadId"] if rows else None

    def _complete(self, upload: str, parts: list[dict[str, Any]]) -> bool:
        try:
            with self.store.failing(self.key):
                self.store.client.complete_multipart_upload(
                    **self.store.where(self.key),
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},
                    IfNoneMatch="*",
                )
        except StoreError as error:
            if not is_code(error, REFUSED):
                raise
            with self.store.failing(self.key):
                self.store.client.abort_multipart_upload(
                    **self.store.where(self.key), UploadId=upload
                )
            return False
        return True

    def _check(self, found: str) -> None:
        if f"sha256:{found}" != self.blob.digest:
            raise damaged(f"the blob has the digest sha256:{found}: it was changed", self.path)


def part_size(size: int) -> int:
    """Bytes of each part of an object, the last but for what is left.

    It depends on the object's size alone, so that another run cuts the same parts.
    """
    least = -(-size // MAX_PARTS)
    return max(PART, -(-least // _ROUND) * _ROUND)


def _read(file: FileIO, count: int) -> bytes:
    data = file.read(count)
    if data is None or len(data) != count:
        raise damaged("the file became shorter while it was read", file.name)
    return data


def _is_same(earlier: dict[str, Any], data: bytes, checksum: str) -> bool:
    if earlier["Size"] != len(data):
        return False
    if "ChecksumSHA256" in earlier:
        return earlier["ChecksumSHA256"] == checksum
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return earlier["ETag"].strip('"') == md5
