"""Limits and secrets of a server."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from partitioner.errors import UsageError

__all__ = ["DEFAULT_OPTIONS", "LONGEST", "ServeOptions"]

#: Seconds: a week. Timers of event loops and of locks overflow with some larger numbers.
LONGEST = 7 * 86400

#: Bytes: zlib takes no limit that a machine word cannot hold, and no machine has as much memory.
_MOST_BODY = 1 << 40

#: Pillow refuses more pixels by itself: twice its ``Image.MAX_IMAGE_PIXELS``.
_MOST_PIXELS = 2 * (1024 * 1024 * 1024 // 4 // 3)


@dataclass(frozen=True)
class ServeOptions:
    """Limits and secrets of a server.

    Args:
        max_body: bytes of a request's body at most, decompressed; counted as they arrive. Up to
            2**40.
        max_requests: inference requests that are read, wait and run at a time; another one is
            refused before its body is read.
        max_pixels: of a picture that is sent as a file, before it is decoded. Up to 178,956,970,
            from which on Pillow refuses pictures whatever is said here.
        timeout: seconds in which a request must be done, and the most that a client may ask
            for, up to a week; None for any time.
        read_timeout: seconds in which a body must have arrived, up to a week.
        tokens: bearer tokens of which requests must have one; none for a server open to all.
            Health is open in either case.

    Raises:
        UsageError: a number that is not positive or too large, NaN among them; a bad token.
    """

    max_body: int = 64 << 20
    max_requests: int = 256
    max_pixels: int = 64 << 20
    timeout: float | None = None
    read_timeout: float = 60.0
    tokens: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        most = {
            "max_body": _MOST_BODY,
            "max_requests": sys.maxsize,
            "max_pixels": _MOST_PIXELS,
            "timeout": LONGEST,
            "read_timeout": LONGEST,
        }
        for name, limit in most.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= limit:  # NaN is neither
                raise UsageError(f"{name} must be more than 0 and at most {limit}, not {value}")
        if any(not token or not token.isascii() for token in self.tokens):
            raise UsageError("a token is empty or not ASCII", advice="use 32 random hex digits")


#: 64 MiB of body, 256 requests, open to all.
DEFAULT_OPTIONS = ServeOptions()
