"""The training shape whose picture or cloud is most like a given one."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from .dataset import Dataset

__all__ = ["NearestCloud", "NearestPicture"]

#: Pictures are compared at half their side, by the squared distance of their pixels.
_SHRINK = 2
_AT_ONCE = 500
#: Points by which a shape is known, and of how many shapes, those from which the given cloud is the
#: least far, it is asked how far they are from it, too.
_POINTS, _LOOKED_AT = 256, 50


class NearestPicture:
    """Looks a picture up among all views of all training shapes."""

    def __init__(self, dataset: Dataset) -> None:
        self._fields = dataset.fields
        self._views = dataset.pictures.shape[1]
        starts = range(0, len(dataset.pictures), _AT_ONCE)
        parts = [_features(dataset.pictures[s : s + _AT_ONCE]) for s in starts]
        self._features = np.concatenate(parts)
        self._lengths = np.square(self._features).sum(axis=1)

    def field(self, picture: np.ndarray) -> np.ndarray:
        """The field of the nearest picture's shape, in bytes.

        Args:
            picture: (112, 112, 3) uint8.
        """
        distances = self._lengths - 2 * self._features @ _features(picture[None, None])[0]
        return self._fields[int(distances.argmin()) // self._views]


class NearestCloud:
    """Looks a cloud up among all training shapes, by its Chamfer distance from some points of each.

    Args:
        dataset: of the shapes.
        clouds: (N, points, 3) of their surfaces, in no order.
    """

    def __init__(self, dataset: Dataset, clouds: np.ndarray) -> None:
        self._fields = dataset.fields
        self._clouds = clouds[:, :_POINTS].astype(np.float32)

    def field(self, cloud: np.ndarray) -> np.ndarray:
        """The field of the nearest shape, in bytes.

        Args:
            cloud: (points, 3).
        """
        return self._fields[self.index(cloud)]

    def index(self, cloud: np.ndarray) -> int:
        """The number of the nearest shape."""
        flat = self._clouds.reshape(-1, 3)
        there = cKDTree(cloud).query(flat)[0].reshape(len(self._clouds), -1).mean(axis=1)
        least = np.argsort(there)[:_LOOKED_AT]
        back = [cKDTree(self._clouds[index]).query(cloud)[0].mean() for index in least]
        return int(least[np.argmin(there[least] + back)])


def _features(pictures: np.ndarray) -> np.ndarray:
    """(N, views, S, S, 3) uint8 -> (N * views, S / 2 * S / 2 * 3) float32."""
    side = pictures.shape[2] // _SHRINK
    blocks = pictures.reshape(-1, side, _SHRINK, side, _SHRINK, 3)
    return (blocks.mean(axis=(2, 4), dtype=np.float32) / 255).reshape(len(blocks), -1)
