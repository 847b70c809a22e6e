"""Running something in a process that is killed at the n-th step, for every n."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["STORE_STEPS", "Stepped", "killed_at_each_step"]

#: What is a step on a disk: everything that changes names or begins to change content.
_EVENTS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.chmod", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR

#: What is a step in a store.
STORE_STEPS = ("put_if_absent", "put_if_match", "upload_if_absent", "delete", "head", "get", "list")


def killed_at_each_step(act: Callable[[], None], stride: int = 1) -> Iterator[int]:
    """Run ``act`` in a fork that is killed just before its n-th step on the disk.

    Gives n, of which there is one in each ``stride``, after each kill, and ends when ``act`` came
    to its end.
    """
    for step in range(1, 1000, stride):
        process = multiprocessing.get_context("fork").Process(target=_run, args=(act, step))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            return
        assert -signal.SIGKILL == process.exitcode
        yield step
    raise AssertionError("it never came to its end")


def _run(act: Callable[[], None], step: int) -> None:
    left = step
    lock = threading.Lock()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if event not in _EVENTS and not writes:
            return
        with lock:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    act()
    os._exit(0)


class Stepped:
    """A store that calls ``before(n)`` before its n-th step."""

    def __init__(self, store: Any, before: Callable[[int], None]) -> None:
        self._store = store
        self._before = before
        self._lock = threading.Lock()
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if name not in STORE_STEPS:
            return value

        def step(*arguments: Any) -> Any:
            with self._lock:
                self.steps += 1
                count = self.steps
            self._before(count)
            return value(*arguments)

        return step
