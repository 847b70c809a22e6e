"""Signed distances to solids, as functions of points, and the ways to join and to bend them.

Formulas after Inigo Quilez, "Distance functions" (https://iquilezles.org/articles/distfunctions).
Distances are exact outside of primitives; unions keep that, differences and twists are bounds.

Points are a tuple of three float32 arrays that broadcast (an open grid, or three columns), y up.
A solid maps points to distances of the broadcast shape, negative inside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

__all__ = [
    "Points",
    "Solid",
    "ball",
    "box",
    "cylinder",
    "difference",
    "moved",
    "rounded",
    "torus",
    "turned",
    "twisted",
    "union",
]

Points = tuple[np.ndarray, np.ndarray, np.ndarray]
Solid = Callable[[Points], np.ndarray]
Vector = tuple[float, float, float]

_AXES = {"x": 0, "y": 1, "z": 2}


def ball(radius: float) -> Solid:
    return lambda p: np.sqrt(p[0] ** 2 + p[1] ** 2 + p[2] ** 2) - np.float32(radius)


def box(half: Vector) -> Solid:
    """A box about the origin; ``half`` are half its sides."""

    def distance(p: Points) -> np.ndarray:
        return _corner(
            *(np.abs(axis) - np.float32(size) for axis, size in zip(p, half, strict=True))
        )

    return distance


def cylinder(radius: float, half_height: float, axis: str = "y") -> Solid:
    """A cylinder about the origin along an axis."""

    def distance(p: Points) -> np.ndarray:
        along, first, second = _along(p, axis)
        radial = np.sqrt(first**2 + second**2) - np.float32(radius)
        return _corner(radial, np.abs(along) - np.float32(half_height))

    return distance


def torus(radius: float, thickness: float, axis: str = "y", squareness: float = 0.0) -> Solid:
    """A ring about an axis. Its section is a disc of radius ``thickness``, or, as ``squareness``
    goes from 0 to 1, a square of that half side with ever sharper corners.
    """
    corner = thickness * (1 - squareness)

    def distance(p: Points) -> np.ndarray:
        along, first, second = _along(p, axis)
        radial = np.abs(np.sqrt(first**2 + second**2) - np.float32(radius))
        flat = np.float32(thickness - corner)
        return _corner(radial - flat, np.abs(along) - flat) - np.float32(corner)

    return distance


def moved(solid: Solid, by: Vector) -> Solid:
    return lambda p: solid(
        tuple(axis - np.float32(shift) for axis, shift in zip(p, by, strict=True))
    )


def turned(solid: Solid, degrees: float, axis: str = "y") -> Solid:
    """Turned about an axis, from the axis after it towards the one after that."""
    angle = np.radians(degrees)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))

    def distance(p: Points) -> np.ndarray:
        along, first, second = _along(p, axis)
        return solid(_put(along, cos * first + sin * second, cos * second - sin * first, axis))

    return distance


def twisted(solid: Solid, degrees: float, axis: str = "y") -> Solid:
    """Turned by ``degrees`` a unit of length along the axis.

    Not a distance: it is divided by the most that the twist stretches within the unit circle.
    """
    rate = np.radians(degrees)
    shrink = np.float32(1 / np.hypot(1, rate))

    def distance(p: Points) -> np.ndarray:
        along, first, second = _along(p, axis)
        cos, sin = np.cos(np.float32(rate) * along), np.sin(np.float32(rate) * along)
        bent = _put(along, cos * first + sin * second, cos * second - sin * first, axis)
        return solid(bent) * shrink

    return distance


def rounded(solid: Solid, radius: float) -> Solid:
    """Grown by ``radius``, so that edges are round."""
    return lambda p: solid(p) - np.float32(radius)


def union(*solids: Solid) -> Solid:
    return lambda p: reduce(np.minimum, (solid(p) for solid in solids))


def difference(solid: Solid, *others: Solid) -> Solid:
    """``solid`` without the others."""
    return lambda p: reduce(np.maximum, (-other(p) for other in others), solid(p))


def _corner(*sides: np.ndarray) -> np.ndarray:
    """Distance to what is inside of several orthogonal half spaces, each given by its distance."""
    outside = sum(np.maximum(side, 0) ** 2 for side in sides)
    return np.sqrt(outside) + np.minimum(reduce(np.maximum, sides), 0)


def _along(p: Points, axis: str) -> Points:
    """The coordinate along the axis, and the two that follow it cyclically."""
    index = _AXES[axis]
    return p[index], p[(index + 1) % 3], p[(index + 2) % 3]


def _put(along: np.ndarray, first: np.ndarray, second: np.ndarray, axis: str) -> Points:
    """The inverse of ``_along``."""
    back = (3 - _AXES[axis]) % 3
    cyclic = (along, first, second)
    return cyclic[back], cyclic[(back + 1) % 3], cyclic[(back + 2) % 3]
