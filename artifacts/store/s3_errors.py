"""What S3's answers mean."""

from __future__ import annotations

from typing import Any

from partitioner.errors import NotInStoreError, StoreError

__all__ = ["BUSY", "GONE", "REFUSED", "client_error", "is_code"]

GONE = ("404", "NoSuchKey", "NotFound")
REFUSED = ("412", "PreconditionFailed")
#: Another conditional write to the key is being made; S3 says to try again.
BUSY = ("409", "ConditionalRequestConflict", "OperationAborted")


def is_code(error: BaseException, codes: tuple[str, ...]) -> bool:
    """Whether an error of ours stands for one of S3's codes or states."""
    response: Any = getattr(error.__cause__, "response", None) or {}
    state = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return response.get("Error", {}).get("Code") in codes or str(state) in codes


def client_error(error: Any, where: str) -> StoreError:
    """Our error for one that S3 has answered: NotInStoreError where there is nothing."""
    code = error.response.get("Error", {}).get("Code", "")
    state = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in GONE or code == "NoSuchBucket" or state == 404:
        what = "no such bucket" if code == "NoSuchBucket" else "no such object"
        return NotInStoreError(f"{what} in the store", where=where)
    advice = "credentials need s3:GetObject, PutObject, ListBucket" if state == 403 else None
    return StoreError(f"the store refuses: {error}", where=where, advice=advice)
