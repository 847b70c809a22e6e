import numpy as np
import pytest
import torch
import trimesh

from partitioner.hostops import resolve_host_op
from partitioner.ops import marching_cubes


def distance_to_sphere(resolution, radius=0.6):
    """Negative inside; voxel i lies at i / resolution * 2 - 1."""
    axis = np.arange(resolution, dtype=np.float32) / resolution * 2 - 1
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.sqrt(x * x + y * y + z * z) - np.float32(radius)


def test_a_sphere_is_where_it_should_be_and_wound_outwards():
    made = marching_cubes(distance_to_sphere(64))
    assert {"vertices": "float32", "faces": "int32"} == {k: a.dtype.name for k, a in made.items()}
    mesh = trimesh.Trimesh(**made, process=False)
    assert mesh.is_watertight
    assert 4 / 3 * np.pi * 0.6**3 == pytest.approx(mesh.volume, rel=0.01)
    np.testing.assert_allclose(np.linalg.norm(made["vertices"], axis=1), 0.6, atol=0.001)


def test_axes_are_kept_apart():
    field = distance_to_sphere(32)[:24, :20]
    sides = np.array([24, 20, 32])
    centre = trimesh.Trimesh(**marching_cubes(field), process=False).bounds.mean(axis=0)
    # The sphere's middle is voxel 16 on every axis, unless the field ends before its far side.
    assert centre[2] == pytest.approx(0, abs=1e-3)
    largest = (marching_cubes(field)["vertices"].max(axis=0) + 1) / 2 * sides
    assert [23, 19] == pytest.approx(largest[:2], abs=1e-3)


def test_level_moves_the_surface():
    made = marching_cubes(distance_to_sphere(64), level=0.2)
    np.testing.assert_allclose(np.linalg.norm(made["vertices"], axis=1), 0.8, atol=0.001)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_field_without_a_surface_gives_an_empty_mesh(value):
    made = marching_cubes(np.full((4, 4, 4), value, np.float32))
    assert {"vertices": (0, 3), "faces": (0, 3)} == {k: a.shape for k, a in made.items()}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_field_that_is_not_finite_is_refused(bad):
    field = distance_to_sphere(8)
    field[1, 2, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        marching_cubes(field)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8, 8), (8, 8, 1), (0, 8, 8)])
def test_a_field_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="sides of at least 2"):
        marching_cubes(np.zeros(shape, np.float32))


def test_a_read_only_or_strided_field_is_taken_and_left_alone():
    field = distance_to_sphere(16)
    expected = marching_cubes(field)
    strided = np.asfortranarray(field)
    strided.flags.writeable = False
    actual = marching_cubes(strided)
    np.testing.assert_array_equal(expected["vertices"], actual["vertices"])
    np.testing.assert_array_equal(field, strided)


def test_tensors_give_tensors():
    made = marching_cubes(torch.from_numpy(distance_to_sphere(16)))
    assert [torch.float32, torch.int32] == [made[name].dtype for name in ("vertices", "faces")]


def test_a_bundle_finds_it_by_name():
    assert marching_cubes is resolve_host_op("partitioner.ops.marching_cubes")
