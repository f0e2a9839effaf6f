"""Settings of AFI: level sizes, weights, and classes by name."""

from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.refinement.afi_config import AfiConfig

LABEL_SPACES = Path(__file__).resolve().parents[2] / "config" / "label_spaces"


def test_level_sizes_as_released():
    assert AfiConfig.released().level_sizes(34_000) == (34_000, 1365, 455, 151, 50)


def test_level_sizes_that_divide():
    assert AfiConfig(exact_thirds=True).level_sizes(34_000) == (34_000, 1377, 459, 153, 51)


@pytest.mark.parametrize(("points", "sizes"), [(400, (400, 400, 400, 151, 50)), (7, (7,) * 5), (1, (1,) * 5)])
def test_no_level_has_more_points_than_the_one_below(points, sizes):
    assert AfiConfig.released().level_sizes(points) == sizes


def test_the_default_needs_no_ground_classes():
    assert AfiConfig.default().level_sizes(34_000) == (34_000, 8192)
    indoors = LabelSpace("indoors", ("chair", "lamp"), ((0, 0, 0),) * 2)
    assert not AfiConfig.default().ground_mask(indoors).any()


def test_levels_never_run_empty():
    assert AfiConfig(base_count=9, num_stages=4).level_sizes(100) == (100, 3, 1, 1, 1)


def test_own_votes_count_where_three_divide_exactly():
    config = AfiConfig.released()
    steps = [(34_000, 1365), (1365, 455), (455, 151), (151, 50)]
    assert [config.skip_weight_between(*step) for step in steps] == [0.01, 0.3, 0.01, 0.01]


def test_ground_and_objects_of_nuscenes():
    space = LabelSpace.load(LABEL_SPACES / "nuscenes16.yaml")
    config = AfiConfig.released()
    np.testing.assert_array_equal(np.flatnonzero(config.ground_mask(space)), [10, 11, 12, 13])
    np.testing.assert_array_equal(np.flatnonzero(config.object_mask(space)), np.arange(10))


def test_ground_and_objects_by_name():
    space = LabelSpace("own", ("lawn", "robot", "shed"), ((0, 0, 0),) * 3)
    config = AfiConfig(ground_classes=("lawn",), object_classes=("robot",))
    assert config.ground_mask(space).tolist() == [True, False, False]
    assert config.object_mask(space).tolist() == [False, True, False]
    with pytest.raises(ConfigError, match=r"ground_classes names 'lawns'.*did you mean 'lawn'"):
        AfiConfig(ground_classes=("lawns",)).ground_mask(space)
    with pytest.raises(ConfigError, match="known as ground: name them in ground_classes"):
        AfiConfig().ground_mask(space)
    with pytest.raises(ConfigError, match="known as an object: name them in object_classes"):
        AfiConfig().object_mask(space)
    assert not AfiConfig(near_ground=False).ground_mask(space).any()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"decimation": 1}, "decimation must be at least 2, got 1"),
        ({"num_directions": 1}, "num_directions must be at least 2"),
        ({"num_neighbors": 0}, "num_neighbors must be at least 1"),
        ({"min_cosine": 1.0}, r"min_cosine must be in \[0, 1\), got 1.0"),
        ({"skip_weight": float("nan")}, "skip_weight must be at least 0, got nan"),
        ({"assist_odds": 1.0}, "assist_odds must be > 1"),
    ],
)
def test_refuses_settings_out_of_range(setting, message):
    with pytest.raises(ConfigError, match=message):
        AfiConfig(**setting)
