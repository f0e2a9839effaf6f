import numpy as np
import pytest

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.overlay import draw_points

RED, BLUE = (255, 0, 0), (0, 0, 255)


def black(height=5, width=7):
    return np.zeros((height, width, 3), np.uint8)


def test_a_point_is_drawn_at_column_u_and_row_v_of_a_copy():
    image = black()
    drawn = draw_points(image, np.array([[4.4, 1.0]]), np.array([RED], np.uint8), radius=0)
    assert np.argwhere(drawn.any(axis=2)).tolist() == [[1, 4]]
    assert drawn[1, 4].tolist() == list(RED)
    assert not image.any()


def test_radius_one_is_a_block_of_nine_cut_at_the_corner():
    colors = np.array([RED], np.uint8)
    assert np.count_nonzero(draw_points(black(), np.array([[3.0, 2.0]]), colors, radius=1)[..., 0]) == 9
    assert np.count_nonzero(draw_points(black(), np.array([[0.0, 0.0]]), colors, radius=1)[..., 0]) == 4


def test_the_later_disc_covers_the_earlier_one():
    drawn = draw_points(black(), np.array([[2.0, 2.0], [3.0, 2.0]]), np.array([RED, BLUE], np.uint8), radius=1)
    assert drawn[2, 1].tolist() == list(RED)
    assert drawn[2, 2].tolist() == list(BLUE)


def test_no_points_draw_nothing_and_a_centre_outside_is_cut():
    empty = draw_points(black(), np.zeros((0, 2)), np.zeros((0, 3), np.uint8))
    outside = draw_points(black(), np.array([[-100.0, 1e6]]), np.array([RED], np.uint8))
    assert not empty.any()
    assert not outside.any()


@pytest.mark.parametrize(
    ("pixels", "colors", "radius", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3), np.uint8), 1, "pixels must be"),
        (np.zeros((2, 2)), np.zeros((1, 3), np.uint8), 1, "colors"),
        (np.full((1, 2), np.nan), np.zeros((1, 3), np.uint8), 1, "finite"),
        (np.zeros((1, 2)), np.zeros((1, 3), np.uint8), -1, "radius must be >= 0 pixels, got -1"),
    ],
)
def test_misfits_are_refused(pixels, colors, radius, message):
    with pytest.raises(InputError, match=message):
        draw_points(black(), pixels, colors, radius)
