"""A recording as a source, and what users may call a source."""

import os
from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.bags.sample_stream import SampleStreamOptions
from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.sources.kitti_raw import KittiRaw
from training.sources.label_mapping import LABEL_SPACES
from training.sources.nuscenes_keyframe import NuScenesKeyframe
from training.sources.recording import RecordingSource
from training.sources.resolve import open_source
from training.sources.semantickitti import SemanticKitti

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data"


class TinySource:
    """Scans painted with their number, one camera."""

    name = "tiny"

    def __init__(self, label_space=None, count=6):
        self.label_space = label_space
        self.count = count

    def __len__(self):
        return self.count

    def load_sample(self, index):
        stamp = 10**12 + index * 100_000_000
        cloud = PointCloud(np.full((4, 3), index, np.float32), np.zeros(4, np.float32), stamp)
        image = np.full((6, 8, 3), 20 * index, np.uint8)
        images = (CameraImage("front", image, CameraModel(8, 6, 5, 5, 3.5, 2.5), np.eye(4), stamp + 10_000_000),)
        class_id = np.full(4, index, np.uint8) if self.label_space else None
        return Sample(f"tiny/{index}", cloud, images, class_id)


@pytest.fixture
def recording(tmp_path):
    return convert_source(TinySource(), tmp_path / "drive")


def numbers(samples):
    """Number of the scan and of its image."""
    return [(int(s.cloud.points[0, 0]), round(s.images[0].image.mean() / 20)) for s in samples]


def test_reading_in_order(recording):
    source = RecordingSource(recording)
    assert (len(source), source.name, source.label_space) == (6, "drive", None)
    assert numbers(source.load_sample(i) for i in range(6)) == [(i, i) for i in range(6)]
    assert source.load_sample(0).key == f"drive/{10**12}"


@pytest.mark.parametrize("order", [(5, 4, 3, 2, 1, 0), (3, 4, 5, 0), (2, 2, 2), (0, 5, 1)])
def test_reading_in_any_order(recording, order):
    source = RecordingSource(recording)
    assert numbers(source.load_sample(i) for i in order) == [(i, i) for i in order]


def test_an_index_out_of_range(recording):
    with pytest.raises(InputError, match="source drive has samples 0 to 5, got index 6"):
        RecordingSource(recording).load_sample(6)


def test_ground_truth_and_its_label_space(tmp_path):
    space = LabelSpace.load(LABEL_SPACES / "nuscenes16.yaml")
    source = RecordingSource(convert_source(TinySource(space), tmp_path / "known"))
    assert source.label_space == space  # found again by its names, with colours and texts
    assert source.load_sample(3).class_id.tolist() == [3] * 4
    own = LabelSpace("mine", ("zebra", "lion"), ((0, 0, 0), (1, 1, 1)))
    source = RecordingSource(convert_source(TinySource(own, 2), tmp_path / "own"))
    assert source.label_space.class_names == ("zebra", "lion")
    assert len(set(source.label_space.palette)) == 2


def test_options_are_passed_on(recording):
    source = RecordingSource(recording, SampleStreamOptions(tolerance_ns=1))
    assert source.load_sample(0).images == ()
    assert source.stream.counters["front"]["too_far"] == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("kitti_raw/2011_09_26", KittiRaw),
        ("semantickitti/sequences/00", SemanticKitti),
        ("nuscenes/scene-0061_first", NuScenesKeyframe),
    ],
)
def test_data_sets_are_recognised(path, kind):
    if not (SHARED / path).is_dir():
        pytest.skip(f"needs shared/data/{path}")
    assert type(open_source(SHARED / path)) is kind


def test_recordings_are_recognised(recording):
    assert isinstance(open_source(str(recording)), RecordingSource)


def test_scenes_of_nuscenes(tmp_path):
    (tmp_path / "v1.0-mini").mkdir()
    for table in ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor"):
        (tmp_path / "v1.0-mini" / f"{table}.json").write_text("[]")
    with pytest.raises(InputError, match="has no scene 'scene-0061'"):
        open_source(f"{tmp_path}:scene-0061")


def test_synthetic_drives_are_specified():
    pytest.importorskip("embreex", reason="synthetic drives need a ray tracer")
    source = open_source("synthetic:seed=7,scans=20,lidar=spinning64,cameras=front")
    assert (source.config.seed, len(source), source.config.lidar) == (7, 20, "spinning64")
    with pytest.raises(ConfigError, match=r"'beams=3' is no key=value with one of the keys seed, scans"):
        open_source("synthetic:beams=3")
    with pytest.raises(ConfigError, match="seed must be a whole number, got 'x'"):
        open_source("synthetic:seed=x")


def test_anything_else_lists_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"is nothing known; looked for a recording .*a KITTI raw .*synthetic:seed=7"):
        open_source(tmp_path)
    with pytest.raises(InputError, match="does not exist; expected a recording"):
        open_source(tmp_path / "nothing")
