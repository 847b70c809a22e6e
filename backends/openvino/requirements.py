"""Which OpenVINO reads an IR: the one that wrote it, and later ones."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path

from partitioner.artifacts.manifest import Requirement

__all__ = ["requirements"]


def requirements(graphs: Sequence[Path]) -> list[Requirement]:
    """The OpenVINO that some IRs run on.

    An IR of version 11 is read by all later releases, but not by those that lack an op of it; by
    which release an op came in is nowhere in the file.

    Args:
        graphs: files of IRs.
    """
    if not graphs:
        return []
    version = re.match(r"[0-9]+\.[0-9]+", importlib.metadata.version("openvino"))
    at_least = "" if version is None else version[0]
    return [Requirement("library", "openvino", at_least, reason="the release that wrote the IR")]
