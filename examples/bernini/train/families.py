"""Families of shapes with parameters, drawn from a random generator.

All fit into a cube of 0.85 about the origin and have no part thinner than 0.09, three voxels of
the smallest field. A shape stands at a fixed angle; only the view of its picture differs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .solids import (
    Solid,
    ball,
    box,
    cylinder,
    difference,
    moved,
    rounded,
    torus,
    turned,
    twisted,
    union,
)

__all__ = ["FAMILIES", "draw_shape"]

Draw = np.random.Generator


def draw_shape(rng: Draw) -> tuple[str, Solid]:
    """A family's name and a shape of it; all families are as likely."""
    name = list(FAMILIES)[int(rng.integers(len(FAMILIES)))]
    return name, FAMILIES[name](rng)


def chair(rng: Draw) -> Solid:
    """A seat, four legs, a back of one board or of slats between posts, perhaps arms."""
    width, depth = rng.uniform(0.32, 0.58, 2)
    seat, thick = rng.uniform(-0.25, 0.1), rng.uniform(0.05, 0.09)
    top, bottom = rng.uniform(0.45, 0.85), -0.8
    leg = rng.uniform(0.05, 0.08)
    back = -depth + leg
    parts = [_bar((0, seat, 0), (width, thick, depth))]
    for x in (-width + leg, width - leg):
        for z in (back, depth - leg):
            parts.append(_upright(x, z, bottom, seat, leg))
    if rng.random() < 0.5:
        parts.append(_bar((0, (seat + top) / 2, back), (width, (top - seat) / 2, leg)))
    else:
        for x in (-width + leg, width - leg):
            parts.append(_upright(x, back, seat, top, leg))
        slats = int(rng.integers(1, 4))
        for y in seat + (top - seat) * (np.arange(slats) + 0.8) / slats:
            parts.append(_bar((0, y - 0.06, back), (width, min(0.09, 0.3 / slats), 0.05)))
    if rng.random() < 0.3:
        arm = seat + rng.uniform(0.22, 0.32)
        for x in (-width + leg, width - leg):
            parts.append(_bar((x, arm, 0), (leg, 0.05, depth)))
            parts.append(_upright(x, depth - leg, seat, arm, leg))
    return union(*parts)


def table(rng: Draw) -> Solid:
    """A round or rectangular top on four legs or on a post with a foot."""
    width, depth = rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.8)
    height, thick = rng.uniform(0.0, 0.5), rng.uniform(0.05, 0.09)
    bottom = -rng.uniform(0.4, 0.75)
    leg = rng.uniform(0.05, 0.1)
    if rng.random() < 0.5:
        top = cylinder(width, thick)
        reach = (width * 0.6, width * 0.6)
    else:
        top = box((width, thick, depth))
        reach = (width - leg - 0.02, depth - leg - 0.02)
    parts = [moved(top, (0, height, 0))]
    if rng.random() < 0.35:
        post, foot = rng.uniform(0.07, 0.14), rng.uniform(0.25, 0.45)
        parts.append(moved(cylinder(post, (height - bottom) / 2), (0, (height + bottom) / 2, 0)))
        parts.append(moved(cylinder(foot, 0.06), (0, bottom + 0.06, 0)))
        return union(*parts)
    for x in (-reach[0], reach[0]):
        for z in (-reach[1], reach[1]):
            parts.append(_upright(x, z, bottom, height, leg))
    return union(*parts)


def mug(rng: Draw) -> Solid:
    """A cup with a handle to its right, open at the top."""
    radius, half = rng.uniform(0.3, 0.5), rng.uniform(0.35, 0.65)
    wall, floor = rng.uniform(0.05, 0.08), rng.uniform(0.06, 0.12)
    cup = difference(
        cylinder(radius, half), moved(cylinder(radius - 2 * wall, half), (0, 2 * floor, 0))
    )
    size, thick = rng.uniform(0.16, min(0.3, half - 0.1)), rng.uniform(0.05, 0.08)
    handle = moved(torus(size, thick, axis="z"), (radius, rng.uniform(-0.1, 0.1), 0))
    middle = -size / 2
    outside = difference(handle, cylinder(radius - wall, 2.0))
    return moved(union(cup, outside), (middle, 0, 0))


