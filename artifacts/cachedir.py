"""Where a host keeps what can be made again: measurements, compiled blobs, downloads."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir(kind: str) -> Path:
    """The folder for things of one kind; it may not exist.

    ``$PARTITIONER_CACHE``, else ``partitioner`` in ``$XDG_CACHE_HOME``, which is ``~/.cache``
    unless it is set (XDG base directory specification).
    """
    own = os.environ.get("PARTITIONER_CACHE")
    if own:
        return Path(own) / kind
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "partitioner" / kind
