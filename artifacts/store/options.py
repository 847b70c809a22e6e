"""How a store is reached, beyond its address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partitioner.errors import UsageError

__all__ = ["DEFAULT_OPTIONS", "StoreOptions"]

_ENCRYPTIONS = (None, "AES256", "aws:kms", "aws:kms:dsse")


@dataclass(frozen=True)
class StoreOptions:
    """Options of S3 (the first six) and of the web.

    Args:
        endpoint: of an S3-compatible service; None for ``AWS_ENDPOINT_URL``, else AWS itself.
        region: None for what the AWS configuration says.
        profile: of the AWS configuration files.
        encryption: None for the bucket's own, ``AES256``, ``aws:kms`` or ``aws:kms:dsse``.
        kms_key: id or ARN of the key, for the two with ``kms``; None for the account's own.
        threads: how many requests run at once.
        ca_file: certificates to trust instead of the system's.

    Raises:
        UsageError: they cannot be meant.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    encryption: str | None = None
    kms_key: str | None = None
    threads: int = 4
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        if self.encryption not in _ENCRYPTIONS:
            known = ", ".join(name for name in _ENCRYPTIONS if name)
            raise UsageError(f"unknown encryption {self.encryption!r}", advice=f"it is {known}")
        if self.kms_key is not None and not (self.encryption or "").startswith("aws:kms"):
            raise UsageError("a KMS key is given, but the encryption is not aws:kms")
        if not 1 <= self.threads <= 64:
            raise UsageError(f"threads must be 1 to 64, not {self.threads}")


DEFAULT_OPTIONS = StoreOptions()
