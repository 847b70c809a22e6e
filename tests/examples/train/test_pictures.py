import numpy as np
import pytest

from bernini.train.fields import TRUNCATION, field_of, to_bytes, to_distances
from bernini.train.pictures import View, draw_picture
from bernini.train.solids import ball, box, moved

SIDE = 56


FRONT = View(0, 0)


def seen(solid, view=FRONT):
    """Which pixels show the solid."""
    picture = draw_picture(field_of(solid, 48), view, SIDE)
    assert (SIDE, SIDE, 3) == picture.shape
    background = draw_picture(np.full((8, 8, 8), TRUNCATION, np.float32), view, SIDE)
    assert 1 == len(np.unique(background.reshape(-1, 3), axis=0))
    return (picture != background).any(axis=2)


def test_a_ball_is_seen_as_a_disc_of_its_size():
    # Seen from 1.08 / sin 15 degrees, with a field of view of 30.
    distance = 1.08 / np.sin(np.radians(15))
    radius = np.tan(np.arcsin(0.5 / distance)) / np.tan(np.radians(15))
    assert np.pi * radius**2 / 4 == pytest.approx(seen(ball(0.5)).mean(), rel=0.03)


@pytest.mark.parametrize(
    ("view", "place", "row", "column"),
    [
        (FRONT, (0.5, 0, 0), 0, 1),
        (FRONT, (0, 0.5, 0), -1, 0),
        (View(90, 0), (0, 0, 0.5), 0, -1),
        (View(0, 80), (0, 0, 0.5), 1, 0),
    ],
)
def test_where_a_thing_is_seen(view, place, row, column):
    rows, columns = np.nonzero(seen(moved(ball(0.2), place), view))
    middle = (SIDE - 1) / 2
    for expected, mean in ((row, rows.mean()), (column, columns.mean())):
        assert expected == round((mean - middle) / (SIDE / 4))


def test_what_faces_the_lights_is_brighter():
    picture = draw_picture(field_of(box((0.5, 0.5, 0.5)), 48), View(35, 30), SIDE).mean(axis=2)
    top, side = picture[SIDE // 4, SIDE // 2], picture[SIDE * 5 // 8, SIDE // 4]
    assert top > side + 30


def test_bytes_keep_distances_to_half_a_step():
    field = field_of(ball(0.5), 24)
    kept = to_distances(to_bytes(field))
    np.testing.assert_allclose(kept, field, atol=TRUNCATION / 127 / 2 + 1e-7)
    np.testing.assert_array_equal(kept < 0, field < -TRUNCATION / 127 / 2)
