"""Signals, heard by a process in front of one that may not be hit twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serve.scaled import make_scaled
from tests.serve.servers import ROOT

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
    bundle, log = make_scaled(tmp_path / "scaled.bundle", 2.0), tmp_path / "log"
    command = [sys.executable, "-c", "from partitioner.cli import main; main()", "serve"]
    arguments = [str(bundle), "--engine", "ray", "--memory", "low", "--port", "8125"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"}
    with (
        log.open("wb") as file,
        subprocess.Popen([*command, *arguments], stderr=file, env=variables) as process,
    ):
        end = time.monotonic() + 180
        while '"listening"' not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        while process.poll() is None:
            process.terminate()
            time.sleep(0.01)
    assert 0 == process.returncode, log.read_text()
