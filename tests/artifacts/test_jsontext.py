"""JSON text: canonical when written, bounded when read."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.artifacts.jsontext import MAX_DEPTH, MAX_INT, MAX_ITEMS, dumps, loads
from partitioner.errors import BundleError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-MAX_INT, MAX_INT) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES)
def test_round_trip(value: Any) -> None:
    data = dumps(value)
    assert value == loads(data, "it")
    assert data == dumps(loads(data, "it"))


@settings(deadline=None)
@given(st.dictionaries(TEXT, st.integers(0, 9), min_size=2))
def test_equal_values_give_equal_bytes(value: dict[str, int]) -> None:
    assert dumps(value) == dumps(dict(reversed(value.items())))


def test_canonical_form() -> None:
    given = {"b": [1, 1.0, 1e-7, True, None], "ä": 'q"\\\n\x01', "a": {}}
    assert '{"a":{},"b":[1,1.0,1e-07,true,null],"ä":"q\\"\\\\\\n\\u0001"}'.encode() == dumps(given)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_json_cannot_hold_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError):
        dumps({"a": [value]})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON: Expecting value"),
        (b"{", "not valid JSON"),
        (b"{} {}", "Extra data"),
        (b"\xff{}", "not UTF-8 at byte 0"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b'{"a":1,"a":1}', "a key occurs twice"),
        (b'[{"b":{"a":1,"\\u0061":2}}]', "a key occurs twice"),
        (b"[NaN]", "NaN is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"[1e999]", "beyond double precision"),
        (b"[9223372036854775808]", "beyond 64 bits"),
        (b"[-9223372036854775808]", "beyond 64 bits"),
        (b"[" + b"9" * 100_000 + b"]", "beyond 64 bits"),
        (b'"\\ud800"', "half a surrogate"),
        (b'{"\\uDfff":1}', "half a surrogate"),
        (b'"a\nb"', "Invalid control character"),
        (b'"\\', "Unterminated string"),
    ],
)
def test_malformed_text(data: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        loads(data, "the thing")
    assert caught.value.what.startswith("the thing")
    assert caught.value.advice is not None


def test_numbers_up_to_the_bounds() -> None:
    assert [MAX_INT, -MAX_INT, 1e308] == loads(b"[%d,%d,1e308]" % (MAX_INT, -MAX_INT), "it")
    assert "\U0001f600" == loads(b'"\\ud83d\\ude00"', "it")


def test_depth() -> None:
    def nested(depth: int) -> bytes:
        return b'[{"a":' * (depth // 2) + b"1" + b"}]" * (depth // 2)

    loads(nested(MAX_DEPTH), "it")
    for depth in (MAX_DEPTH + 2, 1000, 1_000_000):
        with pytest.raises(BundleError, match=r"levels deep|values; at most"):
            loads(nested(depth), "it")


def test_brackets_in_strings_are_no_depth() -> None:
    text = "[{" * 100 + '"\\' + "]" * 7
    assert [text, {text: 1}] == loads(json.dumps([text, {text: 1}]).encode(), "it")


def test_many_values() -> None:
    with pytest.raises(BundleError, match=f"at most {MAX_ITEMS} are read"):
        loads(b"[" + b"1," * MAX_ITEMS + b"1]", "it")
    with pytest.raises(BundleError, match="quotation marks"):
        loads(b"[" + b'"",' * 2 * MAX_ITEMS + b'""]', "it")


HOSTILE = """
import resource, sys, time
from partitioner.artifacts.jsontext import loads
from partitioner.errors import BundleError
size = 2**24
cases = [b'"' * size, b'"' + b'\\\\"' * (size // 2) + b'\\\\', b'"\\\\' * (size // 2), b'[' * size,
         b'\\\\' * size, b'[' + b'[],' * (size // 3), b'"' + b'a' * size, b'1' * size,
         b'" ' * (size // 2)]
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
sys.setrecursionlimit(10**9)
for case in cases:
    start = time.monotonic()
    try:
        loads(case, "it")
    except BundleError:
        pass
    else:
        sys.exit(f"{case[:9]!r} was read")
    if time.monotonic() - start > 5:
        sys.exit(f"{case[:9]!r} took long")
"""


def test_time_and_memory_are_bounded() -> None:
    """Each takes well under a second; quadratic behaviour would take hours."""
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