def ring(rng: Draw) -> Solid:
    """A ring with a round to square section, standing or lying, perhaps with a stone or a twist."""
    radius = rng.uniform(0.35, 0.6)
    thick = rng.uniform(0.08, min(0.2, 0.78 - radius))
    axis = "yzx"[int(rng.integers(3))]
    solid = torus(radius, thick, axis, squareness=rng.uniform(0, 0.9))
    kind = rng.random()
    if kind < 0.35 and axis != "y":
        stone = rng.uniform(0.12, 0.2)
        cut = box((stone, stone, stone)) if rng.random() < 0.5 else ball(stone)
        return union(solid, moved(cut, (0, min(radius + 0.05, 0.83 - stone), 0)))
    if kind < 0.6:
        return turned(solid, rng.uniform(-35, 35), "x" if axis != "x" else "z")
    return solid


def bracket(rng: Draw) -> Solid:
    """An L of two plates with holes, perhaps with a rib between them; edges slightly round."""
    width, thick = rng.uniform(0.25, 0.6), rng.uniform(0.06, 0.11)
    tall, deep = rng.uniform(0.45, 0.78), rng.uniform(0.45, 0.78)
    soft = 0.03
    plates = [
        _bar((0, 0, -deep + thick), (width - soft, tall - soft, thick - soft)),
        _bar((0, -tall + thick, 0), (width - soft, thick - soft, deep - soft)),
    ]
    if rng.random() < 0.4:
        rib = rng.uniform(0.3, 0.6) * min(tall, deep)
        wedge = difference(box((0.06, rib, rib)), turned(moved(box((1, 2, 1)), (0, 2, 0)), 45, "x"))
        plates.append(moved(wedge, (0, -tall + rib + thick, -deep + rib + thick)))
    hole = rng.uniform(0.1, min(0.2, width * 0.45))
    y, z = rng.uniform(0.1, 0.4) * tall, rng.uniform(0.1, 0.4) * deep
    holes = [
        moved(cylinder(hole, 1.0, axis="z"), (0, y, -deep - 0.7)),
        moved(cylinder(hole, 1.0), (0, -tall - 0.7, z)),
    ]
    return difference(rounded(union(*plates), soft), *holes)


def composed(rng: Draw) -> Solid:
    """A primitive, rounded and perhaps twisted, with others added to it or taken out of it."""
    base = _primitive(rng, rng.uniform(0.3, 0.55, 3))
    if rng.random() < 0.4:
        base = twisted(base, rng.uniform(-60, 60))
    for _ in range(int(rng.integers(1, 3))):
        other = moved(_primitive(rng, rng.uniform(0.14, 0.3, 3)), rng.uniform(-0.45, 0.45, 3))
        base = union(base, other) if rng.random() < 0.5 else difference(base, other)
    return base


FAMILIES: dict[str, Callable[[Draw], Solid]] = {
    "chair": chair,
    "table": table,
    "mug": mug,
    "ring": ring,
    "bracket": bracket,
    "composed": composed,
}


def _primitive(rng: Draw, half: np.ndarray) -> Solid:
    soft = rng.uniform(0.02, 0.08)
    kind = int(rng.integers(3))
    if kind == 0:
        return rounded(box(tuple(half - soft)), soft)
    if kind == 1:
        return rounded(cylinder(half[0] - soft, half[1] - soft, "xyz"[int(rng.integers(3))]), soft)
    return ball(half[0])


def _bar(centre: tuple[float, float, float], half: tuple[float, float, float]) -> Solid:
    return moved(box(half), centre)


def _upright(x: float, z: float, bottom: float, top: float, half: float) -> Solid:
    return _bar((x, (bottom + top) / 2, z), (half, (top - bottom) / 2, half))
