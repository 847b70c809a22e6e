"""S3 and services that speak like it, by the low-level calls of boto3.

Why boto3 and no faster-sounding client stands in ``docs/store.md``, with the figures.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from partitioner.artifacts.manifest import Blob
from partitioner.artifacts.store.base import Document, Entry, InterruptedReadError, Progress
from partitioner.artifacts.store.options import StoreOptions
from partitioner.artifacts.store.retry import retried
from partitioner.artifacts.store.s3_errors import BUSY, REFUSED, client_error, is_code
from partitioner.artifacts.store.s3_upload import Upload
from partitioner.errors import MissingDependencyError, NotInStoreError, StoreError, UsageError

__all__ = ["S3Store"]

_PIECE = 2**20
_BUSY_TRIES = 5


class S3Store:
    """A prefix of a bucket.

    Args:
        bucket: its name.
        prefix: without slashes at its ends; may be empty.

    Raises:
        MissingDependencyError: boto3 is not installed.
        StoreError: no region, no such profile, a malformed endpoint.
    """

    def __init__(self, bucket: str, prefix: str, options: StoreOptions) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.options = options
        self.client = _client(options)

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def where(self, key: str) -> dict[str, str]:
        """Bucket and key as every call takes them."""
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def encryption(self) -> dict[str, str]:
        """What a call that creates an object takes of the options."""
        extra: dict[str, str] = {}
        if self.options.encryption:
            extra["ServerSideEncryption"] = self.options.encryption
        if self.options.kms_key:
            extra["SSEKMSKeyId"] = self.options.kms_key
        return extra

    def head(self, key: str) -> Entry | None:
        try:
            with self.failing(key):
                found = self.client.head_object(**self.where(key))
        except NotInStoreError:
            return None
        return Entry(key, found["ContentLength"], found["LastModified"].timestamp())

    def get(self, key: str, limit: int) -> Document | None:
        def act() -> Document:
            body, etag = self._open(key)
            return Document(b"".join(_pieces(body, limit + 1)), etag)

        try:
            found = retried(act, InterruptedReadError)
        except NotInStoreError:
            return None
        except InterruptedReadError as error:
            raise StoreError(str(error), where=self.at(key)) from error
        if len(found.data) > limit:
            raise StoreError(f"more than {limit} bytes where few are expected", where=self.at(key))
        return found

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        body, _ = self._open(key, Range=f"bytes={start}-{stop - 1}")
        left = stop - start
        for piece in _pieces(body, left):
            left -= len(piece)
            yield piece
        if left:
            raise InterruptedReadError(f"the body ended {left} bytes early")

    def _open(self, key: str, **how: str) -> tuple[Any, str]:
        """The body of an object, and its etag."""
        with self.failing(key):
            found = self.client.get_object(**self.where(key), **how)
            return found["Body"], found["ETag"]

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.put(key, data, {"IfNoneMatch": "*"}) or self._is(key, data)

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        return self.put(key, data, {"IfMatch": etag}) or self._is(key, data)

    def upload_if_absent(self, path: Path, blob: Blob, key: str, progress: Progress) -> bool:
        return Upload(self, path, blob, key, progress).run()

    def list(self, prefix: str) -> Iterator[Entry]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix
        )
        with self.failing(prefix):
            for page in pages:
                for row in page.get("Contents", []):
                    key = row["Key"].removeprefix(self.prefix)
                    yield Entry(key, row["Size"], row["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        with self.failing(key):
            self.client.delete_object(**self.where(key))

    def abandon(self, age: float) -> int:
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=self.prefix
        )
        count = 0
        with self.failing(""):
            for page in pages:
                now = _server_time(page)
                for row in page.get("Uploads", []):
                    if now - row["Initiated"].timestamp() <= age:
                        continue
                    where = {"Bucket": self.bucket, "Key": row["Key"]}
                    self.client.abort_multipart_upload(**where, UploadId=row["UploadId"])
                    count += 1
        return count

    def url(self, key: str, seconds: int) -> str:
        with self.failing(key):
            return self.client.generate_presigned_url(
                "get_object", Params=self.where(key), ExpiresIn=seconds
            )

    def at(self, key: str) -> str:
        """The address of an object, for messages."""
        return f"s3://{self.bucket}/{self.prefix}{key}"

    @contextmanager
    def failing(self, key: str) -> Generator[None]:
        """Turn boto's errors into ours.

        Raises:
            NotInStoreError: no such key (or bucket).
            StoreError: anything else; after boto's own retries.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise client_error(error, self.at(key)) from error
        except (BotoCoreError, OSError) as error:
            raise StoreError(
                f"the store cannot be reached: {error}",
                where=self.at(key),
                advice="see endpoint, region, credentials and network; a next run continues",
            ) from error

    def put(self, key: str, data: bytes, condition: dict[str, str]) -> bool:
        """Write an object in one request. False if the condition does not hold."""
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        for left in reversed(range(_BUSY_TRIES)):
            try:
                with self.failing(key):
                    self.client.put_object(
                        **self.where(key),
                        **condition,
                        **self.encryption(),
                        Body=data,
                        ChecksumSHA256=checksum,
                    )
                return True
            except StoreError as error:
                if is_code(error, REFUSED) or is_code(error, ("NoSuchKey",)):
                    return False
                if not (is_code(error, BUSY) and left):
                    raise
        return False

    def _is(self, key: str, data: bytes) -> bool:
        """Whether the object is there. A retry of our own write, of which the answer was lost,
        is refused as another's is."""
        entry = self.head(key)
        if entry is None or entry.size != len(data):
            return False
        found = self.get(key, len(data))
        return found is not None and found.data == data


def _pieces(body: Any, most: int) -> Iterator[bytes]:
    """At most so many bytes of a body, which is closed at the end.

    Raises:
        InterruptedReadError: the connection broke, or the body is shorter than was announced.
    """
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    try:
        while most and (piece := body.read(min(_PIECE, most))):
            most -= len(piece)
            yield piece
    except (BotoCoreError, HTTPError, OSError) as error:
        raise InterruptedReadError(f"the connection broke: {error}") from error
    finally:
        # A body that was read to its end goes back to the pool; a broken one does not.
        body.close()


def _client(options: StoreOptions) -> Any:
    try:
        import boto3
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise MissingDependencyError(
            "boto3 is not installed, which s3:// needs", advice="pip install 'partitioner[s3]'"
        ) from error
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 6},
        connect_timeout=10,
        read_timeout=30,
        max_pool_connections=max(16, 2 * options.threads),
        # Checksums are given where they matter; services that are like S3 know few others.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        core = botocore.session.Session(profile=options.profile)
        core.register_component("data_loader", _loader())
        session = boto3.Session(botocore_session=core, region_name=options.region)
        return session.client("s3", endpoint_url=options.endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise StoreError(
            f"no client for S3 can be made: {error}",
            where=options.endpoint,
            advice="see --endpoint, --region, --profile and the AWS configuration",
        ) from error


@functools.cache
def _loader() -> Any:
    """What reads the description of S3: a tenth of a second, which one time is enough."""
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


def _server_time(page: Any) -> float:
    from email.utils import parsedate_to_datetime

    headers = page["ResponseMetadata"]["HTTPHeaders"]
    if "date" not in headers:
        raise UsageError("the store's answers have no Date, so no age can be told")
    return parsedate_to_datetime(headers["date"]).timestamp()
