"""Which source a pipeline was made by: its file, and git's revision of it."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partitioner.artifacts.digest import digest_file

__all__ = ["Source", "find_source", "source_file"]

#: Seconds after which git's answer is not waited for: a repository on a disk that hangs.
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Source:
    """A file, and the state of the repository it lies in.

    Attributes:
        name: its path from the top of the repository; without one, its folder's and its own name.
        digest: of its content.
        revision: git's commit; None where git does not follow the file.
        dirty: whether files that git follows differ from that commit.
    """

    name: str
    digest: str
    revision: str | None = None
    dirty: bool = False


def source_file(pipeline: Any) -> Path | None:
    """The file of a pipeline's class or function; None for what was typed in, or is not Python."""
    while isinstance(pipeline, functools.partial):
        pipeline = pipeline.func
    function = inspect.unwrap(pipeline) if callable(pipeline) else pipeline
    kind = function if inspect.isroutine(function) else type(function)
    try:
        path = inspect.getsourcefile(kind)
    except (TypeError, OSError):
        return None
    return Path(path) if path is not None and Path(path).is_file() else None


def find_source(file: Path) -> Source | None:
    """What can be said of a file; None if it cannot be read.

    A repository that merely surrounds the file (a virtual environment inside of a checkout) is not
    its own, so the file must be one that git follows.
    """
    file = file.resolve()
    try:
        digest = digest_file(file)
    except OSError:
        return None
    name = "/".join(file.parts[-2:])
    tracked = _git(file.parent, "ls-files", "--full-name", "--error-unmatch", "--", file.name)
    revision = _git(file.parent, "rev-parse", "--verify", "HEAD") if tracked else None
    changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    if tracked is None or revision is None or changes is None:
        return Source(name, digest)
    return Source(tracked, digest, revision, dirty=changes != "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git, or it has nothing to say."""
    # It must neither ask, nor write to the repository, nor start what the repository names.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").rstrip("\n") if done.returncode == 0 else None
