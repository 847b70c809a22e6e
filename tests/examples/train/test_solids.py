import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bernini.train import solids
from bernini.train.families import FAMILIES, draw_shape
from bernini.train.fields import field_of

SIDE = 32


def points(count, seed, radius=1.0):
    """Points in a ball, as three columns."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(3, count))
    directions *= radius * rng.random(count) ** (1 / 3) / np.linalg.norm(directions, axis=0)
    return tuple(directions.astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_no_distance_grows_faster_than_the_way(seed):
    _, solid = draw_shape(np.random.default_rng(seed))
    here = points(400, seed)
    there = tuple(a + b for a, b in zip(here, points(400, seed + 1, 0.05), strict=True))
    way = np.sqrt(sum((a - b) ** 2 for a, b in zip(here, there, strict=True)))
    assert (np.abs(solid(here) - solid(there)) <= way * 1.1 + 1e-5).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(6))
def test_shapes_are_there_and_keep_away_from_the_border(family, seed):
    field = field_of(FAMILIES[family](np.random.default_rng(seed)), SIDE)
    inside = np.argwhere(field < 0)
    assert len(inside) > SIDE
    assert 1 < inside.min()
    assert inside.max() < SIDE - 1


@pytest.mark.parametrize("axis", "xyz")
def test_turning_back_undoes_turning(axis):
    solid = solids.moved(solids.box((0.3, 0.2, 0.1)), (0.1, 0.2, 0.3))
    there_and_back = solids.turned(solids.turned(solid, 40, axis), -40, axis)
    some = points(200, 0)
    np.testing.assert_allclose(there_and_back(some), solid(some), atol=1e-6)


@pytest.mark.parametrize(("axis", "point"), [("x", (1, 0, 0)), ("y", (0, 1, 0)), ("z", (0, 0, 1))])
def test_axes(axis, point):
    column = tuple(np.array([c], np.float32) for c in point)
    assert 0.5 == pytest.approx(solids.cylinder(0.2, 0.5, axis)(column)[0])
    assert np.hypot(1, 0.5) - 0.1 == pytest.approx(solids.torus(0.5, 0.1, axis)(column)[0])
    # A quarter turn takes the next axis to the one after it.
    plate = solids.turned(solids.box((0.1, 0.2, 0.3)), 90, axis)
    half = np.array([0.1, 0.2, 0.3])
    index = "xyz".index(axis)
    assert 1 - half[index] == pytest.approx(plate(column)[0])
    following = tuple(np.roll(column, 1, axis=0))
    assert 1 - half[(index + 2) % 3] == pytest.approx(plate(following)[0])


def test_union_and_difference():
    ball, cut = solids.ball(0.5), solids.moved(solids.ball(0.3), (0.5, 0, 0))
    some = points(500, 3)
    inside, taken = ball(some) < 0, cut(some) < 0
    np.testing.assert_array_equal(inside | taken, solids.union(ball, cut)(some) < 0)
    np.testing.assert_array_equal(inside & ~taken, solids.difference(ball, cut)(some) < 0)
