"""Canonical JSON text, and a reader for text that may come from an enemy.

Canonical: UTF-8, keys sorted, no white space, no NaN, numbers as Python prints them. Equal values
give equal bytes.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, cast

from partitioner.artifacts.faults import damaged

__all__ = ["MAX_DEPTH", "MAX_INT", "MAX_ITEMS", "dumps", "loads"]

#: Deepest nesting; a manifest needs about 12 and two more for each loop within a loop.
MAX_DEPTH = 64

#: Most values in a document, so that reading one takes some hundred MiB at worst.
MAX_ITEMS = 2_000_000

#: Integers are those of 64 bits.
MAX_INT = 2**63 - 1

# A string that is not closed runs to the end, so each byte is looked at once, whatever the text.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def dumps(value: Any) -> bytes:
    """Canonical JSON of a value made of dicts, lists, strings, finite numbers, booleans and None.

    Raises:
        ValueError: NaN, an infinity, or text that is not Unicode.
        TypeError: another type.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def loads(data: bytes, what: str) -> Any:
    """Parse JSON.

    Args:
        what: names the document in messages.

    Raises:
        BundleError: not UTF-8, not JSON, nested too deeply, too many values, a key twice, NaN, a
            huge number, half a surrogate pair. No other exception, whatever the data.
    """
    _check_shape(data, what)
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
    except (ValueError, RecursionError) as error:
        raise damaged(f"{what} is not valid JSON: {_reason(error)}") from error
    # Text in UTF-8 holds no surrogates; only an escape can bring one.
    if rb"\ud" in data.lower() and _has_surrogate(document):
        raise damaged(f"{what} is not valid JSON: half a surrogate pair in a string")
    return document


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return str(error)[:200]


def _check_shape(data: bytes, what: str) -> None:
    """Bound depth and number of values before anything is built of them."""
    if data.count(b'"') > 4 * MAX_ITEMS:
        raise damaged(f"{what} has more than {4 * MAX_ITEMS} quotation marks")
    bare = _STRINGS.sub(b"", data)
    items = 1 + sum(bare.count(mark) for mark in (b",", b"[", b"{"))
    if items > MAX_ITEMS:
        raise damaged(f"{what} has {items} values; at most {MAX_ITEMS} are read")
    depth = 0
    for byte in bare.translate(None, _NOT_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > MAX_DEPTH:
            raise damaged(f"{what} is nested more than {MAX_DEPTH} levels deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice in an object")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _bounded_int(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INT:
        raise ValueError("an integer beyond 64 bits")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number beyond double precision")
    return value


def _has_surrogate(document: Any) -> bool:
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, str):
            if _SURROGATES.search(value):
                return True
        elif isinstance(value, list):
            left += cast("list[Any]", value)
        elif isinstance(value, dict):
            pairs = cast("dict[str, Any]", value)
            left += pairs.keys()
            left += pairs.values()
    return False
