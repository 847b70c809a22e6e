"""Which numbers are drawn, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.errors import BundleError, InputError
from partitioner.plan import Draw, DrawGroup, Plan
from partitioner.runtime import draws
from partitioner.runtime.draws import Drawing, draw_noise
from partitioner.runtime.random import TorchGenerator
from partitioner.specs import InputSpec, Noise, TensorSpec
from tests.bundles import spec, specs

Array = np.ndarray[Any, Any]


class Counter:
    """A generator whose numbers count up: 0, 1, 2 ... plus a hundred times its seed."""

    def __init__(self, seed: int) -> None:
        self.next = 100 * seed

    def _numbers(self, shape: tuple[int, ...], dtype: str) -> Array:
        count = int(np.prod(shape))
        numbers = np.arange(self.next, self.next + count).reshape(shape)
        self.next += count
        return numbers.astype(dtype)

    def normal(self, shape: tuple[int, ...], dtype: str, mean: float, std: float) -> Array:
        return self._numbers(shape, dtype) * np.dtype(dtype).type(std)

    def uniform(self, shape: tuple[int, ...], dtype: str, low: float, high: float) -> Array:
        return self._numbers(shape, dtype)

    def integers(self, low: int, high: int, shape: tuple[int, ...], dtype: str) -> Array:
        assert isinstance(low, int)
        assert isinstance(high, int)
        return (self._numbers(shape, "int64") % (high - low) + low).astype(dtype)


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "TorchGenerator", Counter)


def source(
    values: dict[str, str],
    groups: Sequence[DrawGroup] = (),
    inputs: Sequence[InputSpec] = (),
) -> Drawing:
    used = {given.name: f"%{given.name}" for given in inputs if given.used}
    types = {**dict(specs(values)), **{used[i.name]: i.tensor for i in inputs if i.used}}
    plan = Plan(types, used, (), tuple(groups), (), {})
    return SimpleNamespace(inputs=tuple(inputs), plan=plan)


def normal(value: str, **options: Any) -> Draw:
    return Draw(value, "normal", (0.0, 1.0), **options)


NOISE = InputSpec("noise", spec("float32[2]"), Noise())


def check(expected: dict[str, Any], actual: dict[str, Array]) -> None:
    assert list(expected) == list(actual)
    for name, numbers in expected.items():
        np.testing.assert_array_equal(numbers, actual[name])


def test_inputs_first_then_draws_in_order() -> None:
    made = source(
        {"a": "float32[2]", "b": "float64[1]"},
        [DrawGroup(1, (normal("b"), normal("a")))],
        [
            InputSpec("image", spec("float32[9]")),
            NOISE,
            InputSpec("more", spec("float32[1]"), Noise("uniform", scale=2.0)),
        ],
    )

    check({"%noise": [0, 1], "%more": [4], "b": [3], "a": [4, 5]}, draw_noise(made, 0, {}))


def test_groups_interleave_as_loops_do() -> None:
    made = source(
        {"a": "float32[3, 2]", "b": "float16[3]", "c": "float32[2]"},
        [
            DrawGroup(3, (normal("a", row=True), normal("b", row=True))),
            DrawGroup(1, (normal("c"),)),
        ],
    )

    check({"a": [[0, 1], [3, 4], [6, 7]], "b": [2, 5, 8], "c": [9, 10]}, draw_noise(made, 0, {}))
    assert "float16" == draw_noise(made, 0, {})["b"].dtype.name


@given(
    shape=st.lists(st.integers(0, 6), max_size=3),
    repeat=st.integers(1, 4),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
)
@settings(max_examples=60, deadline=None)
def test_rows_that_are_drawn_at_once_are_those_drawn_in_turn(
    shape: list[int], repeat: int, dtype: str
) -> None:
    sizes = (repeat + 1, *shape, 4)
    made = source(
        {"a": f"{dtype}{list(sizes)}", "b": "float32[3]"},
        [DrawGroup(repeat, (normal("a", row=True),)), DrawGroup(1, (normal("b"),))],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "TorchGenerator", TorchGenerator)
        drawn = draw_noise(made, 3, {})
    generator = TorchGenerator(3)
    rows = [generator.normal(sizes[1:], dtype) for _ in range(repeat)]
    last = np.zeros_like(rows[0])
    check({"a": np.stack([*rows, last]), "b": generator.normal((3,))}, drawn)


def test_every_stream_starts_from_the_seed() -> None:
    made = source(
        {"a": "float32[2]", "b": "float32[2]", "c": "float32[1]"},
        [DrawGroup(1, (normal("a"), normal("b", stream=1), normal("c")))],
        [NOISE],
    )

    check(
        {"%noise": [500, 501], "a": [502, 503], "b": [500, 501], "c": [504]},
        draw_noise(made, 5, {}),
    )


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_integers(dtype: str) -> None:
    made = source({"a": f"{dtype}[4]"}, [DrawGroup(1, (Draw("a", "integers", (0.0, 2.0)),))])

    check({"a": [0, 1, 0, 1]}, draw_noise(made, 0, {}))
    assert dtype == draw_noise(made, 0, {})["a"].dtype.name


def test_what_is_given_is_not_drawn() -> None:
    made = source(
        {"a": "float32[2]", "b": "float32[2]"},
        [DrawGroup(1, (normal("a"), normal("b")))],
        [NOISE],
    )
    given = np.full(2, 7, np.float32)

    check({"%noise": [7, 7], "a": [0, 1], "b": [2, 3]}, draw_noise(made, 0, {"%noise": given}))
    check({"%noise": [0, 1], "a": [7, 7], "b": [2, 3]}, draw_noise(made, 0, {"a": given}))
    check({"%noise": [0, 1], "a": [2, 3], "b": [4, 5]}, draw_noise(made, 0, {"unknown": given}))


def test_an_input_that_nothing_reads_is_drawn_all_the_same_unless_given() -> None:
    unread = InputSpec("noise", spec("float32[2]"), Noise(), used=False)
    made = source({"a": "float32[2]"}, [DrawGroup(1, (normal("a"),))], [unread])

    check({"a": [2, 3]}, draw_noise(made, 0, {}))
    check({"a": [0, 1]}, draw_noise(made, 0, {}, unread=["noise"]))


def test_symbolic_sizes() -> None:
    made = source({}, inputs=[InputSpec("noise", spec("float32[n, 2]"), Noise())])

    check({"%noise": [[0, 1]]}, draw_noise(made, 0, {}, dims={"n": 1}))
    with pytest.raises(InputError, match="the size 'n' is not known"):
        draw_noise(made, 0, {})


def test_a_plan_that_draws_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "TorchGenerator", TorchGenerator)
    nonsense = [("int64", "normal", (0.0, 1.0)), ("int64", "integers", (1.0, 1.0))]
    for dtype, distribution, arguments in nonsense:
        draw = Draw("a", cast(Any, distribution), arguments)
        made = source({"a": f"{dtype}[20]"}, [DrawGroup(1, (draw,))])
        with pytest.raises(BundleError, match="cannot be drawn"):
            draw_noise(made, 0, {})


@pytest.mark.parametrize("given", [np.zeros(3, np.float32), np.zeros(2), np.zeros((1, 2))])
def test_given_numbers_that_do_not_fit(given: Array) -> None:
    made = source({"a": "float32[2]"}, [DrawGroup(1, (normal("a"),))])
    with pytest.raises(InputError, match=r"the noise 'a' is .*, but must be float32\[2\]"):
        draw_noise(made, 0, {"a": given})


def test_rows_that_no_repetition_fills_are_zero() -> None:
    """A variant with fewer steps shares the type of a longer one; memory must not show through."""
    plan = Plan(
        values={"noise": TensorSpec("float32", (5, 2))},
        inputs={},
        constants=(),
        draws=(DrawGroup(3, (Draw("noise", "normal", (0.0, 1.0), row=True),)),),
        steps=(),
        outputs={},
    )
    source = cast(Drawing, SimpleNamespace(inputs=(), plan=plan))
    (drawn,) = draw_noise(source, 1, {}).values()
    assert [[100, 101], [102, 103], [104, 105], [0, 0], [0, 0]] == drawn.tolist()


# --- rows ---------------------------------------------------------------------------------------


def test_a_row_draws_what_it_would_alone() -> None:
    noise = InputSpec("noise", spec("float32[3, 2]"), Noise())
    made = source(
        {"a": "float32[3, 2]", "b": "float32[2, 3, 1]"},
        [DrawGroup(1, (normal("a"),)), DrawGroup(2, (normal("b", row=True),))],
        [noise],
    )
    drawn = draws.draw_rows(made, [1, 5, 5], {})
    check(
        {
            "%noise": [[100, 101], [500, 501], [500, 501]],
            "a": [[102, 103], [502, 503], [502, 503]],
            "b": [[[104], [504], [504]], [[105], [505], [505]]],
        },
        drawn,
    )


def test_given_rows_are_not_drawn() -> None:
    made = source(
        {"a": "float32[2, 1]", "b": "float32[2, 1]"}, [DrawGroup(1, (normal("a"), normal("b")))]
    )
    given = {"a": np.array([[7], [8]], np.float32), "other": np.zeros(3)}
    check({"a": [[7], [8]], "b": [[100], [200]]}, draws.draw_rows(made, [1, 2], given))


def test_given_rows_have_the_shape_of_the_bucket() -> None:
    made = source({"a": "float32[2, 1]"}, [DrawGroup(1, (normal("a"),))])
    with pytest.raises(InputError, match="the noise 'a'"):
        draws.draw_rows(made, [1, 2], {"a": np.zeros((1, 1), np.float32)})
