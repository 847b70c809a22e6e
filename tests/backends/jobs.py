"""Jobs for the worker's tests."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from partitioner.errors import CompileError

calls = 0


def succeed(directory: Path) -> Any:
    print("said on the way")
    return {"answer": 42}


def count(directory: Path) -> int:
    global calls
    calls += 1
    return calls


def crash(directory: Path) -> None:
    ctypes.string_at(0)


def be_killed(directory: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(directory: Path) -> None:
    time.sleep(600)


def start_a_program_and_hang(directory: Path) -> None:
    program = subprocess.Popen(["sleep", "600"])
    (directory / "pid").write_text(str(program.pid))
    time.sleep(600)


def eat_memory(directory: Path) -> None:
    blocks = []
    while True:
        blocks.append(bytearray(2**30))


def raise_error(directory: Path) -> None:
    raise ValueError("nobody expected this")


def raise_ours(directory: Path) -> None:
    raise CompileError("the op is strange", where="model.py:7", advice="use another")


def parent_pid(directory: Path) -> int:
    return os.getppid()


def kill_the_worker_once(directory: Path) -> str:
    """As an operating system does that wants memory; the second time all is well."""
    mark = directory / "killed"
    if not mark.exists():
        mark.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    return "well"


def kill_the_worker(directory: Path) -> None:
    with (directory / "times").open("a") as file:
        file.write("x")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def meet(directory: Path) -> None:
    """Ends only if the other one runs at the same time."""
    (directory / "here").touch()
    others = [path / "here" for path in directory.parent.iterdir()]
    while not all(path.exists() for path in others):
        time.sleep(0.01)
