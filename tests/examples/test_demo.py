import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

import partitioner
from bernini import demo
from bernini.shapes import sphere
from partitioner.errors import BundleError
from partitioner.ops import marching_cubes

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
