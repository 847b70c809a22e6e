"""The parent's end of the processes that run compile jobs: see :mod:`partitioner.backends.worker`.

There is a process for each thread that runs jobs at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

__all__ = ["Outcome", "Workers", "end_group"]

#: How often a job is begun whose worker dies.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Outcome:
    """How a job ended: exit code, or the signal that ended it, or the time limit."""

    code: int
    signal: int | None
    timed_out: bool


class _Worker:
    """The parent's end of one worker; runs one job at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._job = 0

    def run(self, request: dict[str, Any]) -> tuple[Outcome, bool]:
        """How a job ended, and whether that is how itself ended: else its worker did."""
        process = self._started()
        try:
            line = self._exchange(process, request)
        except BaseException:
            # Interrupted in the middle: whatever it still says belongs to nobody.
            self.stop()
            raise
        if line:
            self._job = 0
            return Outcome(**json.loads(line)), True
        self._end_job()
        code = process.wait()
        self.stop()
        return Outcome(code, -code if code < 0 else None, timed_out=False), False

    def _exchange(self, process: subprocess.Popen[bytes], request: dict[str, Any]) -> bytes:
        """Send a job: what the worker says in the end; nothing if it died."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        self._job = int(process.stdout.readline() or 0)
        return process.stdout.readline()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.stop()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "partitioner.backends.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONHASHSEED": "0"},
                # Its own group: Ctrl-C is for the build, which then ends the worker.
                start_new_session=True,
            )
        return self._process

    def interrupt(self) -> None:
        """End the process and the job, for whoever waits for it in another thread."""
        process = self._process
        if process is not None:
            process.terminate()
        self._end_job()

    def stop(self) -> None:
        """End the process and the job; nobody else may be using it."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        process.terminate()
        process.wait()
        self._end_job()
        if process.stdout is not None:
            process.stdout.close()

    def _end_job(self) -> None:
        """End the fork of a worker that can no longer do it."""
        job, self._job = self._job, 0
        if job:
            end_group(job)


class Workers:
    """Workers, as many as there are callers at a time; they are kept for the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._stops = 0

    def run(self, request: dict[str, Any]) -> Outcome:
        """Run a job; one that was ended by what is not its own is begun again, a few times."""
        stops = self._stops
        for attempt in itertools.count(1):
            worker, others = self._take()
            try:
                outcome, own = worker.run(request)
            finally:
                others = self._give_back(worker) or others
            # Memory that several jobs took together one alone may have.
            innocent = not own or (others and outcome.signal == signal.SIGKILL)
            if not innocent or attempt == _ATTEMPTS or stops != self._stops:
                return outcome
        raise AssertionError

    def _take(self) -> tuple[_Worker, bool]:
        """A worker, and whether others are at work."""
        with self._lock:
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.append(worker)
            return worker, len(self._busy) > 1

    def _give_back(self, worker: _Worker) -> bool:
        """Whether others are at work."""
        with self._lock:
            self._busy.remove(worker)
            self._idle.append(worker)
            return bool(self._busy)

    def stop(self) -> None:
        """End all and whatever they run; the next job starts another."""
        with self._lock:
            self._stops += 1
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.interrupt()
        for worker in idle:
            worker.stop()


def end_group(pid: int) -> None:
    """End the programs that a job has started and left behind: compilers are programs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
