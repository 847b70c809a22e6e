"""Random plans: the buffer plan holds, and a run in its places gives what the plan means."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partitioner.buffers import measure, plan_buffers
from partitioner.buffers.check import check_buffers
from partitioner.runtime.arena import Arenas
from partitioner.runtime.runner import Run
from partitioner.runtime.schedule import schedule
from tests.plans import Planner, interpret

SETTINGS = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
RANDOMS = st.integers(0, 2**32).map(random.Random)


@given(RANDOMS)
@SETTINGS
def test_no_value_is_written_over_while_it_is_needed(source: random.Random) -> None:
    plan = Planner(source).plan()
    check_buffers(plan, plan_buffers(plan))


@given(RANDOMS)
@SETTINGS
def test_a_run_in_these_places_gives_what_the_plan_means(source: random.Random) -> None:
    planner = Planner(source)
    plan = planner.plan()
    before = {name: array.copy() for name, array in planner.start.items()}
    expected = interpret(plan, planner.segments, planner.start)
    scheduled = schedule(plan)
    arenas = Arenas([scheduled])
    for _ in range(2):
        arena = arenas.take()
        actual = Run(planner.segments, scheduled, planner.start, arena=arena).run()
        assert list(expected) == list(actual)
        for name, array in expected.items():
            np.testing.assert_array_equal(array, actual[name])
        # The outputs are the caller's own.
        others = [*planner.start.values(), *filter(_is_array, arena.arrays(scheduled))]
        assert not any(np.shares_memory(a, b) for a in actual.values() for b in others)
        pairs = [(a, b) for a in actual.values() for b in actual.values() if a is not b]
        assert not any(np.shares_memory(a, b) for a, b in pairs)
        arenas.give_back(arena)
    for name, array in before.items():
        np.testing.assert_array_equal(array, planner.start[name])


@given(RANDOMS)
@SETTINGS
def test_figures_agree_with_one_another(source: random.Random) -> None:
    plan = Planner(source).plan()
    buffers = plan_buffers(plan)
    use = measure(plan, buffers)
    assert buffers == plan_buffers(plan)
    assert use.alive <= use.arena
    assert use.arena <= sum(-(-s.nbytes // 64) * 64 for s in buffers.storages if s.kind == "arena")
    assert use.peak == use.arena + use.outputs + use.loose
    assert max(use.loops.values(), default=0) <= use.alive + use.outputs + use.loose


def _is_array(array: object) -> bool:
    return array is not None
