import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

import partitioner
from bernini import demo
from bernini.shapes import sphere
from partitioner.errors import BundleError, InputError
from partitioner.ops import marching_cubes
from partitioner.specs import TensorSpec

FOLDER = Path(demo.__file__).parent


@pytest.fixture
def requests(monkeypatch):
    """Stands for a bundle that gives a sphere, and notes what it was asked."""
    made: list[dict] = []

    def run(**request):
        made.append(request)
        return marching_cubes(sphere(24))

    monkeypatch.setattr(partitioner, "load", lambda path: run)
    return made


def test_it_writes_meshes_and_a_picture(requests, tmp_path, capsys):
    arguments = ["--bundle", "b", "--seed", "3", "--out", str(tmp_path / "new"), "--side", "64"]
    assert 0 == demo.main([*arguments, "--format", "glb", "--format", "ply"])
    assert [{"image": FOLDER / "assets" / "chair.png", "seed": 3}] == requests
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert ["mesh.glb", "mesh.ply", "mesh.png"] == written
    assert len(marching_cubes(sphere(24))["faces"]) == len(
        trimesh.load(tmp_path / "new" / "mesh.ply").faces
    )
    assert "faces" in capsys.readouterr().out


class Bundle:
    """Stands for a bundle of one input that gives a sphere, and notes what it was asked."""

    def __init__(self, name, shape):
        self.inputs = {name: TensorSpec("float32", shape)}
        self.requests: list[dict] = []

    def __call__(self, **request):
        self.requests.append(request)
        return marching_cubes(sphere(24))


def test_it_takes_a_cloud(monkeypatch, tmp_path):
    points = np.random.default_rng(0).uniform(-0.8, 0.8, (50, 3))
    np.save(tmp_path / "scan.npy", points)
    bundle = Bundle("cloud", (1, 64, 3))
    monkeypatch.setattr(partitioner, "load", lambda path: bundle)
    arguments = ["--bundle", "b", "--cloud", str(tmp_path / "scan.npy"), "--side", "32"]
    assert 0 == demo.main([*arguments, "--out", str(tmp_path), "--seed", "5"])
    [request] = bundle.requests
    assert ["cloud", "seed"] == sorted(request)
    assert ((1, 64, 3), np.float32) == (request["cloud"].shape, request["cloud"].dtype)


def test_a_bundle_of_pictures_takes_no_cloud(monkeypatch, tmp_path, capsys):
    np.save(tmp_path / "scan.npy", np.zeros((4, 3)))
    monkeypatch.setattr(partitioner, "load", lambda path: Bundle("image", (1, 3, 224, 224)))
    arguments = ["--bundle", "b", "--cloud", str(tmp_path / "scan.npy")]
    assert InputError.exit_code == demo.main(arguments)
    assert "the bundle takes image, no cloud" in capsys.readouterr().err


@pytest.mark.parametrize("count", [8, 20, 45])
def test_points_of_a_cloud_are_taken_as_often_as_each_other(count, tmp_path):
    points = np.arange(60, dtype=np.float64).reshape(20, 3) / 60
    np.save(tmp_path / "scan.npy", points)
    taken = demo.read_cloud(tmp_path / "scan.npy", count, seed=1)[0]
    again = demo.read_cloud(tmp_path / "scan.npy", count, seed=1)[0]
    np.testing.assert_array_equal(taken, again)
    rows, times = np.unique(taken, axis=0, return_counts=True)
    assert min(count, 20) == len(rows)
    assert {count // 20, -(-count // 20)} >= set(times.tolist())
    assert {tuple(row) for row in rows} <= {tuple(row) for row in points.astype(np.float32)}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no array", "cannot be read"),
        (np.zeros((4, 2)), "has the shape"),
        (np.zeros((0, 3)), "has the shape"),
        (np.full((4, 3), np.nan), "outside of the cube"),
        (np.full((4, 3), 1.5), "outside of the cube"),
        (np.zeros((4, 3), "S1"), "no array of numbers"),
    ],
)
def test_what_is_no_cloud_is_refused(content, complaint, tmp_path):
    path = tmp_path / "scan.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(InputError, match=complaint):
        demo.read_cloud(path, 64, 0)


def test_an_error_gives_its_exit_code(monkeypatch, capsys):
    def load(path):
        raise BundleError("the bundle is damaged", where=path)

    monkeypatch.setattr(partitioner, "load", load)
    assert BundleError.exit_code == demo.main(["--bundle", "b"])
    assert "the bundle is damaged" in capsys.readouterr().err


def test_its_picture_is_small_and_square():
    pillow = pytest.importorskip("PIL.Image")
    path = FOLDER / "assets" / "chair.png"
    assert path.stat().st_size < 60_000
    picture = np.asarray(pillow.open(path))
    assert (256, 256, 3) == picture.shape


@pytest.mark.parametrize("script", ["demo.py", "draw_chair.py"])
def test_scripts_import_no_torch(script):
    code = (
        f"import sys, runpy; runpy.run_path({str(FOLDER / script)!r}, run_name='script'); "
        "import bernini.render, bernini.shapes, partitioner.ops, partitioner.meshio; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
