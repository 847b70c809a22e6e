import numpy as np
import pytest

from bernini.train.baseline import NearestPicture
from bernini.train.dataset import PICTURE_SIDE, Recipe, make_dataset, make_shape

RECIPE = Recipe(count=4, views=2, resolution=24)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), RECIPE)


def test_what_is_on_disk_is_what_is_made(dataset):
    assert (4, 24, 24, 24) == dataset.fields.shape
    assert (4, 2, PICTURE_SIDE, PICTURE_SIDE, 3) == dataset.pictures.shape
    name, field, pictures = make_shape(RECIPE, 2)
    assert name == dataset.names[2]
    np.testing.assert_array_equal(field, dataset.fields[2])
    np.testing.assert_array_equal(pictures, dataset.pictures[2])


def test_it_is_made_once_and_again_for_another_recipe(tmp_path):
    make_dataset(tmp_path, Recipe(count=1, resolution=24))
    before = (tmp_path / "fields.npy").stat().st_mtime_ns
    make_dataset(tmp_path, Recipe(count=1, resolution=24))
    assert before == (tmp_path / "fields.npy").stat().st_mtime_ns
    assert (1, 20, 20, 20) == make_dataset(tmp_path, Recipe(count=1, resolution=20)).fields.shape


def test_splits_share_nothing():
    fields = [make_shape(Recipe(views=1, resolution=24, split=s), 0)[1] for s in ("train", "check")]
    assert not np.array_equal(*fields)


def test_the_nearest_picture_of_a_known_one_is_itself(dataset):
    nearest = NearestPicture(dataset)
    for index in range(4):
        found = nearest.field(dataset.pictures[index, 1])
        np.testing.assert_array_equal(dataset.fields[index], found)
