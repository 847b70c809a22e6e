"""Where in the user's code an op was called."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path
from types import FrameType

import torch

__all__ = ["calling_line", "line_of_error", "line_of_trace", "portable"]

_TORCH = str(Path(torch.__file__).parent)
_OWN = str(Path(__file__).parent)
_HOSTOPS = str(Path(__file__).parent.parent / "hostops.py")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)')


def calling_line() -> str:
    """``file.py:12 in forward`` of the innermost frame that is not torch's or this package's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _OWN, _HOSTOPS, "<")) and "contextlib" not in file:
            return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def line_of_trace(trace: str | None) -> str:
    """The same from a stack trace as ``torch.export`` keeps it, innermost frame last."""
    if not trace:
        return ""
    frames = [m for m in _FRAME.finditer(trace) if not m["file"].startswith(_TORCH)]
    if not frames:
        return ""
    return f"{frames[-1]['file']}:{frames[-1]['line']} in {frames[-1]['name']}"


def line_of_error(error: BaseException) -> str | None:
    """The innermost line of the user's code that an exception passed through."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    own = [m for m in _FRAME.finditer(frames) if not m["file"].startswith((_TORCH, _OWN, "<"))]
    traced = line_of_trace(str(error)) if 'File "' in str(error) else ""
    if traced or not own:
        return traced or None
    return f"{own[-1]['file']}:{own[-1]['line']} in {own[-1]['name']}"


def portable(source: str) -> str:
    """A source line without the folders that differ from machine to machine.

    What is kept of a build or a plan must not depend on where the model lies; a file and its folder
    are enough to find the line by.
    """
    path, colon, rest = source.rpartition(":")
    return f"{'/'.join(Path(path).parts[-2:])}{colon}{rest}" if path else source
