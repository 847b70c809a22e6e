"""From a picture or a point cloud to a mesh with a built bundle: the runtime only, no torch.

python examples/bernini/demo.py --bundle bernini.bundle --seed 7 --out made
python examples/bernini/demo.py --bundle cloud.bundle --cloud scan.npy --seed 7 --out made
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from partitioner import Pipeline

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

T = TypeVar("T")


def main(arguments: list[str] | None = None) -> int:
    import partitioner
    from bernini.render import render, save_picture
    from partitioner.meshio import MESH_SUFFIXES, write_mesh

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", required=True, help="path or URI of a bundle of this example")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--image", type=Path, default=HERE / "assets" / "chair.png")
    given.add_argument(
        "--cloud",
        type=Path,
        help="points (N, 3) of a surface in -1..1, y up, as .npy: for a bundle of condition=cloud",
    )
    parser.add_argument("--seed", type=int, default=7, help="of the noise; same seed, same mesh")
    parser.add_argument("--out", type=Path, default=Path(), help="folder to write to")
    parser.add_argument(
        "--format",
        dest="formats",
        action="append",
        choices=[suffix.removeprefix(".") for suffix in MESH_SUFFIXES],
        help="of the mesh, may be given several times; glb by default",
    )
    parser.add_argument("--side", type=int, default=512, help="of mesh.png, in pixels")
    options = parser.parse_args(arguments)

    try:
        pipe = _timed("load", lambda: partitioner.load(options.bundle))
        request = {"image": options.image}
        if options.cloud:
            count = _points(pipe)
            request = {"cloud": read_cloud(options.cloud, count, options.seed)}
        mesh = _timed("run", lambda: pipe(**request, seed=options.seed))
        vertices, faces = mesh["vertices"], mesh["faces"]
        print(f"  {len(vertices)} vertices, {len(faces)} faces")
        options.out.mkdir(parents=True, exist_ok=True)
        for name in options.formats or ["glb"]:
            path = options.out / f"mesh.{name}"
            _timed(f"write {path}", lambda path=path: write_mesh(path, vertices, faces))
        path = options.out / "mesh.png"
        picture = _timed("render", lambda: render(vertices, faces, side=options.side))
        save_picture(path, picture)
        print(f"  {path}")
    except partitioner.PartitionerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def read_cloud(path: Path, count: int, seed: int) -> np.ndarray:
    """As many points of a file as the pipeline takes: (1, count, 3) float32.

    All are taken as often as each other if the file has fewer, and some if it has more.

    Args:
        path: of an array (N, 3) of numbers, as ``numpy.save`` writes it.
        count: how many points.
        seed: of the choice.

    Raises:
        InputError: the file is no such array, or has points outside of the cube.
    """
    import numpy as np

    from partitioner.errors import InputError

    try:
        # Never pickled objects: a file of points is data.
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an array: {error}", where=str(path)) from error
    if not isinstance(points, np.ndarray) or points.dtype.kind not in "fiu":
        raise InputError(f"{path} holds no array of numbers", where=str(path))
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(
            f"{path} has the shape {points.shape}, a cloud has (N, 3)", where=str(path)
        )
    if not np.abs(points).max() <= 1:
        raise InputError(
            f"{path} has points outside of the cube from -1 to 1",
            where=str(path),
            advice="move and scale the cloud, so that it fits into 0.85 about the origin, y up",
        )
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(points)) for _ in range(-(-count // len(points)))]
    return points[np.concatenate(orders)[:count]].astype(np.float32)[None]


def _points(pipe: Pipeline) -> int:
    """How many points the bundle takes."""
    from partitioner.errors import InputError

    if "cloud" not in pipe.inputs:
        raise InputError(
            f"the bundle takes {', '.join(pipe.inputs)}, no cloud",
            advice="build it with --set condition=cloud",
        )
    return int(pipe.inputs["cloud"].shape[1])


def _timed(what: str, action: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = action()
    print(f"{what}: {(time.perf_counter() - start) * 1e3:.0f} ms")
    return result


if __name__ == "__main__":
    sys.exit(main())
