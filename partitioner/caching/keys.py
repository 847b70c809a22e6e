"""Keys: labelled parts, each hashed by itself, then together, so that a miss can be explained.

After JAX's ``_src/cache_key.py``, whose key is an ordered list of labelled hashes. Here each part
also keeps a few facts in plain text, so that what differs can be said and not only that it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from partitioner.artifacts.digest import digest_bytes
from partitioner.artifacts.jsontext import dumps

__all__ = ["Difference", "Key", "Part", "compare_keys", "part"]

#: Goes into every key; changes when the meaning of parts or of entries does.
_FORM = "partitioner.compile-cache.1"

#: Facts of one part that are kept, and letters of each.
_FACTS, _LETTERS = 64, 200

#: Digits by which a digest is shown.
_SHOWN = len("sha256:") + 12

#: Facts of one part that a line of text shows.
_CHANGES = 4


@dataclass(frozen=True)
class Part:
    """One thing that a result depends on.

    Args:
        digest: of its value, all of it.
        facts: what people are shown of the value; may leave things out.
    """

    label: str
    digest: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Key:
    """What a result depends on."""

    parts: tuple[Part, ...]

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the form of keys and of all labels and digests, in order."""
        return digest_bytes(dumps([_FORM, *([p.label, p.digest] for p in self.parts)]))


@dataclass(frozen=True)
class Difference:
    """What makes a key another: a part, and what is different in it.

    Args:
        changes: fact, its old and its new value; of the part as a whole, without a name, where
            its facts are the same.
    """

    label: str
    changes: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        shown = [f"{name} {old} -> {new}".strip() for name, old, new in self.changes[:_CHANGES]]
        left = len(self.changes) - len(shown)
        return f"{self.label} ({', '.join(shown)}{f' and {left} more' if left else ''})"


def part(label: str, value: Any, facts: Mapping[str, object] | None = None) -> Part:
    """A part of a key.

    Args:
        value: JSON values, all that counts.
        facts: for people; None where the value is itself a short mapping.
    """
    shown = list((value or {}).items() if facts is None else facts.items())[:_FACTS]
    return Part(label, digest_bytes(dumps(value)), {k: str(v)[:_LETTERS] for k, v in shown})


def compare_keys(new: Key, old: Key) -> tuple[Difference, ...]:
    """The parts that differ."""
    before = {part.label: part for part in old.parts}
    after = {part.label: part for part in new.parts}
    found: list[Difference] = []
    for label in dict.fromkeys([*after, *before]):
        a, b = before.get(label, _NONE), after.get(label, _NONE)
        if a.digest != b.digest:
            found.append(Difference(label, _changes(a, b)))
    return tuple(found)


_NONE = Part("", "none", {})


def _changes(old: Part, new: Part) -> tuple[tuple[str, str, str], ...]:
    names = dict.fromkeys([*old.facts, *new.facts])
    rows = [(name, old.facts.get(name, "none"), new.facts.get(name, "none")) for name in names]
    differing = [(name, _short(a), _short(b)) for name, a, b in rows if a != b]
    return tuple(differing) or (("", _short(old.digest), _short(new.digest)),)


def _short(text: str) -> str:
    return text[:_SHOWN] if text.startswith("sha256:") else text
