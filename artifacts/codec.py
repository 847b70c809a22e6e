"""Frozen dataclasses to canonical JSON and back, strictly.

The reader trusts nothing: it is driven by the dataclasses' annotations, so a value of another type,
an unknown or a missing key, is an error with the JSON path at which it was met.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from partitioner.errors import BundleError

__all__ = ["MAX_DEPTH", "decode", "dumps", "encode", "loads"]

#: Deepest nesting of a JSON document; a manifest needs about 12.
MAX_DEPTH = 64

_MAX_INT = 2**63 - 1

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


# --- JSON ---------------------------------------------------------------------------------------


def dumps(value: Any) -> bytes:
    """Compact JSON without NaN, in UTF-8. Equal values in equal order give equal bytes; the order
    of keys is kept, since the order of outputs means something to people."""
    text = json.dumps(
        value, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def loads(data: bytes, what: str) -> Any:
    """Parse JSON that may come from an enemy.

    Raises:
        BundleError: not UTF-8, not JSON, nested too deeply, a key twice, NaN, a huge number.
    """
    _check_depth(data, what)
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
    except (ValueError, RecursionError) as error:
        raise _damaged(f"{what} is not valid JSON: {error}") from error


def _check_depth(data: bytes, what: str) -> None:
    depth = 0
    for match in _BRACKETS.finditer(_STRINGS.sub(b"", data)):
        depth += 1 if match[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise _damaged(f"{what} is nested more than {MAX_DEPTH} levels deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice in an object")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _bounded_int(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > _MAX_INT:
        raise ValueError("an integer beyond 64 bits")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number beyond double precision")
    return value


def _damaged(what: str, where: str | None = None) -> BundleError:
    return BundleError(
        what,
        where=where,
        advice="the bundle is damaged or was not made by partitioner; fetch or build it anew",
    )


# --- dataclasses --------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """Dataclasses, tuples and dicts as JSON values; a dataclass that is one of several in a union
    carries its class as ``kind``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **pairs} if _tagged(type(value)) else pairs
    if isinstance(value, list | tuple):
        return [encode(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in cast("dict[Any, Any]", value).items()}
    return value


#: Classes that stand in unions; filled by ``tagged``.
_TAGGED: set[type] = set()


def tagged(*kinds: type) -> None:
    """Declare dataclasses that stand beside others in a union."""
    _TAGGED.update(kinds)


def _tagged(kind: type) -> bool:
    return kind in _TAGGED


def decode(kind: Any, value: Any, *, path: str = "$", lenient: bool = False) -> Any:
    """Build ``kind`` (a dataclass, or any annotation of one's fields) of a JSON value.

    Args:
        lenient: unknown keys are passed over (a newer minor schema), not refused.

    Raises:
        BundleError: with the JSON path.
    """
    return _decoder(kind)(value, path, lenient)


Decoder = Callable[[Any, str, bool], Any]


@functools.cache
def _decoder(kind: Any) -> Decoder:
    if dataclasses.is_dataclass(kind):
        return _dataclass_decoder(cast(type, kind))
    origin = get_origin(kind)
    if origin is Literal:
        return _literal_decoder(get_args(kind))
    if origin in (Union, types.UnionType):
        return _union_decoder(get_args(kind))
    if origin is tuple:
        return _tuple_decoder(get_args(kind))
    if origin is dict:
        return _dict_decoder(get_args(kind)[1])
    if kind is Any:
        return lambda value, path, lenient: value
    return _scalar_decoder(kind)


def _refused(path: str, value: Any, wanted: str) -> BundleError:
    return _damaged(f"expected {wanted}, found {_shown(value)}", f"{path} of the manifest")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _scalar_decoder(kind: type) -> Decoder:
    def run(value: Any, path: str, lenient: bool) -> Any:
        # bool is an int to Python, and an int is a fine float.
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise _refused(path, value, "null" if kind is type(None) else kind.__name__)
        return value

    return run


def _literal_decoder(choices: tuple[Any, ...]) -> Decoder:
    def run(value: Any, path: str, lenient: bool) -> Any:
        if not any(type(value) is type(c) and value == c for c in choices):
            raise _refused(path, value, f"one of {list(choices)}")
        return value

    return run


def _union_decoder(kinds: tuple[Any, ...]) -> Decoder:
    classes = {k.__name__: k for k in kinds if dataclasses.is_dataclass(k)}
    scalars = [k for k in kinds if not dataclasses.is_dataclass(k)]

    def run(value: Any, path: str, lenient: bool) -> Any:
        if classes and isinstance(value, dict):
            pairs = cast("dict[str, Any]", value)
            chosen = next(iter(classes)) if len(classes) == 1 else pairs.get("kind")
            if not isinstance(chosen, str) or chosen not in classes:
                raise _refused(f"{path}.kind", chosen, f"one of {list(classes)}")
            return _decoder(classes[chosen])(pairs, path, lenient)
        for kind in scalars:
            if type(value) is kind:
                return value
        if float in scalars and type(value) is int:
            return float(value)
        names = [*classes, *("null" if k is type(None) else k.__name__ for k in scalars)]
        raise _refused(path, value, " or ".join(names))

    return run


def _tuple_decoder(parts: tuple[Any, ...]) -> Decoder:
    def run(value: Any, path: str, lenient: bool) -> Any:
        if not isinstance(value, list):
            raise _refused(path, value, "a list")
        items = cast("list[Any]", value)
        kinds = [parts[0]] * len(items) if parts[-1] is Ellipsis else list(parts)
        if len(kinds) != len(items):
            raise _refused(path, value, f"a list of {len(kinds)}")
        return tuple(
            _decoder(kind)(item, f"{path}[{i}]", lenient)
            for i, (kind, item) in enumerate(zip(kinds, items, strict=True))
        )

    return run


def _dict_decoder(inner: Any) -> Decoder:
    def run(value: Any, path: str, lenient: bool) -> Any:
        if not isinstance(value, dict):
            raise _refused(path, value, "an object")
        decoder = _decoder(inner)
        pairs = cast("dict[str, Any]", value)
        return {key: decoder(item, f"{path}.{key}", lenient) for key, item in pairs.items()}

    return run


def _dataclass_decoder(kind: type) -> Decoder:
    hints = _hints(kind)
    fields = dataclasses.fields(kind)
    names = {f.name for f in fields} | ({"kind"} if _tagged(kind) else set())

    def run(value: Any, path: str, lenient: bool) -> Any:
        if not isinstance(value, dict):
            raise _refused(path, value, "an object")
        pairs = cast("dict[str, Any]", value)
        unknown = sorted(set(pairs) - names)
        missing = sorted(names - set(pairs))
        if missing or (unknown and not lenient):
            fault = f"keys missing: {missing}" if missing else f"unknown keys: {unknown[:5]}"
            raise _damaged(fault, f"{path} of the manifest")
        if _tagged(kind) and pairs["kind"] != kind.__name__:
            raise _refused(f"{path}.kind", pairs["kind"], kind.__name__)
        values = {
            f.name: _decoder(hints[f.name])(pairs[f.name], f"{path}.{f.name}", lenient)
            for f in fields
        }
        return kind(**values)

    return run


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: typing.cast("Any", hint) for name, hint in hints.items()}
