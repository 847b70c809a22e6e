"""Caches of a test's own, on disk and on a real S3 server."""

from tests.artifacts.store.conftest import environment, new_bucket, s3_endpoint, s3_uri, store, uri

__all__ = ["environment", "new_bucket", "s3_endpoint", "s3_uri", "store", "uri"]
