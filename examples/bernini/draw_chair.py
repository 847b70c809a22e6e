"""Draws ``assets/chair.png``, the picture that the example starts from."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))


def main() -> None:
    from bernini.render import render, save_picture
    from bernini.shapes import chair
    from partitioner.ops import marching_cubes

    mesh = marching_cubes(chair(192))
    picture = render(mesh["vertices"], mesh["faces"], side=256, supersampling=4)
    save_picture(HERE / "assets" / "chair.png", picture)


if __name__ == "__main__":
    main()
