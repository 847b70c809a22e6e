"""From a picture to a mesh with a built bundle: the runtime only, no torch.

python examples/bernini/demo.py --bundle bernini.bundle --seed 7 --out made
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

T = TypeVar("T")


def main(arguments: list[str] | None = None) -> int:
    import partitioner
    from bernini.render import render, save_picture
    from partitioner.meshio import MESH_SUFFIXES, write_mesh

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", required=True, help="path or URI of a bundle of this example")
    parser.add_argument("--image", type=Path, default=HERE / "assets" / "chair.png")
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
        mesh = _timed("run", lambda: pipe(image=options.image, seed=options.seed))
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


def _timed(what: str, action: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = action()
    print(f"{what}: {(time.perf_counter() - start) * 1e3:.0f} ms")
    return result


if __name__ == "__main__":
    sys.exit(main())
