"""Warm processes that run compile jobs, each in a fork of its own.

Compilers crash, hang and eat memory; none of that may reach the process that builds. The worker
has imported the heavy libraries once; a job is a fork of it, so it starts at once and from the same
state each time. Jobs are data: ``module:function`` and a directory. There is a worker for each
thread that runs jobs at a time; a job whose worker dies is begun again in another.

It is a process of its own, not ``multiprocessing``, which would import the user's main module
again.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from partitioner.backends.workers import Outcome, Workers, end_group
from partitioner.errors import CompileError, ResourceError

__all__ = ["Outcome", "run_job", "stop_worker"]

#: How much of a log an error quotes.
_TAIL = 2000


_workers = Workers()
atexit.register(_workers.stop)


def stop_worker() -> None:
    """End all workers and whatever they run; the next job starts another."""
    _workers.stop()


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
    outcome = _workers.run(
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
    while line := sys.stdin.readline():
        request = json.loads(line)
        if request["function"].startswith("partitioner."):
            _preload()
        pid = _fork(request, answers)
        _say(answers, str(pid))
        _say(answers, json.dumps(_watch(pid, request["timeout_s"])))


def _say(answers: TextIO, line: str) -> None:
    answers.write(f"{line}\n")
    answers.flush()


@functools.cache
def _preload() -> None:
    """Import what our own jobs need, once for all of them."""
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


def _fork(request: dict[str, Any], answers: TextIO) -> int:
    """Start a job; the group of its processes has its number."""
    pid = os.fork()
    if pid == 0:
        # The parent is to see at once when the worker dies, which it does by this pipe.
        os.close(answers.fileno())
        _child(request)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        # As the child does: whichever is first.
        os.setpgid(pid, pid)
    return pid


def _watch(pid: int, timeout_s: float) -> dict[str, Any]:
    """How a job ends."""
    deadline = time.monotonic() + timeout_s
    pause = 0.001
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            end_group(pid)
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
            return {"code": code, "signal": number, "timed_out": False}
        if time.monotonic() > deadline or _parent_gone():
            end_group(pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"code": -1, "signal": None, "timed_out": True}
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


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
