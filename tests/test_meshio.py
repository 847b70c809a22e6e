import sys

import numpy as np
import pytest
import trimesh

from partitioner.errors import MissingDependencyError, OutputError
from partitioner.meshio import MESH_SUFFIXES, write_mesh

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


@pytest.mark.parametrize("suffix", [*MESH_SUFFIXES, ".GLB"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    write_mesh(path, VERTICES, FACES)
    mesh = trimesh.load(path, force="mesh", process=False)
    np.testing.assert_allclose(mesh.triangles, VERTICES[FACES], atol=1e-6)
    assert 1 / 6 == pytest.approx(mesh.volume)


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_the_same_mesh_gives_the_same_bytes(tmp_path, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_mesh(first, VERTICES, FACES)
    write_mesh(second, VERTICES, FACES)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["mesh.fbx", "mesh", ".glb"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(ValueError, match=r"\.glb, \.obj, \.ply, \.stl"):
        write_mesh(tmp_path / name, VERTICES, FACES)
    assert [] == list(tmp_path.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "mesh.ply"
    path.write_text("old")
    write_mesh(str(path), VERTICES, FACES)
    assert path.read_bytes().startswith(b"ply")
    assert [path] == list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "mesh.ply"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_mesh(path, VERTICES, FACES)
    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        write_mesh(tmp_path / "missing" / "mesh.ply", VERTICES, FACES)


def test_an_empty_mesh_is_not_written(tmp_path):
    with pytest.raises(OutputError, match="no triangles"):
        write_mesh(tmp_path / "mesh.glb", np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (VERTICES[:, :2], FACES, "vertices must have the shape"),
        (VERTICES, FACES[0], "faces must have the shape"),
        (VERTICES[:2], FACES, "faces name vertices from 0 to 3, but there are 2"),
        (VERTICES, -FACES, "faces name vertices from -3"),
    ],
)
def test_a_mesh_that_makes_no_sense_is_refused(tmp_path, vertices, faces, message):
    with pytest.raises(ValueError, match=message):
        write_mesh(tmp_path / "mesh.ply", vertices, faces)


def test_without_trimesh_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        write_mesh(tmp_path / "mesh.ply", VERTICES, FACES)
