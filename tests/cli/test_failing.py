"""How verbs end when something is wrong: closed pipes, interruptions, errors as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from partitioner.cli.printing import json_text
from tests.cli.verbs import partition, partition_process

MAIN = "from partitioner.cli import main; main()"


@pytest.mark.parametrize(
    "arguments", [["targets"], ["targets", "--json"], ["--help"], ["nonsense"]]
)
def test_a_closed_pipe_ends_quietly(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    wrong = subprocess.PIPE if arguments != ["nonsense"] else writing
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments], stdout=writing, stderr=wrong, check=False
    )
    os.close(writing)
    assert 141 == done.returncode
    assert not done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupted_verb_says_one_line(as_json: bool, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("print('up', flush=True)\nimport time\ntime.sleep(60)\n")
    command = [sys.executable, "-c", MAIN, "plan", "model.py", *(["--json"] if as_json else [])]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "up\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert 130 == process.returncode
    assert ("" if as_json else "interrupted\n") == errors
    if as_json:
        assert "Interrupted" == json.loads(output)["error"]["kind"]


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["run"], ["run", "x", "--seed", "x"], ["serve", "x"], ["--nonsense"]],
)
def test_wrong_usage_is_json_too(arguments: list[str]) -> None:
    done = partition(*arguments, "--json")
    error = json.loads(done.stdout)["error"]
    assert 2 == done.returncode == error["exit_code"]
    assert "UsageError" == error["kind"]
    assert error["what"]
    assert "--help" in error["advice"]
    assert "" == done.stderr


def test_after_two_dashes_json_is_a_name() -> None:
    done = partition("run", "--", "--json")
    assert 9 == done.returncode
    assert "" == done.stdout


def test_numbers_that_json_cannot_hold_are_null() -> None:
    document = {"a": [float("nan"), 1.5], "b": (float("inf"), 2), "c": {"d": -float("inf")}}
    expected = {"a": [None, 1.5], "b": [None, 2], "c": {"d": None}}
    assert expected == json.loads(json_text(document))


def test_notes_of_an_error_are_in_json(tmp_path: Path) -> None:
    text = (
        "import torch\n"
        "from partitioner.errors import ModelError\n"
        "error = ModelError('wrong')\n"
        "error.add_note('because')\n"
        "raise error\n"
    )
    (tmp_path / "model.py").write_text(text)
    plain = partition_process("plan", "model.py", cwd=tmp_path)
    assert "note: because" in plain.stderr
    done = partition_process("plan", "model.py", "--json", cwd=tmp_path)
    assert ["because"] == json.loads(done.stdout)["error"]["notes"]
