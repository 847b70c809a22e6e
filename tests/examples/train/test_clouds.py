import numpy as np
import pytest
from scipy.spatial import cKDTree

from bernini.train.baseline import NearestCloud
from bernini.train.clouds import NOISE, draw_cloud, make_clouds, measured_cloud, shape_cloud
from bernini.train.dataset import PICTURE_SIDE, Recipe, make_dataset, make_shape
from bernini.train.evaluate import mesh_of
from bernini.train.fields import to_distances
from bernini.train.pictures import View, draw_points

RECIPE = Recipe(count=4, views=0, resolution=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    dataset = make_dataset(folder, RECIPE)
    return dataset, make_clouds(folder / "clouds.npy", dataset)


def test_a_cloud_lies_about_the_surface_of_its_mesh(data):
    dataset, clouds = data
    vertices, faces = mesh_of(to_distances(dataset.fields[0]))
    middles = np.concatenate([vertices, vertices[faces].mean(axis=1)])
    cloud = draw_cloud(clouds[0], 1024, np.random.default_rng(0))
    assert ((1024, 3), np.float32) == (cloud.shape, cloud.dtype)
    far = cKDTree(middles).query(cloud)[0]
    voxel = 2 / RECIPE.resolution
    assert far.max() < voxel
    # And all over it: no part is without points.
    assert cKDTree(cloud).query(vertices)[0].max() < 3 * voxel


def test_noise_is_as_large_as_it_is_said_to_be():
    cloud = draw_cloud(np.zeros((4096, 3), np.float16), 4096, np.random.default_rng(0))
    assert cloud.std() == pytest.approx(NOISE, rel=0.03)


def test_points_are_made_once_and_again_with_their_shapes(tmp_path):
    path = tmp_path / "clouds.npy"
    first = make_clouds(path, make_dataset(tmp_path, Recipe(1, views=0, resolution=24)))
    before = path.stat().st_mtime_ns
    make_clouds(path, make_dataset(tmp_path, Recipe(1, views=0, resolution=24)))
    assert before == path.stat().st_mtime_ns
    other = make_clouds(path, make_dataset(tmp_path, Recipe(1, views=0, resolution=24, seed=1)))
    assert not np.array_equal(first, other)


def test_the_cloud_of_a_shape_is_that_of_the_data_set(data):
    _, clouds = data
    np.testing.assert_array_equal(measured_cloud(clouds[2], 2), shape_cloud(RECIPE, 2))


def test_shapes_are_the_same_without_their_pictures():
    name, field, pictures = make_shape(RECIPE, 1)
    other = make_shape(Recipe(count=4, views=1, resolution=32), 1)
    assert ((0, PICTURE_SIDE, PICTURE_SIDE, 3), name) == (pictures.shape, other[0])
    np.testing.assert_array_equal(field, other[1])


def test_the_nearest_cloud_of_a_known_one_is_itself(data):
    nearest = NearestCloud(*data)
    for index in range(4):
        assert index == nearest.index(measured_cloud(data[1][index], index))
        np.testing.assert_array_equal(
            data[0].fields[index], nearest.field(measured_cloud(data[1][index], index))
        )


def test_points_are_drawn_where_they_are():
    picture = draw_points(np.array([[0.0, 0.5, 0.0]]), View(0, 0), 64)
    rows, columns = np.nonzero((picture != picture[0, 0]).any(axis=2))
    assert [1, 1] == [len(rows), len(columns)]
    # In the middle from left to right, above the middle.
    assert columns[0] in (31, 32)
    assert 10 < rows[0] < 30
