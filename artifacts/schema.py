"""The manifest's JSON Schema, and the tables of the page that describes it.

Both are made of the dataclasses and of ``fields.py``. To write them anew after a change:

    python -m partitioner.artifacts.schema docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from partitioner.artifacts.fields import FIELDS
from partitioner.artifacts.kinds import (
    AnyJson,
    Choice,
    Codec,
    ListOf,
    MapOf,
    OneOf,
    PairsOf,
    Record,
    Scalar,
    TupleOf,
    codec_of,
)
from partitioner.artifacts.manifest import Manifest

__all__ = ["json_schema", "replace_tables", "schema_text", "tables"]

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}

_BEGIN = "<!-- tables: made by partitioner.artifacts.schema -->\n"
_END = "<!-- end of tables -->\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a manifest of this version, without newer keys."""
    definitions = {
        record.kind.__name__: _record_schema(record, tagged) for record, tagged in _records()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest of a partitioner bundle",
        "$ref": "#/$defs/Manifest",
        "$defs": definitions,
    }


def schema_text() -> str:
    """The schema as it stands in ``docs/bundle-manifest.schema.json``."""
    return json.dumps(json_schema(), indent=2) + "\n"


def tables() -> str:
    """A table of keys for each object of the manifest, in Markdown."""
    return "\n".join(_table(record, tagged) for record, tagged in _records())


def replace_tables(page: str) -> str:
    """The page with its tables made anew."""
    head, _, rest = page.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    return f"{head}{_BEGIN}\n{tables()}\n{_END}{tail}"


def _records() -> list[tuple[Record, bool]]:
    """All objects in the order in which one meets them, and whether they are tagged."""
    found: dict[type, tuple[Record, bool]] = {}

    def visit(codec: Codec, tagged: bool = False) -> None:
        if isinstance(codec, Record) and codec.kind not in found:
            found[codec.kind] = codec, tagged
            for name in FIELDS[codec.kind.__name__]:
                visit(codec.fields[name])
        elif isinstance(codec, OneOf):
            for record in codec.records.values():
                visit(record, codec.tagged)
        elif isinstance(codec, ListOf | MapOf):
            visit(codec.item)
        elif isinstance(codec, PairsOf):
            visit(codec.pairs)
        elif isinstance(codec, TupleOf):
            for item in codec.items:
                visit(item)

    visit(codec_of(Manifest))
    return list(found.values())


# --- schema -------------------------------------------------------------------------------------


def _record_schema(record: Record, tagged: bool) -> dict[str, Any]:
    name = record.kind.__name__
    properties: dict[str, Any] = {"kind": {"const": name}} if tagged else {}
    for key, (meaning, constraints) in FIELDS[name].items():
        properties[key] = {
            "description": meaning,
            **_constrained(_schema(record.fields[key]), constraints),
        }
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _schema(codec: Codec) -> dict[str, Any]:
    match codec:
        case Scalar():
            return {"type": _SCALARS[codec.kind]}
        case Choice():
            return {"enum": list(codec.choices)}
        case Record():
            return {"$ref": f"#/$defs/{codec.kind.__name__}"}
        case OneOf():
            parts: list[Any] = [*codec.records.values(), *codec.scalars]
            return {"anyOf": [_schema(part) for part in parts]}
        case ListOf():
            return {"type": "array", "items": _schema(codec.item)}
        case PairsOf():
            return _schema(codec.pairs)
        case TupleOf():
            items = [_schema(item) for item in codec.items]
            return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        case MapOf():
            return {"type": "object", "additionalProperties": _schema(codec.item)}
        case AnyJson():
            return {}
        case _:
            raise TypeError(f"no schema for {codec}")


def _constrained(schema: dict[str, Any], constraints: dict[str, Any]) -> dict[str, Any]:
    """Constraints on numbers and strings hold for whatever number or string is inside."""
    for key in ("items", "prefixItems"):
        if isinstance(inner := schema.get(key), dict):
            return {**schema, key: {**inner, **constraints}}
        if isinstance(inner, list):
            parts = cast("list[dict[str, Any]]", inner)
            return {**schema, key: [{**part, **constraints} for part in parts]}
    return {**schema, **constraints}


# --- tables -------------------------------------------------------------------------------------


def _table(record: Record, tagged: bool) -> str:
    name = record.kind.__name__
    lines = [f"### {name}", "", "| key | value | meaning |", "|---|---|---|"]
    if tagged:
        lines.append(f'| `kind` | `"{name}"` | tells it from what else may stand in its place |')
    for key, (meaning, _) in FIELDS[name].items():
        lines.append(f"| `{key}` | {_words(record.fields[key])} | {meaning} |")
    return "\n".join([*lines, ""])


def _words(codec: Codec) -> str:
    match codec:
        case Scalar():
            return _SCALARS[codec.kind]
        case Choice():
            return ", ".join(f"`{choice}`" for choice in codec.choices)
        case Record():
            return f"[{codec.kind.__name__}](#{codec.kind.__name__.lower()})"
        case OneOf():
            parts: list[Any] = [*codec.records.values(), *codec.scalars]
            return " or ".join(_words(part) for part in parts)
        case ListOf():
            return f"list of {_words(codec.item)}"
        case PairsOf():
            return _words(codec.pairs)
        case TupleOf():
            return f"[{', '.join(_words(item) for item in codec.items)}]"
        case MapOf():
            return f"object of {_words(codec.item)}"
        case _:
            return "any JSON"


def _main(directory: Path) -> None:
    (directory / "bundle-manifest.schema.json").write_text(schema_text())
    page = directory / "bundle-format.md"
    page.write_text(replace_tables(page.read_text()))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
