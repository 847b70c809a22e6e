import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bernini.metrics import chamfer_distance, field_iou, mesh_iou, occupied
from bernini.shapes import chair, sphere
from partitioner.ops import marching_cubes


def mesh(field):
    made = marching_cubes(field)
    return made["vertices"], made["faces"]


@pytest.mark.parametrize("field", [sphere(48), chair(48)], ids=["sphere", "chair"])
def test_a_mesh_encloses_what_its_field_says(field):
    # A corner of a voxel may lie on the surface.
    assert ((field < 0) != occupied(*mesh(field), 48)).sum() < 0.005 * (field < 0).sum()


def test_a_mesh_may_be_looked_at_on_another_grid():
    inside = occupied(*mesh(sphere(64, 0.5)), 40)
    assert 4 / 3 * np.pi * 0.5**3 / 8 == pytest.approx(inside.mean(), rel=0.02)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.3, 0.8), st.floats(0.3, 0.8))
def test_iou_of_balls_is_the_ratio_of_their_volumes(first, second):
    expected = (min(first, second) / max(first, second)) ** 3
    one, other = sphere(48, first), sphere(48, second)
    assert expected == pytest.approx(field_iou(one, other), abs=0.03)
    assert field_iou(other, one) == field_iou(one, other)
    assert expected == pytest.approx(mesh_iou(mesh(one), mesh(other), 48), abs=0.03)


def test_chamfer_distance_of_concentric_balls_is_the_difference_of_their_radii():
    one, other = mesh(sphere(48, 0.6)), mesh(sphere(48, 0.5))
    assert 0.1 == pytest.approx(chamfer_distance(one, other), rel=0.02)
    assert chamfer_distance(other, one) == pytest.approx(chamfer_distance(one, other), rel=0.02)


def test_nothing_is_like_nothing_and_far_from_all_else():
    empty, ball = mesh(np.ones((8, 8, 8), np.float32)), mesh(sphere(24))
    assert 1.0 == mesh_iou(empty, empty)
    assert 0.0 == mesh_iou(empty, ball)
    assert float("inf") == chamfer_distance(empty, ball)
