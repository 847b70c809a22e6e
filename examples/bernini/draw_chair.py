"""Draws ``assets/chair.png``, the picture that the example starts from, and ``assets/chair.npy``,
its point cloud: the first chair among the shapes that are held out of training.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

SIDE = 256


def main() -> None:
    import numpy as np

    from bernini.render import save_picture
    from bernini.train.clouds import field_cloud
    from bernini.train.dataset import Recipe, first_chair
    from bernini.train.fields import field_of, to_bytes
    from bernini.train.pictures import draw_picture

    solid, view = first_chair(Recipe(split="held-out"))
    # Drawn at twice the side: edges are smooth then.
    large = draw_picture(field_of(solid, 64), view, 2 * SIDE).astype(np.float32)
    picture = large.reshape(SIDE, 2, SIDE, 2, 3).mean(axis=(1, 3))
    save_picture(HERE / "assets" / "chair.png", picture.round().astype(np.uint8))
    np.save(HERE / "assets" / "chair.npy", field_cloud(to_bytes(field_of(solid, 64)), seed=0))


if __name__ == "__main__":
    main()
