"""What a dataclass's annotations say about JSON: one class a kind of annotation.

:func:`codec_of` turns an annotation into an object that reads and writes values of that kind;
``schema.py`` describes them. The reader trusts nothing: a value of another type, an unknown key or
a missing one is a mismatch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, Union, cast, get_args, get_origin, get_type_hints

from partitioner.artifacts.faults import shown
from partitioner.artifacts.jsontext import MAX_INT

__all__ = [
    "Age",
    "AnyJson",
    "Choice",
    "Codec",
    "ListOf",
    "MapOf",
    "MismatchError",
    "OneOf",
    "PairsOf",
    "Record",
    "Scalar",
    "TupleOf",
    "codec_of",
    "ordered",
]

#: Of a document's schema, next to this one's. Keys of a newer one that are unknown are passed over;
#: keys that an older one lacks get their defaults.
Age = Literal["older", "same", "newer"]


class MismatchError(Exception):
    """A value is not of its kind. ``steps`` lead to it, the innermost first."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.steps: list[str | int] = []

    @property
    def path(self) -> str:
        """A JSON path, safe to print: ``$.plan.steps[3].trips``."""
        return "$" + "".join(map(_step, reversed(self.steps)))


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    plain = step.isascii() and step.isidentifier() and len(step) < 60
    return f".{step}" if plain else f"[{shown(step)}]"


def _wrong(value: Any, wanted: str) -> MismatchError:
    return MismatchError(f"expected {wanted}, found {shown(value)}")


def _at(step: str | int, action: Callable[..., Any], *args: Any) -> Any:
    try:
        return action(*args)
    except MismatchError as fault:
        fault.steps.append(step)
        raise


# --- codecs -------------------------------------------------------------------------------------


class Codec(Protocol):
    """Reads and writes values of one kind.

    Raises:
        MismatchError: the value is of another kind.
    """

    def read(self, value: Any, age: Age) -> Any: ...
    def write(self, value: Any) -> Any: ...


class Scalar:
    """``str``, ``int``, ``float``, ``bool`` or ``None``. A bool is no int; an int is a float."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.name = "null" if kind is type(None) else kind.__name__

    def fits(self, value: Any) -> bool:
        if self.kind is float and type(value) is int:
            return abs(value) <= MAX_INT
        return type(value) is self.kind

    def read(self, value: Any, age: Age) -> Any:
        if not self.fits(value):
            raise _wrong(value, self.name)
        return float(value) if self.kind is float else value

    def write(self, value: Any) -> Any:
        value = self.read(value, "same")
        _refuse_unwritable(value)
        return value


class Choice:
    """A ``Literal``."""

    def __init__(self, choices: tuple[Any, ...]) -> None:
        self.choices = choices

    def read(self, value: Any, age: Age) -> Any:
        if not any(type(value) is type(c) and value == c for c in self.choices):
            raise _wrong(value, f"one of {list(self.choices)}")
        return value

    def write(self, value: Any) -> Any:
        return self.read(value, "same")


class OneOf:
    """A union of scalars and dataclasses. Where there are several dataclasses, an object carries
    its class's name under ``kind``."""

    def __init__(self, kinds: tuple[Any, ...]) -> None:
        records = [cast("type", kind) for kind in kinds if dataclasses.is_dataclass(kind)]
        self.records = {kind.__name__: Record(kind) for kind in records}
        self.scalars = [Scalar(kind) for kind in kinds if kind not in records]
        self.tagged = len(records) > 1

    def read(self, value: Any, age: Age) -> Any:
        for scalar in self.scalars:
            if scalar.fits(value):
                return scalar.read(value, age)
        if not self.records or not isinstance(value, dict):
            raise self._wrong(value)
        if not self.tagged:
            return next(iter(self.records.values())).read(value, age)
        pairs = dict(cast("dict[str, Any]", value))
        name = pairs.pop("kind", None)
        record = self.records.get(name) if isinstance(name, str) else None
        if record is None:
            fault = _wrong(name, f"one of {list(self.records)}")
            fault.steps.append("kind")
            raise fault
        return record.read(pairs, age)

    def write(self, value: Any) -> Any:
        record = self.records.get(type(value).__name__)
        if record is not None and record.kind is type(value):
            pairs = record.write(value)
            return {"kind": record.kind.__name__, **pairs} if self.tagged else pairs
        for scalar in self.scalars:
            if scalar.fits(value):
                return scalar.write(value)
        raise self._wrong(value)

    def _wrong(self, value: Any) -> MismatchError:
        return _wrong(value, " or ".join([*self.records, *(s.name for s in self.scalars)]))


class ListOf:
    """``tuple[X, ...]``: a list of any length."""

    def __init__(self, item: Any) -> None:
        self.item = codec_of(item)

    def read(self, value: Any, age: Age) -> Any:
        items = _list(value)
        return tuple(_at(i, self.item.read, item, age) for i, item in enumerate(items))

    def write(self, value: Any) -> Any:
        return [_at(i, self.item.write, item) for i, item in enumerate(_tuple(value))]


