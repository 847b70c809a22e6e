"""What S3's answers mean."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

from partitioner.errors import NotInStoreError, StoreError

__all__ = ["BUSY", "GONE", "REFUSED", "client_error", "is_code"]

GONE = ("404", "NoSuchKey", "NotFound")
REFUSED = ("412", "PreconditionFailed")
#: Another conditional write to the key is being made; S3 says to try again.
BUSY = ("409", "ConditionalRequestConflict", "OperationAborted")

#: Seconds that a request's time may differ from the store's: what Signature Version 4 allows.
_SKEW = 15 * 60


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
    behind = _seconds_behind(error.response)
    if code == "RequestTimeTooSkewed" or (state == 403 and abs(behind) > _SKEW):
        side = "behind" if behind > 0 else "ahead of"
        return StoreError(
            f"the store refuses requests by this machine's clock, which is {abs(behind):.0f} s "
            f"{side} the store's: {error}",
            where=where,
            advice="set the clock (NTP); requests are signed with their time, and may be 15 "
            "minutes off",
        )
    advice = "credentials need s3:GetObject, PutObject, ListBucket" if state == 403 else None
    return StoreError(f"the store refuses: {error}", where=where, advice=advice)


def _seconds_behind(response: Any) -> float:
    """How far our clock is behind the answer's; 0 if it tells no time. Answers to HEAD have no
    body, so for these it is all that there is to tell a wrong clock from wrong credentials."""
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return 0.0
