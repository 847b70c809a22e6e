"""Which segment of one plan is which of another, and which nodes are elsewhere in the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from partitioner.report.sides import Key, Piece

__all__ = ["Move", "match_segments", "moves", "same_nodes"]

#: Share of nodes that two segments must have in common to be the same one; what a common name adds
#: to it where several come into question.
_SHARE, _NAME = 0.3, 0.25

#: Backend and segment.
Place = tuple[str, str]


@dataclass(frozen=True)
class Move:
    """Nodes of one kind that are elsewhere; ``start`` or ``end`` is None where there are none."""

    key: Key
    count: int
    start: Place | None
    end: Place | None


def match_segments(before: Sequence[Piece], after: Sequence[Piece]) -> dict[str, str]:
    """Name before -> name after, each at most once: those that have most in common first."""
    pairs = sorted(
        (-share - _NAME * (a.name == b.name), i, j)
        for i, a in enumerate(before)
        for j, b in enumerate(after)
        if (share := _alike(a, b)) >= _SHARE
    )
    found: dict[int, int] = {}
    for _, i, j in pairs:
        if i not in found and j not in found.values():
            found[i] = j
    return {before[i].name: after[j].name for i, j in sorted(found.items())}


def same_nodes(a: Piece, b: Piece) -> bool:
    """Whether segments hold the same, on whatever lines."""
    return a.nodes == b.nodes and _loose(a.holds) == _loose(b.holds)


def _alike(a: Piece, b: Piece) -> float:
    """Share of nodes in common; of segments whose nodes are not known, by stages."""
    if not a.holds or not b.holds:
        stages = set(a.stages) | set(b.stages)
        both = set(a.stages) & set(b.stages)
        if a.stages or b.stages:
            return len(both) / len(stages)
        return float(a.backend == b.backend and a.name == b.name)
    # Lines move when a file is edited, and folders when it is copied.
    one, other = Counter(_loose(a.holds)), Counter(_loose(b.holds))
    return (one & other).total() / (one | other).total()


def _loose(holds: Mapping[Key, int]) -> Counter[Key]:
    counts: Counter[Key] = Counter()
    for (op, source, stage), count in holds.items():
        counts[op, _without_line(source), stage] += count
    return counts


def _without_line(source: str) -> str:
    """``file.py in forward`` of ``folder/file.py:12 in forward``."""
    path, colon, rest = source.rpartition(":")
    return f"{path.rpartition('/')[2]} {rest.partition(' ')[2]}" if colon else source


def moves(
    before: Sequence[Piece], after: Sequence[Piece], matched: Mapping[str, str]
) -> tuple[Move, ...]:
    """Nodes that are in another segment or on another backend, and those of one side only."""
    old, new = _places(before, matched), _places(after, {})
    found: list[Move] = []
    rest_old: dict[Key, Counter[Place]] = {}
    rest_new: dict[Key, Counter[Place]] = {}
    for key in dict.fromkeys([*old, *new]):
        left, right = old.get(key, Counter()), new.get(key, Counter())
        gone, come = left - right, right - left
        found += _paired(key, gone, come)
        if gone or come:
            rest_old[key], rest_new[key] = gone, come
    # What is left may be the same nodes on lines that moved.
    found += _on_other_lines(rest_old, rest_new)
    return tuple(found)


def _places(pieces: Sequence[Piece], renamed: Mapping[str, str]) -> dict[Key, Counter[Place]]:
    found: dict[Key, Counter[Place]] = {}
    for piece in pieces:
        place = (piece.backend, renamed.get(piece.name, piece.name))
        for key, count in piece.holds.items():
            found.setdefault(key, Counter())[place] += count
    return found


def _paired(key: Key, gone: Counter[Place], come: Counter[Place]) -> Iterator[Move]:
    """Pairs what left with what came, taking both out of the counts."""
    for start in list(gone):
        for end in list(come):
            count = min(gone[start], come[end])
            if count:
                yield Move(key, count, start, end)
                gone[start] -= count
                come[end] -= count


def _on_other_lines(
    gone: Mapping[Key, Counter[Place]], come: Mapping[Key, Counter[Place]]
) -> Iterator[Move]:
    groups: dict[Key, list[Key]] = {}
    for key in gone:
        groups.setdefault((key[0], _without_line(key[1]), key[2]), []).append(key)
    for keys in groups.values():
        for key in keys:
            for other in keys:
                # In the same place: nothing moved but the line.
                for place in list(gone[key]):
                    same = min(gone[key][place], come[other][place])
                    gone[key][place] -= same
                    come[other][place] -= same
        for key in keys:
            for other in keys:
                yield from _paired(other, gone[key], come[other])
        for key in keys:
            yield from (Move(key, n, place, None) for place, n in gone[key].items() if n > 0)
            yield from (Move(key, n, None, place) for place, n in come[key].items() if n > 0)