class TupleOf:
    """``tuple[X, Y]``: a list of so many items."""

    def __init__(self, items: tuple[Any, ...]) -> None:
        self.items = [codec_of(item) for item in items]

    def read(self, value: Any, age: Age) -> Any:
        items = self._counted(_list(value))
        return tuple(
            _at(i, codec.read, item, age)
            for i, (codec, item) in enumerate(zip(self.items, items, strict=True))
        )

    def write(self, value: Any) -> Any:
        items = self._counted(_tuple(value))
        return [
            _at(i, codec.write, item)
            for i, (codec, item) in enumerate(zip(self.items, items, strict=True))
        ]

    def _counted(self, items: Any) -> Any:
        if len(items) != len(self.items):
            raise MismatchError(f"expected a list of {len(self.items)}, found one of {len(items)}")
        return items


class MapOf:
    """``dict[str, X]``: an object; the order of its keys means nothing."""

    def __init__(self, item: Any) -> None:
        self.item = codec_of(item)

    def read(self, value: Any, age: Age) -> Any:
        return {k: _at(k, self.item.read, item, age) for k, item in _object(value).items()}

    def write(self, value: Any) -> Any:
        return {k: _at(k, self.item.write, item) for k, item in _object(value).items()}


class PairsOf:
    """``dict[str, X]`` whose order means something: a list of [key, value]."""

    def __init__(self, item: Any) -> None:
        self.pairs = ListOf(tuple[str, item])

    def read(self, value: Any, age: Age) -> Any:
        pairs = self.pairs.read(value, age)
        result = dict(pairs)
        if len(result) != len(pairs):
            raise MismatchError("a key occurs twice")
        return result

    def write(self, value: Any) -> Any:
        return self.pairs.write(tuple(_object(value).items()))


class AnyJson:
    """Any JSON value. A tuple is written as a list."""

    def read(self, value: Any, age: Age) -> Any:
        return value

    def write(self, value: Any) -> Any:
        if isinstance(value, dict):
            pairs = _object(cast(object, value))
            return {key: _at(key, self.write, item) for key, item in pairs.items()}
        if isinstance(value, list | tuple):
            items = cast("list[Any]", value)
            return [_at(i, self.write, item) for i, item in enumerate(items)]
        if value is not None and type(value) not in (bool, int, float, str):
            raise MismatchError(f"a {type(value).__name__} is not a JSON value")
        _refuse_unwritable(value)
        return value


class Record:
    """A dataclass: an object with exactly its fields as keys."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        fields = dataclasses.fields(kind)
        self.names = {f.name for f in fields}
        unset = dataclasses.MISSING
        self.defaults = {
            f.name for f in fields if f.default is not unset or f.default_factory is not unset
        }

    @functools.cached_property
    def fields(self) -> Mapping[str, Codec]:
        # When first used, as classes may refer to one another in a circle.
        hints = get_type_hints(self.kind)
        return {
            f.name: PairsOf(get_args(hints[f.name])[1])
            if (self.kind, f.name) in _ORDERED
            else codec_of(hints[f.name])
            for f in dataclasses.fields(self.kind)
        }

    def read(self, value: Any, age: Age) -> Any:
        pairs = _object(value)
        missing = sorted(self.names - set(pairs))
        if age == "older":
            missing = [name for name in missing if name not in self.defaults]
        if missing:
            raise MismatchError(f"keys missing: {', '.join(missing)}")
        unknown = sorted(set(pairs) - self.names)
        if unknown and age != "newer":
            raise MismatchError(f"unknown keys: {', '.join(shown(key) for key in unknown[:5])}")
        return self.kind(
            **{k: _at(k, c.read, pairs[k], age) for k, c in self.fields.items() if k in pairs}
        )

    def write(self, value: Any) -> Any:
        if type(value) is not self.kind:
            raise MismatchError(f"expected {self.kind.__name__}, found {type(value).__name__}")
        return {k: _at(k, codec.write, getattr(value, k)) for k, codec in self.fields.items()}


# --- from annotations ---------------------------------------------------------------------------

_ORDERED: set[tuple[type, str]] = set()


def ordered(kind: type, *names: str) -> None:
    """Declare that the order of these dict fields of a dataclass means something."""
    _ORDERED.update((kind, name) for name in names)


@functools.cache
def codec_of(kind: Any) -> Codec:
    """The codec of an annotation."""
    if dataclasses.is_dataclass(kind):
        return Record(cast(type, kind))
    if kind is Any:
        return AnyJson()
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return Choice(args)
    if origin in (Union, types.UnionType):
        return OneOf(args)
    if origin is tuple:
        return ListOf(args[0]) if args[-1] is Ellipsis else TupleOf(args)
    if origin is dict:
        return MapOf(args[1])
    if kind in (str, int, float, bool, type(None)):
        return Scalar(kind)
    raise TypeError(f"no codec for {kind}")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(value, "a list")
    return cast("list[Any]", value)


def _tuple(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise MismatchError(f"expected a tuple, found a {type(value).__name__}")
    return cast("tuple[Any, ...]", value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, "an object")
    pairs = cast("dict[Any, Any]", value)
    for key in pairs:
        if type(key) is not str:
            raise MismatchError(f"the key {shown(key)} is not a string")
        _refuse_unwritable(key)
    return pairs


def _refuse_unwritable(value: Any) -> None:
    """What :func:`jsontext.loads` would not read back."""
    if isinstance(value, float) and not math.isfinite(value):
        raise MismatchError(f"{value} is not a number that JSON can hold")
    if type(value) is int and abs(value) > MAX_INT:
        raise MismatchError("an integer beyond 64 bits")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MismatchError(f"{shown(value)} is not Unicode text") from None
