"""A warm process that runs compile jobs, each in a fork of its own.

Compilers crash, hang and eat memory; none of that may reach the process that builds. The worker
has imported the heavy libraries once; a job is a fork of it, so it starts at once and from the same
state each time. Jobs are data: ``module:function`` and a directory.

It is a process of its own, not ``multiprocessing``, which would import the user's main module
again.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from partitioner.errors import CompileError, ResourceError

__all__ = ["Outcome", "run_job", "stop_worker"]

#: How much of a log an error quotes.
_TAIL = 2000


@dataclass(frozen=True)
class Outcome:
    """How a job ended: exit code, or the signal that ended it, or the time limit."""

    code: int
    signal: int | None
    timed_out: bool


class _Worker:
    """The parent's end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def run(self, request: dict[str, Any]) -> Outcome:
        with self._lock:
            begun, line = self._exchange(request)
            if not begun:
                # It was dying already, and had not been seen to; the job has not been touched.
                self.stop()
                begun, line = self._exchange(request)
            if line:
                return Outcome(**json.loads(line))
            assert self._process is not None
            code = self._process.wait()
            self._process = None
            return Outcome(code, -code if code < 0 else None, timed_out=False)

    def _exchange(self, request: dict[str, Any]) -> tuple[bool, bytes]:
        """Send a job: whether the worker took it, and what it says in the end, if anything."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            begun = process.stdout.readline()
            return bool(begun), process.stdout.readline() if begun else b""
        except BrokenPipeError:
            return False, b""
        except BaseException:
            # Interrupted in the middle: whatever it still says belongs to nobody.
            self.stop()
            raise

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "partitioner.backends.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONHASHSEED": "0"},
                # Its own group: Ctrl-C is for the build, which then ends the worker.
                start_new_session=True,
            )
        return self._process

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


_worker = _Worker()
atexit.register(_worker.stop)


def stop_worker() -> None:
    """End the worker and whatever it runs; the next job starts another."""
    _worker.stop()


def run_job(
    function: str,
    directory: Path,
    *,
    what: str,
    where: str | None,
    timeout_s: float,
    memory_bytes: int | None = None,
    log: Path | None = None,
    advice: Mapping[int, str] | None = None,
) -> Any:
    """Run ``module:function`` on a job directory, in a process of its own.

    The function takes the directory and gives a JSON value. A ``PartitionerError`` it raises is
    raised here.

    Args:
        advice: by the signal that ended it, instead of the general one.

    Raises:
        CompileError: it failed; a :class:`ResourceError` where it was killed, or ran out of time
            or memory.
    """
    log = log or directory / "log.txt"
    start = log.stat().st_size if log.exists() else 0
    outcome = _worker.run(
        {
            "function": function,
            "directory": str(directory),
            "log": str(log),
            "timeout_s": timeout_s,
            "memory_bytes": memory_bytes,
        }
    )
    result = directory / "result.json"
    if outcome.code == 0 and not outcome.timed_out and result.exists():
        document = json.loads(result.read_text())
        if "error" not in document:
            return document["value"]
        error = document["error"]
        raise CompileError(error["what"], where=error["where"] or where, advice=error["advice"])
    died = _died(outcome, what, where, timeout_s, _tail(log, start))
    if outcome.signal is not None and advice is not None:
        died.advice = advice.get(outcome.signal, died.advice)
    raise died


def _tail(log: Path, start: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")[-_TAIL:].strip()


def _died(
    outcome: Outcome, what: str, where: str | None, timeout_s: float, tail: str
) -> CompileError:
    kind = ResourceError
    if outcome.timed_out:
        cause = f"did not end within {timeout_s:g} s"
        advice = "allow more time (--timeout), or make the stage smaller"
    elif outcome.signal == signal.SIGKILL:
        cause = "was killed, most likely for want of memory"
        advice = "build on a machine with more memory"
    elif outcome.signal is not None:
        kind = CompileError
        cause = f"crashed with {signal.Signals(outcome.signal).name}"
        advice = "this is a defect of the compiler; move the stage to another backend, or report it"
    elif "MemoryError" in tail or "bad_alloc" in tail or "can't allocate memory" in tail:
        cause = "ran out of memory"
        advice = "build on a machine with more memory, or raise the memory limit"
    else:
        kind = CompileError
        cause = f"failed with exit code {outcome.code}"
        advice = "the end of its log is above; the whole log is kept with --log"
    text = f"the compiler of {what} {cause}"
    return kind(f"{text}\n{tail}" if tail else text, where=where, advice=advice)


# --- the worker's end ---------------------------------------------------------------------------


def main() -> None:
    """Read requests, a line each, until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _preload()
    while line := sys.stdin.readline():
        answers.write("begun\n")
        answers.flush()
        outcome = _run_forked(json.loads(line))
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()


def _preload() -> None:
    # Of OpenVINO only the import: its thread pools do not survive a fork.
    names = (
        "onnxruntime",
        "partitioner.backends.onnx.compile",
        "partitioner.backends.openvino.convert",
    )
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError:
            # The job that needs it says so, with advice.
            continue
        warm_up = getattr(module, "warm_up", None)
        if warm_up is not None:
            warm_up()


def _run_forked(request: dict[str, Any]) -> dict[str, Any]:
    pid = os.fork()
    if pid == 0:
        _child(request)
    deadline = time.monotonic() + request["timeout_s"]
    pause = 0.001
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            _end_group(pid)
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
            return {"code": code, "signal": number, "timed_out": False}
        if time.monotonic() > deadline or _parent_gone():
            _end_group(pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"code": -1, "signal": None, "timed_out": True}
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _end_group(pid: int) -> None:
    """End the programs that a job has started and left behind: compilers are programs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _parent_gone() -> bool:
    # The parent sends nothing while a job runs, so a readable pipe is a closed one.
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _child(request: dict[str, Any]) -> None:
    """Run one job and leave; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        handle = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        _limit_memory(request["memory_bytes"])
        _work(request["function"], Path(request["directory"]))
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must never return into the worker
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _limit_memory(limit: int | None) -> None:
    if limit is None:
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _work(name: str, directory: Path) -> None:
    from partitioner.errors import PartitionerError

    module, function = name.split(":")
    try:
        value = getattr(importlib.import_module(module), function)(directory)
        document: dict[str, Any] = {"value": value}
    except PartitionerError as error:
        traceback.print_exc()
        fields = {"what": error.what, "where": error.where, "advice": error.advice}
        document = {"error": cast("dict[str, Any]", fields)}
    partial = directory / "result.partial"
    partial.write_text(json.dumps(document))
    partial.rename(directory / "result.json")


if __name__ == "__main__":
    main()
