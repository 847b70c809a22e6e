"""Signals, heard by a process in front of one that may not be hit twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.models import make_steps
from tests.serve.servers import ROOT, process_server

#: Says that it is ready, counts the signals that come, takes a while to end.
CHILD = """
import signal, sys, time
from partitioner.serve.supervising import go_on_supervised
go_on_supervised()
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append(1))
print("ready", flush=True)
while not got:
    signal.pause()
print("ending", flush=True)
sys.stdin.readline()
sys.exit(40 + len(got))
"""


def start() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()
    return process


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_arrives_of_many(first: signal.Signals) -> None:
    with start() as process:
        process.send_signal(first)
        assert process.stdout is not None
        assert "ending\n" == process.stdout.readline()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
        process.communicate("over\n")
    assert 41 == process.returncode


def test_it_ends_with_the_one_in_front() -> None:
    with start() as process:
        process.kill()
        assert process.stdout is not None
        assert "ending\n" == process.stdout.readline()


@pytest.mark.slow
def test_many_signals_end_a_cluster_in_peace(tmp_path: Path) -> None:
    bundle = make_steps(tmp_path / "steps.bundle")
    arguments = (str(bundle), "--engine", "ray", "--memory", "low")
    arguments += ("--host-op", "tests.serve.models:pause")
    with process_server(tmp_path, *arguments, RAY_ADDRESS="local") as server:
        while server.process.poll() is None:
            server.process.terminate()
    assert 0 == server.process.returncode
