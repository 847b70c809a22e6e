"""Failures that are kept: the error that is made again is the one that was met."""

from __future__ import annotations

import pytest

from partitioner.artifacts.codec import decode, encode
from partitioner.caching.failures import Failure, note_of, revived
from partitioner.errors import BundleError, CompileError, ResourceError


def again(error: CompileError) -> CompileError:
    """Through what an entry of the cache holds."""
    return revived(decode(Failure, encode(note_of(error))), "stage")


class OwnError(ResourceError):
    """A backend's own."""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(CompileError, CompileError), (ResourceError, ResourceError), (OwnError, ResourceError)],
)
@pytest.mark.parametrize("advice", ["give it more", None])
def test_class_code_and_advice_are_those_first_met(
    kind: type[CompileError], expected: type[CompileError], advice: str | None
) -> None:
    first = kind("it was killed", where="model.py:3 in forward", advice=advice)
    found = again(first)
    assert expected is type(found)
    assert first.exit_code == found.exit_code
    assert (first.what, first.where, first.advice) == (found.what, found.where, found.advice)
    assert str(first) == str(found)
    assert found.__cause__ is None


def test_the_cause_is_told() -> None:
    first = CompileError("it failed")
    first.__cause__ = MemoryError("no more")
    assert "MemoryError: no more" == str(again(first).__cause__)


def test_another_error_is_no_failure_of_a_compiler() -> None:
    with pytest.raises(BundleError, match="is an error 'SystemExit'"):
        revived(Failure("SystemExit", "", "", None, ""), "stage")
