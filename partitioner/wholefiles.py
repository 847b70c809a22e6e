"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from partitioner.errors import OutputError

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> Path:
    """Write a file beside its place, then rename it; replaces what is there.

    Args:
        write: is given the open file.

    Raises:
        OutputError: the file system refuses.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, target)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written: {error.strerror or error}",
            where=str(target),
            advice="choose a place that can be written and has room",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target
