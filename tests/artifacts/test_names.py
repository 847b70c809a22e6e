"""Names, sizes, and what is shown of an untrusted value."""

from __future__ import annotations

import numpy as np
import pytest

from partitioner.artifacts.faults import shown
from partitioner.artifacts.names import (
    MAX_NBYTES,
    check_id,
    check_label,
    check_spec,
    check_text,
    nbytes_of,
)
from partitioner.errors import BundleError
from partitioner.specs import DTYPES, TensorSpec, itemsize


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_are_those_of_numpy(dtype: str) -> None:
    expected = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    assert expected == itemsize(dtype)
    assert 6 * expected == nbytes_of(TensorSpec(dtype, (2, 3)))
    assert 0 == nbytes_of(TensorSpec(dtype, (2, 0)))
    assert expected == nbytes_of(TensorSpec(dtype, ()))


def test_the_largest_tensor() -> None:
    check_spec(TensorSpec("int8", (MAX_NBYTES,)), "it")
    check_spec(TensorSpec("int8", (None, "n", MAX_NBYTES)), "it")
    for spec in (TensorSpec("int8", (MAX_NBYTES + 1,)), TensorSpec("int16", (MAX_NBYTES,))):
        with pytest.raises(BundleError, match="it takes more than"):
            check_spec(spec, "it")


@pytest.mark.parametrize("text", ["x", "net.layers[0]", "loop_0.x:1", "<lambda>", "größe", "a-b"])
def test_ids(text: str) -> None:
    check_id(text, "it")


@pytest.mark.parametrize("text", ["", " ", "a b", "a/b", "a\n", "a\\b", "a\x00", "a" * 201, "a'b"])
def test_no_ids(text: str) -> None:
    with pytest.raises(BundleError, match="malformed id"):
        check_id(text, "it")


def test_labels() -> None:
    for text in ("mesh", "a b (c)", "größe", "output.0", "a" * 200, "日本"):
        check_label(text, "it")
    for text in ("", ".", "..", ".x", "/", "a/b", "a\\b", "a\tb", "\u202e", "a" * 201, "\ud800"):
        with pytest.raises(BundleError, match=r"^it "):
            check_label(text, "it")


def test_text() -> None:
    check_text("", "it")
    check_text("x" * 7, "it", 7)
    with pytest.raises(BundleError, match="at most 7 printable"):
        check_text("x" * 8, "it", 7)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("a", "'a'"),
        ("\x1b\ud800ä", r"'\x1b\ud800\xe4'"),
        ("x" * 100, f"'{'x' * 60}'..."),
        ([1], "a list"),
        ({"a": 1}, "an object"),
    ],
)
def test_shown(value: object, expected: str) -> None:
    assert expected == shown(value)
