"""The line loses nobody, is in order and bounded, and makes groups that fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from partitioner.runtime.scheduling.line import Full, Line, Rules, Waiting


def line_of(*waiting: Waiting[str], rows: int = 4, max_wait: float = 0.0) -> Line[str]:
    line = Line[str](Rules(10, rows, max_wait))
    for one in waiting:
        line.add(one)
    return line


def names(group: list[Waiting[str]]) -> str:
    return "".join(waiting.item for waiting in group)


def test_requests_without_a_key_are_served_one_by_one() -> None:
    line = line_of(Waiting("a", 0), Waiting("b", 1))
    assert ["a", "b", ""] == [names(line.take(2)) for _ in range(3)]


def test_those_with_the_key_of_the_first_go_with_it() -> None:
    line = line_of(
        Waiting("a", 0, key=1), Waiting("b", 1, key=2), Waiting("c", 2, key=1), Waiting("d", 3)
    )
    assert ["ac", "b", "d"] == [names(line.take(3)) for _ in range(3)]


def test_a_group_has_no_more_rows_than_it_may() -> None:
    line = line_of(*(Waiting(n, 0, key=1, rows=r) for n, r in (("a", 3), ("b", 2), ("c", 1))))
    assert ["ac", "b"] == [names(line.take(0)) for _ in range(2)]


def test_a_group_waits_for_company_until_it_is_full_or_has_waited() -> None:
    line = line_of(Waiting("a", 0, key=1, rows=2), max_wait=5)
    assert ([], 5) == (line.take(4), line.next_ready())
    line.add(Waiting("b", 4, key=1, rows=2))
    assert "ab" == names(line.take(4))
    line.add(Waiting("c", 6, key=1))
    assert ["", "c"] == [names(line.take(now)) for now in (10.9, 11)]


def test_a_group_that_waits_for_company_is_passed_by_one_that_is_ready() -> None:
    line = line_of(Waiting("a", 0, key=1), Waiting("b", 0), max_wait=5)
    assert ["b", ""] == [names(line.take(1)) for _ in range(2)]
    assert "a" == names(line.take(1, closing=True))


def test_joining_ends_at_the_first_that_cannot() -> None:
    line = line_of(
        *(Waiting("a", 0, key=1), Waiting("b", 0, key=1), Waiting("c", 0, key=2)),
        Waiting("d", 0, key=1),
    )
    assert ["ab", ""] == [names(line.join(1, 3)) for _ in range(2)]
    assert "c" == names(line.take(0))


def test_deadlines_are_found_whoever_is_next() -> None:
    line = line_of(Waiting("a", 0), Waiting("b", 0, deadline=3), Waiting("c", 0, deadline=2))
    assert (2, "c") == (line.next_deadline(), names(line.expire(2.5)))
    assert (3, 2) == (line.next_deadline(), len(line))


@dataclass
class Model:
    """What must be there: those that wait, in the order in which they came."""

    waiting: list[Waiting[int]] = field(default_factory=list[Waiting[int]])
    done: set[int] = field(default_factory=set[int])

    def leave(self, group: list[Waiting[int]]) -> None:
        for one in group:
            assert one.item not in self.done
            self.done.add(one.item)
            self.waiting.remove(one)


class Lines(RuleBasedStateMachine):
    """Anything may happen to a line, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line[int](Rules(limit=5, rows=4, max_wait=2.0))
        self.model = Model()
        self.now = 0.0
        self.count = 0

    @rule(
        key=st.sampled_from([None, 1, 2]),
        rows=st.integers(1, 4),
        client=st.sampled_from("ab"),
        allowed=st.none() | st.floats(0, 5),
    )
    def add(self, key: int | None, rows: int, client: str, allowed: float | None) -> None:
        deadline = None if allowed is None else self.now + allowed
        one = Waiting(self.count, self.now, deadline, key, 1 if key is None else rows, client)
        self.count += 1
        if len(self.model.waiting) == 5:
            with pytest.raises(Full):
                self.line.add(one)
            return
        self.line.add(one)
        self.model.waiting.append(one)

    @rule(seconds=st.floats(0, 3))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(closing=st.booleans())
    def take(self, closing: bool) -> None:
        group = self.line.take(self.now, closing=closing)
        if closing:
            assert bool(self.model.waiting) == bool(group)
        if not group:
            # Nobody who is ready is left standing.
            assert all(one.key is not None for one in self.model.waiting)
            assert all(self.now < one.arrived + 2.0 for one in self.model.waiting)
            return
        assert len(group) == 1 or {group[0].key} == {one.key for one in group} != {None}
        assert sum(one.rows for one in group) <= 4
        # Of one client and kind, nobody goes before one who came earlier and fits in as well.
        for one in self.model.waiting:
            for taken in group:
                alike = (one.client, one.key, one.rows) == (taken.client, taken.key, taken.rows)
                assert one in group or not alike or one.item > taken.item
        self.model.leave(group)

    @rule(key=st.sampled_from([1, 2]), rows=st.integers(0, 4))
    def join(self, key: int, rows: int) -> None:
        group = self.line.join(key, rows)
        assert all(one.key == key for one in group)
        assert sum(one.rows for one in group) <= rows
        self.model.leave(group)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.model.waiting))
        assert (True, False) == (self.line.remove(one), self.line.remove(one))
        self.model.leave([one])

    @rule()
    def expire(self) -> None:
        over = self.line.expire(self.now)
        late = [w for w in self.model.waiting if w.deadline is not None and w.deadline <= self.now]
        assert set(late) == set(over)
        self.model.leave(over)

    @invariant()
    def is_what_it_must_be(self) -> None:
        assert set(self.model.waiting) == set(self.line.in_order())
        assert len(self.model.waiting) == len(self.line) <= 5


TestLines = Lines.TestCase
TestLines.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
