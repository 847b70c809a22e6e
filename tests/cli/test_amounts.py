"""Numbers that are none, as limits: each would switch off what it limits."""

from __future__ import annotations

import pytest

from tests.cli.verbs import partition


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "a.bundle", "--compare", "b.bundle", "--fail-above"],
        ["bench", "a.bundle", "--price"],
        ["bench", "a.bundle", "--seconds"],
        ["gc", "s3://models", "--grace"],
        ["cache", "prune", "--max-age"],
        ["presign", "s3://models/a@1", "--hours"],
        ["build", "model.py", "-o", "a.bundle", "--timeout"],
        ["build", "model.py", "-o", "a.bundle", "--memory-limit"],
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-1]}",
)
def test_it_is_refused(arguments: list[str], number: str) -> None:
    done = partition(*arguments, number)
    assert (2, "") == (done.returncode, done.stdout)
    assert f"Invalid value for '{arguments[-1]}'" in done.stderr
