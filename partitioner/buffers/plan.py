"""The buffer plan's data types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from partitioner.specs import TensorSpec

__all__ = ["BufferPlan", "Kind", "Storage"]

#: Who owns a storage: the ``arena`` of the run, the caller it is handed to (``output``), or the
#: host op that allocates its results for itself (``loose``).
Kind = Literal["arena", "output", "loose"]


@dataclass(frozen=True, slots=True)
class Storage:
    """Memory for one array.

    Args:
        spec: the array; all dimensions are known.
        nbytes: what it takes.
        first, last: steps from which to which it is needed, both inclusive, on the time line of
            :mod:`partitioner.buffers.timeline`.
        kind: who owns it.
        offset: in the arena, in bytes; 0 for other kinds.
    """

    spec: TensorSpec
    nbytes: int
    first: int
    last: int
    kind: Kind
    offset: int = 0


@dataclass(frozen=True)
class BufferPlan:
    """Where each value of known size stands that a step writes.

    Args:
        storages: all memory of a run but inputs, constants and draws.
        places: value id -> the places that its instances take in turn. In a loop of T trips,
            that of trip k takes place ``(T - 1 - k) % len(places)``: the last trip's takes the
            first place. A place is the index of a storage, or the id of a value of an outer loop
            in whose present place it stands. Loose values are not listed.
        rows: value id -> id of the stacked value in whose row k it is written at trip k.
        arena: bytes of the arena.
        unsized: ids of written values whose size only the data decide.
    """

    storages: tuple[Storage, ...]
    places: dict[str, tuple[int | str, ...]]
    rows: dict[str, str]
    arena: int
    unsized: tuple[str, ...]
