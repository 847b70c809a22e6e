"""Read a file of targets: its form, its keys and the range of each figure. No inheritance."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from partitioner.errors import UsageError
from partitioner.targets.schema import FILE, Each, Flag, Keys, Kind, Names, Number, PriceOf, Text

__all__ = ["Figure", "Place", "Table", "read_file", "read_tables"]

#: Names of targets; manifests take them as labels.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Figure:
    """A number, and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Place:
    """Where in a file something stands."""

    file: str
    keys: tuple[str, ...] = ()

    def __truediv__(self, key: str) -> Place:
        return Place(self.file, (*self.keys, key))

    def __str__(self) -> str:
        if not self.keys:
            return self.file
        *table, key = (k if re.fullmatch(r"[\w-]+", k) else f'"{k}"' for k in self.keys)
        return ", ".join(
            [self.file, *(["table " + ".".join(table)] if table else []), f"key {key}"]
        )


@dataclass(frozen=True)
class Table:
    """What one table of a file says.

    Attributes:
        values: key -> text, flag, tuple of texts, :class:`Figure`, or a mapping of these.
        place: of the table.
    """

    name: str
    values: Mapping[str, Any]
    place: Place


def read_file(path: Path) -> dict[str, Table]:
    """The tables of a file, by name.

    Raises:
        UsageError: there is no such file, it is no TOML (with line and column), a key is unknown, a
            value is of another kind, or a figure is out of its range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"the target file cannot be read: {reason}", where=str(path)) from error
    return read_tables(text, str(path))


def read_tables(text: str, file: str) -> dict[str, Table]:
    """The tables of a file's text; see :func:`read_file`.

    Args:
        file: its name, for errors and as the source of figures that name none.
    """
    place = Place(file)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the target file is not TOML: {error}", where=file) from error
    if not document.get("targets"):
        raise _wrong(place / "targets", "a file of targets has a table 'targets.NAME' at least")
    source = document.get("source", file)
    values = _Reader(source, document.get("prices", {})).read(FILE, document, place)
    found: dict[str, Table] = {}
    for name, own in values["targets"].items():
        at = place / "targets" / name
        if not _NAME.fullmatch(name):
            raise _wrong(
                at, f"{name!r} is no name: small letters, digits, '.', '_', '-', 64 at most"
            )
        found[name] = Table(name, own, at)
    return found


@dataclass(frozen=True)
class _Reader:
    """Reads the values of one file.

    Attributes:
        source: of figures that name none.
        prices: what prices that are a number share.
    """

    source: Any
    prices: Any

    def read(self, kind: Kind, value: Any, place: Place) -> Any:
        """The value in the form of :class:`Table`."""
        match kind:
            case Text():
                return _text(kind, value, place)
            case Flag():
                return _flag(value, place)
            case Names():
                return _names(kind, value, place)
            case Number():
                return self._figure(kind, value, place)
            case Keys():
                return self._keys(kind.kinds, value, place)
            case Each():
                return self._each(kind, value, place)
            case PriceOf():
                return self._price(kind, value, place)

    def _figure(self, kind: Number, value: Any, place: Place) -> Figure:
        if not isinstance(value, dict):
            return Figure(_number(kind, value, place), self.source)
        parts = cast("dict[str, Any]", value)
        _refuse_unknown(parts, ("value", "source"), place)
        if "value" not in parts:
            raise _wrong(place, "a figure's table has a 'value'")
        source = parts.get("source", self.source)
        return Figure(
            _number(kind, parts["value"], place), _text(Text(""), source, place / "source")
        )

    def _keys(self, kinds: Mapping[str, Kind], value: Any, place: Place) -> dict[str, Any]:
        table = _table(value, place)
        _refuse_unknown(table, kinds, place)
        return {key: self.read(kinds[key], own, place / key) for key, own in table.items()}

    def _each(self, kind: Each, value: Any, place: Place) -> dict[str, Any]:
        table = _table(value, place)
        if kind.known:
            _refuse_unknown(table, kind.known, place)
        return {key: self.read(kind.kind, own, place / key) for key, own in table.items()}

    def _price(self, kind: PriceOf, value: Any, place: Place) -> dict[str, Any]:
        own = value if isinstance(value, dict) else {"per_hour": value}
        whole = {"currency": "USD", "terms": "", **_table(self.prices, place), **own}
        for key in ("per_hour", "date", "source"):
            if key not in whole:
                raise _wrong(
                    place,
                    f"the price has no {key!r}",
                    "say it here, or for all prices of the file in its table 'prices'",
                )
        if not whole["terms"]:
            del whole["terms"]
        return self._keys(kind.kinds, whole, place)


# --- single values ------------------------------------------------------------------------------


def _table(value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, f"expected a table, not {_shown(value)}")
    return cast("dict[str, Any]", value)


def _text(kind: Text, value: Any, place: Place) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(place, f"expected a text, not {_shown(value)}")
    if kind.pattern and not re.fullmatch(kind.pattern, value):
        raise _wrong(place, f"expected a text such as {kind.form!r}, not {value!r}")
    return value


def _flag(value: Any, place: Place) -> bool:
    if not isinstance(value, bool):
        raise _wrong(place, f"expected true or false, not {_shown(value)}")
    return value


def _names(kind: Names, value: Any, place: Place) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _wrong(place, f"expected a list of texts, not {_shown(value)}")
    names = tuple(_text(Text(""), item, place) for item in cast("list[Any]", value))
    if kind.known:
        _refuse_unknown(names, kind.known, place)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong(place, f"{twice!r} is there twice")
    return names


def _number(kind: Number, value: Any, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(place, f"expected a number, not {_shown(value)}")
    if kind.whole and not (math.isfinite(value) and value == int(value)):
        raise _wrong(place, f"expected a whole number, not {value!r}")
    if not kind.low <= value <= kind.high:
        unit = f" {kind.unit}" if kind.unit else ""
        raise _wrong(
            place,
            f"{value!r} is not from {kind.low:g} to {kind.high:g}{unit}",
            "correct the figure",
        )
    return int(value) if kind.whole else float(value)


def _refuse_unknown(given: Any, known: Any, place: Place) -> None:
    unknown = next((key for key in given if key not in known), None)
    if unknown is None:
        return
    near = difflib.get_close_matches(unknown, list(known), 1)
    advice = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    raise _wrong(place / unknown, f"there is no {unknown!r} here", advice)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _wrong(place: Place, what: str, advice: str | None = None) -> UsageError:
    return UsageError(f"a target file is wrong: {what}", where=str(place), advice=advice)
