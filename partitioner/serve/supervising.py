"""A process whose only work is to hear signals, in front of one that may not be hit twice.

Ending Ray takes seconds, in which its library gives SIGTERM back its usual effect: a second signal
would kill the process half-way and leave parts of the cluster behind. No handler of that process
can prevent it, so signals are heard by another one, which hands on the first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

__all__ = ["go_on_supervised"]

_ENDING = (signal.SIGTERM, signal.SIGINT)


def go_on_supervised() -> None:
    """Return in a new process; the present one waits for it, and exits with its exit code.

    The first SIGTERM or SIGINT to the present process is handed on as SIGTERM, others are ignored.
    If it is killed, the new process is told to end as well. Call it before there are threads.

    Raises:
        SystemExit: in the present process, when the other has ended; with 128 and the number of
            the signal if it was killed by one.
    """
    listening, held = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until each process has its handlers
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(held)
        os.setsid()  # what a terminal sends goes to all processes of its group
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        threading.Thread(target=_end_with, args=(listening,), daemon=True).start()
        return
    os.close(listening)
    sys.exit(_exit_code(child))


def _end_with(listening: int) -> None:
    """End when the other end of a pipe is closed, which is when its process is gone."""
    os.read(listening, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _exit_code(child: int) -> int:
    """Hand the first signal on to a process, and wait for its end."""

    def hand_on(*_: object) -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        os.kill(child, signal.SIGTERM)

    for number in _ENDING:
        signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
