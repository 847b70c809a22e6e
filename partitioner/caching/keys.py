"""Keys: labelled parts, each hashed by itself, then together, so that a miss can be explained.

After JAX's ``_src/cache_key.py``, whose key is an ordered list of labelled hashes. Here each part
also keeps a few facts in plain text, so that what differs can be said and not only that it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """What makes a key another: a part, and in it what was there before and is there now."""

    label: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.label}: {self.old} -> {self.new}"


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
        a, b = before.get(label), after.get(label)
        if a is None or b is None or a.digest != b.digest:
            found.append(Difference(label, *_short(a, b)))
    return tuple(found)


def _short(old: Part | None, new: Part | None) -> tuple[str, str]:
    """The facts that differ; the digests where the facts are the same."""
    if old is None or new is None:
        return ("none" if old is None else _digest(old), "none" if new is None else _digest(new))
    names = [n for n in dict.fromkeys([*old.facts, *new.facts]) if _differs(n, old, new)]
    if not names:
        return _digest(old), _digest(new)
    return _text(names, old.facts), _text(names, new.facts)


def _differs(name: str, old: Part, new: Part) -> bool:
    return old.facts.get(name) != new.facts.get(name)


def _text(names: Sequence[str], facts: Mapping[str, str]) -> str:
    shown = [f"{name}={_fact(facts.get(name, 'none'))}" for name in names[:4]]
    return ", ".join(shown) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _fact(text: str) -> str:
    return text[:_SHOWN] if text.startswith("sha256:") else text


def _digest(part: Part) -> str:
    return part.digest[:_SHOWN]
