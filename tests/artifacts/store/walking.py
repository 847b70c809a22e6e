"""Running something in a process that is killed, or whose disk is full, at the n-th step, for
every n."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from partitioner.errors import OutputError, StoreError

__all__ = ["STORE_STEPS", "Stepped", "failed_at_each_step", "killed_at_each_step"]

#: What is a step on a disk: everything that changes names or begins to change content.
_EVENTS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.chmod", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR

#: The exit code of a process that has said that its disk is full.
_FULL = 3

#: What is a step in a store.
STORE_STEPS = ("put_if_absent", "put_if_match", "upload_if_absent", "delete", "head", "get", "list")


def killed_at_each_step(act: Callable[[], None], stride: int = 1) -> Iterator[int]:
    """Run ``act`` in a fork that is killed just before its n-th step on the disk.

    Gives n, of which there is one in each ``stride``, after each kill, and ends when ``act`` came
    to its end.
    """
    return _walked(act, stride, _kill, -signal.SIGKILL)


def failed_at_each_step(act: Callable[[], None], stride: int = 1) -> Iterator[int]:
    """The same where from the n-th step on the disk has no room for another file.

    ``act`` must then end in an error that says so, or go on without what it could not write.
    """
    return _walked(act, stride, _fill, _FULL)


def _walked(
    act: Callable[[], None], stride: int, fail: Callable[[str, Any], None], code: int
) -> Iterator[int]:
    for step in range(1, 1000, stride):
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_run, args=(act, step, fail))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            return
        assert code == process.exitcode
        yield step
    raise AssertionError("it never came to its end")


def _kill(event: str, path: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fill(event: str, path: Any) -> None:
    if event in ("os.mkdir", "os.link") or (event == "open" and not os.path.lexists(path)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _run(act: Callable[[], None], step: int, fail: Callable[[str, Any], None]) -> None:
    left = step
    lock = threading.Lock()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if event not in _EVENTS and not writes:
            return
        with lock:
            left -= 1
            over = left <= 0
        if over:
            fail(event, arguments[0])

    sys.addaudithook(hook)
    code = 1
    try:
        act()
        code = 0
    except (OutputError, StoreError) as error:
        code = _FULL if os.strerror(errno.ENOSPC) in str(error) and error.advice else 1
    finally:
        if code == 1:
            traceback.print_exc()
        os._exit(code)


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
