"""Who is measured when, and how often."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from partitioner.benching.measuring import Budget, at_once, in_turn, watched
from partitioner.benching.results import parts_of
from partitioner.errors import UsageError
from partitioner.runtime import load
from tests.runtime.samples import count_positive, make_sampler

ONCE = Budget(seconds=0, least=4, warm_up=1)


def test_calls_take_turns_forwards_and_backwards() -> None:
    order: list[str] = []
    seconds = in_turn([lambda: order.append("a"), lambda: order.append("b")], ONCE)

    assert list("ababbaabba") == order
    assert [4, 4] == list(map(len, seconds))


def test_clients_make_requests_at_a_time_and_no_more_than_asked_for() -> None:
    together, most, running, lock = threading.Barrier(3), 0, 0, threading.Lock()

    def call() -> None:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        together.wait(30)
        with lock:
            running -= 1

    seconds, whole = at_once(call, 3, Budget(seconds=0, least=9, warm_up=0))

    assert 9 == len(seconds)
    assert 3 == most
    assert max(seconds) <= whole


def test_a_failing_request_ends_the_measurement() -> None:
    def call() -> None:
        raise ValueError("bad request")

    with pytest.raises(ValueError, match="bad request"):
        at_once(call, 2, Budget(seconds=0, least=9, warm_up=0))


@pytest.mark.parametrize("wrong", [{"least": 0}, {"most": 1}, {"seconds": -1}, {"warm_up": -1}])
def test_budgets_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="cannot measure"):
        Budget(**wrong)


def test_the_time_of_requests_is_that_of_their_parts(tmp_path: Path) -> None:
    path = make_sampler(tmp_path / "sampler.bundle")
    image = np.ones((1, 8), np.float32)
    with load(path, host_ops=[count_positive]) as pipe:
        spent = watched(lambda: pipe(image=image, seed=1), 3)
    parts = {part.name: part for part in parts_of(spent, 3)}

    assert ["encode", "mix", "denoise", "rows", "inputs", "runtime"] == list(parts)
    assert [1, 5, 5, 1, 1, 1] == [part.calls for part in parts.values()]
    assert pytest.approx(1.0) == sum(part.share for part in parts.values())
    assert all(part.seconds > 0 for part in parts.values())
