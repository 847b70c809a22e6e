"""How a build uses the compile cache."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from partitioner.artifacts.store.options import DEFAULT_OPTIONS, StoreOptions
from partitioner.errors import UsageError

__all__ = ["LIMIT_VARIABLE", "VARIABLE", "CacheOptions", "Mode"]

#: ``use``: look up and keep; ``read``: look up only; ``verify``: compile all the same, and compare;
#: ``off``: neither.
Mode = Literal["use", "read", "verify", "off"]

#: The remote cache's address, or ``off``.
VARIABLE = "PARTITIONER_COMPILE_CACHE"

#: Bytes that the cache on disk may take; the least recently used entries go after a build.
LIMIT_VARIABLE = "PARTITIONER_COMPILE_CACHE_LIMIT"

_LIMIT = 8 * 2**30


@dataclass(frozen=True)
class CacheOptions:
    """Where the cache is and what is done with it.

    Args:
        mode: see :data:`Mode`.
        remote: address of a store behind the one on disk: ``s3://bucket/prefix`` or
            ``file:///directory``; None for none.
        failures: whether failures of compilers are kept and believed, too.
        folder: of the cache on disk; None for ``compile`` in the host's cache directory.
        limit: bytes that it may take.
        store: how the remote one is reached.

    Raises:
        UsageError: no such mode.
    """

    mode: Mode = "use"
    remote: str | None = None
    failures: bool = False
    folder: Path | None = None
    limit: int = _LIMIT
    store: StoreOptions = field(default=DEFAULT_OPTIONS)

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            known = ", ".join(get_args(Mode))
            raise UsageError(f"unknown cache mode {self.mode!r}", advice=f"it is {known}")

    @classmethod
    def from_environment(cls, mode: Mode | None = None, remote: str | None = None) -> CacheOptions:
        """What the environment says, where the caller does not.

        Raises:
            UsageError: :data:`LIMIT_VARIABLE` is no number of bytes.
        """
        text = os.environ.get(LIMIT_VARIABLE) or str(_LIMIT)
        if not text.isdecimal():
            raise UsageError(f"{LIMIT_VARIABLE} is a number of bytes, not {text!r}")
        address = remote or os.environ.get(VARIABLE) or None
        own = cls(limit=int(text))
        if address == "off":
            return replace(own, mode=mode or "off")
        return replace(own, mode=mode or "use", remote=address)
