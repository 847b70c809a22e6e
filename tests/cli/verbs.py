"""Runs verbs: in this process, which is quick, or in one of their own, as users do."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from partitioner.cli import main

__all__ = ["Done", "partition", "partition_process"]


class Done(NamedTuple):
    """What a verb said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def partition(*arguments: str, cwd: Path | None = None) -> Done:
    """Run a verb in this process: a process for each would take longer than its work."""
    handler = signal.getsignal(signal.SIGTERM)
    output, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["partition", *arguments]),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as end,
    ):
        main.main(args=list(arguments))
    signal.signal(signal.SIGTERM, handler)
    return Done(int(end.value.code or 0), output.getvalue(), errors.getvalue())


def partition_process(*arguments: str, cwd: Path | None = None) -> Done:
    """Run a verb in a process of its own, where that is the point."""
    command = [sys.executable, "-c", "from partitioner.cli import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    return Done(done.returncode, done.stdout, done.stderr)
