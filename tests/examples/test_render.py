import numpy as np
import pytest

from bernini.raster import NOTHING, rasterise
from bernini.render import render, save_picture
from bernini.shapes import chair, ripples, sphere
from partitioner.ops import marching_cubes

TRIANGLE = np.array([[0, 1, 2]], np.int32)


def mesh(field):
    made = marching_cubes(field)
    return made["vertices"], made["faces"]


def test_a_triangle_covers_the_pixels_whose_centres_it_contains():
    points = np.array([[0, 0, 0.5], [4, 0, 0.5], [0, 4, 0.5]], np.float32)
    seen = rasterise(points, TRIANGLE, 5, 5)
    y, x = np.mgrid[:5, :5] + 0.5
    np.testing.assert_array_equal(np.where(x + y <= 4, 0, NOTHING), seen)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_triangle_is_seen(order):
    flat = np.array([[0, 0], [8, 0], [0, 8]], np.float32)
    points = np.concatenate([np.column_stack([flat, [depth] * 3]) for depth in (0.9, 0.3)])
    faces = np.array([[0, 1, 2], [3, 4, 5]], np.int32)[order]
    assert order.index(1) == rasterise(points, faces, 8, 8)[1, 1]


def test_triangles_outside_or_without_area_are_not_seen():
    points = np.array([[-9, -9, 0.5], [-5, -9, 0.5], [-9, -5, 0.5], [1, 1, 0.5]], np.float32)
    faces = np.array([[0, 1, 2], [3, 3, 3]], np.int32)
    assert (rasterise(points, faces, 4, 4) == NOTHING).all()


def test_many_small_and_few_large_triangles_agree():
    vertices, faces = mesh(sphere(32))
    points = np.column_stack([vertices[:, :2] * 60 + 64, vertices[:, 2] + 2])
    covered = rasterise(points, faces, 128, 128) != NOTHING
    area = np.pi * (0.6 * 60) ** 2
    assert area == pytest.approx(covered.sum(), rel=0.02)


def test_a_picture_shows_the_shape_and_its_shadow():
    picture = render(*mesh(chair(64)), side=96)
    assert (96, 96, 3) == picture.shape
    assert np.uint8 == picture.dtype
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    wood = (red - blue) > 40
    assert 0.05 < wood.mean() < 0.6
    # The corners show the ground alone; somewhere else it is darker and still grey.
    ground = picture[0, 0].astype(int)
    shadow = (red < ground[0] - 25) & (abs(red - blue) < 16)
    assert shadow.mean() > 0.01


def test_surfaces_look_at_the_camera_with_their_outside():
    inside_out = mesh(sphere(32))
    right = render(*inside_out, side=64)[32, 32].astype(int)
    wrong = render(inside_out[0], inside_out[1][:, ::-1], side=64)[32, 32].astype(int)
    assert right[0] - right[2] > 40
    assert wrong[0] - wrong[2] < 40


def test_an_empty_mesh_gives_an_empty_picture():
    picture = render(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), side=16)
    assert 1 == len(np.unique(picture.reshape(-1, 3), axis=0))


def test_the_same_mesh_gives_the_same_picture(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    picture = render(*mesh(chair(32)), side=32)
    np.testing.assert_array_equal(picture, render(*mesh(chair(32)), side=32))
    save_picture(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(picture, np.asarray(pillow.open(tmp_path / "a.png")))


@pytest.mark.slow
def test_a_million_triangles():
    vertices, faces = mesh(np.maximum(ripples(256, 4), sphere(256, 0.9)))
    assert len(faces) > 1_000_000
    assert render(vertices, faces).std() > 10
