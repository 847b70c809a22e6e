"""Requests as rows, and the calls that serve them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitioner.artifacts.manifest import Batch
from partitioner.errors import InputError
from partitioner.runtime.rows import Part, gather, join, parts
from partitioner.specs import Image, InputSpec
from tests.bundles import spec

X = InputSpec("x", spec("float32[4, 2]"))
LABEL = InputSpec("label", spec("int64[4]"))
PICTURE = InputSpec("picture", spec("float32[4, 3, 2, 2]"), Image(size=(2, 2)))

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True)


@given(count=st.integers(1, 40), sizes=SIZES)
def test_every_row_is_served_once_and_in_order(count: int, sizes: list[int]) -> None:
    calls = list(parts(count, sizes))
    assert list(range(count)) == [row for part in calls for row in part.places[: part.count]]
    assert all(part.size in sizes and len(part.places) == part.size for part in calls)


@given(count=st.integers(1, 40), sizes=SIZES)
def test_no_smaller_bucket_would_do_and_only_the_last_is_filled_up(
    count: int, sizes: list[int]
) -> None:
    *full, last = parts(count, sizes)
    assert [max(sizes)] * len(full) == [part.count for part in full]
    assert not [size for size in sizes if last.count <= size < last.size]


def test_the_last_request_fills_a_bucket_up() -> None:
    assert [4, 5, 5, 5] == Part(4, 2, 4).places


# --- what is given ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(3, 2),
        [[0, 1], [2, 3], [4, 5]],
        [np.array([0, 1]), np.array([2, 3]), np.array([4, 5])],
        [np.array([[0, 1]]), np.array([[2, 3]]), np.array([[4, 5]])],
    ],
)
def test_rows_with_and_without_their_batch_dimension(value: Any) -> None:
    rows = gather([X], {"x": value}, None)
    assert rows.count == 3
    assert np.float32 == rows.arrays["x"].dtype
    np.testing.assert_array_equal(np.arange(6).reshape(3, 2), rows.arrays["x"])


def test_what_has_one_row_serves_all() -> None:
    rows = gather([X, LABEL], {"x": [[1, 2]], "label": [3, 4, 5]}, None)
    np.testing.assert_array_equal([[1, 2]] * 3, rows.arrays["x"])
    np.testing.assert_array_equal([3, 4, 5], rows.arrays["label"])


def test_seeds_make_rows_too() -> None:
    rows = gather([X], {"x": np.ones((1, 2))}, [7, 8])
    assert (2, True) == (rows.count, rows.several)


def test_one_row_is_several_only_as_a_list() -> None:
    assert not gather([X], {"x": np.ones((1, 2))}, 7).several
    assert gather([X], {"x": [[1, 2]]}, 7).several


def test_pictures_are_a_row_each() -> None:
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((5, 4, 3), 255, np.uint8)
    rows = gather([PICTURE], {"picture": [black, white]}, None)
    assert (2, 3, 2, 2) == rows.arrays["picture"].shape
    np.testing.assert_array_equal([-1, 1], rows.arrays["picture"][:, 0, 0, 0])


def test_an_array_of_pictures_has_them_in_its_first_dimension() -> None:
    pictures = np.zeros((3, 2, 2, 3), np.uint8)
    assert gather([PICTURE], {"picture": pictures}, None).count == 3
    finished = np.zeros((2, 3, 2, 2), np.float32)
    assert gather([PICTURE], {"picture": finished}, None).count == 2


@pytest.mark.parametrize(
    ("given_", "seed", "message"),
    [
        ({"x": np.ones((3, 2)), "label": [1, 2]}, None, "input 'x' 3, input 'label' 2"),
        ({"x": np.ones((3, 2))}, [1, 2], "input 'x' 3, seed 2"),
        ({"x": []}, None, "no row is given: input 'x' is empty"),
        ({"x": np.ones((3, 2))}, [], "no row is given: seed is empty"),
        ({"x": [[1, 2], [3]]}, None, "are no arrays of one shape"),
        ({"x": np.ones(2)}, None, r"float32\[batch, 2\]"),
    ],
)
def test_rows_that_do_not_fit_are_refused(given_: Any, seed: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gather([X, LABEL], given_, seed)


# --- what comes out -----------------------------------------------------------------------------


@given(count=st.integers(1, 20), sizes=SIZES)
def test_results_are_the_rows_that_were_given(count: int, sizes: list[int]) -> None:
    results: list[Any] = []
    for part in parts(count, sizes):
        batch = Batch(part.size, ("x",), ("y",), ("mesh",))
        rows = np.array(part.places)
        meshes = {f"mesh.{i}": np.full(row % 3, row) for i, row in enumerate(rows)}
        results.append((part, batch, {"y": rows, **meshes, "k": np.arange(3)}))
    joined = join(results, several=True)
    assert ["y", "mesh", "k"] == list(joined)
    np.testing.assert_array_equal(np.arange(count), joined["y"])
    assert [[row] * (row % 3) for row in range(count)] == [list(m) for m in joined["mesh"]]
    np.testing.assert_array_equal(np.arange(3), joined["k"])


@pytest.mark.parametrize("name", ["mesh", "mesh.0"])
def test_the_only_row_is_no_list_unless_one_was_given(name: str) -> None:
    batch = Batch(1, ("x",), (), ("mesh",))
    result: Any = [(Part(0, 1, 1), batch, {name: np.arange(4)})]
    assert [0, 1, 2, 3] == list(join(result, several=False)["mesh"])
    assert [[0, 1, 2, 3]] == [list(m) for m in join(result, several=True)["mesh"]]
