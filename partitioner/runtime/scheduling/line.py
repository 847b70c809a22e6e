"""The line of waiting requests: who is next, and with whom.

A pure state machine without threads and clocks: who calls says what time it is. The rules:

1. Clients take turns; of one client, who came first is served first.
2. The line is bounded: who finds it full is refused.
3. A request with a *key* may share a call with others of the same key, up to ``rows`` rows. The
   first in order leads a group, and those behind it with its key that fit in join.
4. A group leaves when it is full, when its oldest member has waited for ``max_wait``, or when the
   line closes. While it waits for company, groups behind it that are ready may leave before it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, TypeVar

__all__ = ["Full", "Line", "Rules", "Waiting"]

T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """How requests wait.

    Args:
        limit: requests that wait at most.
        rows: rows that a group has at most.
        max_wait: seconds that a group waits for company.
    """

    limit: int
    rows: int = 1
    max_wait: float = 0.0


@dataclass(eq=False, slots=True, weakref_slot=True)
class Waiting(Generic[T]):
    """One that waits.

    Args:
        item: for whoever takes it.
        arrived: when it came.
        deadline: when it must be done; None for any time.
        key: with whom it may share a call; None for nobody.
        rows: of the call that it takes up, at most those of the rules where there is a key.
        client: who takes turns with other clients.
    """

    item: T
    arrived: float
    deadline: float | None = None
    key: Hashable | None = None
    rows: int = 1
    client: Hashable = None


class Full(Exception):  # noqa: N818 - the state of the line, which the caller makes an error of
    """As many as may wait do already."""


class Line(Generic[T]):
    """See the module.

    Args:
        rules: how requests wait.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        #: The client whose turn it is first; of each, those that wait in the order of coming.
        self._clients: dict[Hashable, dict[Waiting[T], None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, waiting: Waiting[T]) -> None:
        """Let one more wait.

        Raises:
            Full: as many as may wait do already.
        """
        if self._count >= self.rules.limit:
            raise Full
        self._clients.setdefault(waiting.client, {})[waiting] = None
        self._count += 1

    def remove(self, waiting: Waiting[T]) -> bool:
        """Take one out that is not to be served; False if it does not wait any more."""
        own = self._clients.get(waiting.client, {})
        if waiting not in own:
            return False
        self._drop(waiting)
        return True

    def expire(self, now: float) -> list[Waiting[T]]:
        """Take out those whose deadline is over."""
        over = [w for w in self._all() if w.deadline is not None and w.deadline <= now]
        for waiting in over:
            self._drop(waiting)
        return over

    def take(self, now: float, *, closing: bool = False) -> list[Waiting[T]]:
        """Take out the next group that is ready; empty if there is none.

        Args:
            closing: nobody comes any more, so there is no waiting for company.
        """
        ordered = self.in_order()
        passed: set[Hashable] = set()
        for head in ordered:
            if head.key is None:
                return self._leave([head])
            if head.key in passed:
                continue
            group, full = self._group(head.key, ordered)
            oldest = min(waiting.arrived for waiting in group)
            if full or closing or now >= oldest + self.rules.max_wait:
                return self._leave(group)
            passed.add(head.key)
        return []

    def join(self, key: Hashable, rows: int) -> list[Waiting[T]]:
        """Take out who may join a group of this key that is served already.

        Only from the head of the line: nobody joins past one that cannot.

        Args:
            rows: that are free.
        """
        joining: list[Waiting[T]] = []
        for waiting in self.in_order():
            if waiting.key != key or waiting.rows > rows:
                break
            rows -= waiting.rows
            joining.append(waiting)
        return self._leave(joining)

    def next_ready(self) -> float | None:
        """When a group will be ready that is not yet; None if nobody waits for company."""
        arrived = [waiting.arrived for waiting in self._all() if waiting.key is not None]
        return min(arrived) + self.rules.max_wait if arrived else None

    def next_deadline(self) -> float | None:
        """The earliest deadline of those that wait."""
        return min((w.deadline for w in self._all() if w.deadline is not None), default=None)

    def in_order(self) -> list[Waiting[T]]:
        """Those that wait, in the order of their turns."""
        turns = zip_longest(*self._clients.values())
        return [waiting for turn in turns for waiting in turn if waiting is not None]

    def _group(self, key: Hashable, ordered: Sequence[Waiting[T]]) -> tuple[list[Waiting[T]], bool]:
        """Those of a key that go together, and whether nobody else would fit in."""
        alike = [waiting for waiting in ordered if waiting.key == key]
        group: list[Waiting[T]] = []
        rows = 0
        for waiting in alike:
            if rows + waiting.rows <= self.rules.rows:
                group.append(waiting)
                rows += waiting.rows
        return group, rows == self.rules.rows or len(group) < len(alike)

    def _leave(self, group: list[Waiting[T]]) -> list[Waiting[T]]:
        for waiting in group:
            self._drop(waiting)
            # Who was served goes behind the other clients.
            own = self._clients.pop(waiting.client, None)
            if own is not None:
                self._clients[waiting.client] = own
        return group

    def _drop(self, waiting: Waiting[T]) -> None:
        own = self._clients[waiting.client]
        del own[waiting]
        if not own:
            del self._clients[waiting.client]
        self._count -= 1

    def _all(self) -> Iterable[Waiting[T]]:
        return (waiting for own in self._clients.values() for waiting in own)
