"""Limits and secrets of a server."""

from __future__ import annotations

from dataclasses import dataclass, field

from partitioner.errors import UsageError

__all__ = ["DEFAULT_OPTIONS", "ServeOptions"]


@dataclass(frozen=True)
class ServeOptions:
    """Limits and secrets of a server.

    Args:
        max_body: bytes of a request's body at most, decompressed; counted as they arrive.
        max_requests: inference requests that are read, wait and run at a time; another one is
            refused before its body is read.
        max_pixels: of a picture that is sent as a file, before it is decoded.
        timeout: seconds in which a request must be done, and the most that a client may ask
            for; None for any time.
        read_timeout: seconds in which a body must have arrived.
        tokens: bearer tokens of which requests must have one; none for a server open to all.
            Health is open in either case.
    """

    max_body: int = 64 << 20
    max_requests: int = 256
    max_pixels: int = 64 << 20
    timeout: float | None = None
    read_timeout: float = 60.0
    tokens: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("max_body", "max_requests", "max_pixels", "read_timeout"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive, not {getattr(self, name)}")
        if self.timeout is not None and self.timeout <= 0:
            raise UsageError(f"timeout must be positive, not {self.timeout}")
        if any(not token or not token.isascii() for token in self.tokens):
            raise UsageError("a token is empty or not ASCII", advice="use 32 random hex digits")


#: 64 MiB of body, 256 requests, open to all.
DEFAULT_OPTIONS = ServeOptions()
