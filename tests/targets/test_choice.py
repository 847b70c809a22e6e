"""The order of several targets, and whose error it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitioner.errors import CompileError, UsageError
from partitioner.targets import find_target
from partitioner.targets.choice import by_preference, naming_target
from tests.targets.files import refused


def test_accelerators_come_first_and_any_cpu_last() -> None:
    names = ("cpu", "graviton", "xeon", "trn1", "inf2")
    order = [target.name for target in by_preference([find_target(name) for name in names])]
    assert ["trn1", "inf2", "graviton", "xeon", "cpu"] == order


def test_an_error_names_the_target() -> None:
    with pytest.raises(CompileError) as caught, naming_target("xeon"):
        raise CompileError("it crashed", where="model.py:3")
    assert "building for the target 'xeon': it crashed" == caught.value.what
    assert "see the log; or leave out --target xeon" == caught.value.advice
    with pytest.raises(UsageError, match=r"^no\n  to do: yes$"), naming_target(""):
        raise UsageError("no", advice="yes")


def test_instructions(tmp_path: Path) -> None:
    levels = {name: find_target(name).instructions for name in ("xeon6", "graviton4", "graviton2")}
    assert {"xeon6": "x86-64-v4", "graviton4": "armv9-a", "graviton2": "armv8.2-a"} == levels
    assert "" == find_target("cpu").instructions
    error = refused(tmp_path, '[targets.mine]\nbase = "cpu"\ninstructions = "mmx"\n')
    assert "'mmx' is none of x86-64" in error.what
