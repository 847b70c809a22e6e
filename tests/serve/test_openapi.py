"""Requests that schemathesis makes up from the document: answered as it says, never by a 500."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.servers import Served

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")

#: Requests for each operation.
quick_and_long = pytest.mark.parametrize("examples", [5, pytest.param(300, marks=pytest.mark.slow)])


@quick_and_long
def test_requests_made_up_from_the_document(examples: int, server: Served, tmp_path: Path) -> None:
    # In a process: its plugin for pytest changes how all other tests are collected.
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)]
    command += ["run", f"{server.url}/openapi.json", "--phases", "coverage,fuzzing"]
    command += ["--max-examples", str(examples), "--seed", "0", "--no-color"]
    # A busy machine is no defect.
    command += ["--request-timeout", "60"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert 0 == done.returncode, done.stdout
