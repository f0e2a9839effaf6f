"""SemanticKITTI: labels, their mapping, poses, damaged files, and the real scans."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.label_mapping import LABEL_SPACES, LabelMapping
from training.sources.semantickitti import SemanticKitti, is_semantickitti, load_label_file

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
REAL = SHARED / "data" / "semantickitti" / "sequences" / "00"


@pytest.fixture
def sequence(tmp_path):
    folder = tmp_path / "sequences" / "08"
    (folder / "velodyne").mkdir(parents=True)
    (folder / "labels").mkdir()
    for index in (0, 1, 3):
        (np.arange(16, dtype="<f4").reshape(4, 4) + index).tofile(folder / "velodyne" / f"{index:06d}.bin")
    labels = np.array([10, 40 | 7 << 16, 0, 255], "<u4")
    labels.tofile(folder / "labels" / "000000.label")
    return folder


def class_ids(*names):
    target = LabelMapping.load("semantickitti_to_nuscenes16").target
    return [target.class_names.index(n) if n else 255 for n in names]


def test_scans_with_and_without_labels(sequence):
    source = SemanticKitti(sequence)
    sample = source.load_sample(0)
    assert (len(source), source.name, source.label_space.name) == (3, "semantickitti_08", "nuscenes16")
    assert sample.key == "semantickitti_08/000000"
    np.testing.assert_array_equal(sample.cloud.points[1], [4, 5, 6])
    assert sample.cloud.intensity.tolist() == [3, 7, 11, 15]
    assert sample.class_id.tolist() == class_ids("car", "driveable_surface", None, "motorcycle")
    assert source.load_raw_class_id(0).tolist() == [10, 40, 0, 255]
    assert source.load_scan_fields(0)["instance_id"].tolist() == [0, 7, 0, 0]
    assert source.load_sample(1).class_id is None
    assert source.load_scan_fields(1) == {}
    assert sample.images == ()
    assert sample.world_from_lidar is None


def test_stamps_follow_the_number_of_the_scan(sequence):
    source = SemanticKitti(sequence)
    stamps = [source.load_sample(i).cloud.stamp_ns for i in range(3)]
    assert [s - stamps[0] for s in stamps] == [0, 100_000_000, 300_000_000]
    assert stamps[0] > 0
    (sequence / "times.txt").write_text("0.0\n1.036e-01\n2.0e-01\n0.31\n")
    assert SemanticKitti(sequence).load_sample(2).cloud.stamp_ns - stamps[0] == 310_000_000
    (sequence / "times.txt").write_text("0.0\n")
    with pytest.raises(InputError, match="has 1 lines, none for scan 3"):
        SemanticKitti(sequence).load_sample(2)


def test_images_and_poses_where_they_exist(sequence):
    (sequence / "calib.txt").write_text("P2: 10 0 9.5 5 0 10 4.5 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.5\n")
    (sequence / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" + "1 0 0 1 0 1 0 2 0 0 1 3\n" * 3)
    (sequence / "image_2").mkdir()
    Image.new("RGB", (20, 10)).save(sequence / "image_2" / "000001.png")
    source = SemanticKitti(sequence)
    sample = source.load_sample(1)
    # the camera moved 1 right, 2 down, 3 forward: the LiDAR 3 forward, 1 to the right (-y), 2 down
    np.testing.assert_allclose(sample.world_from_lidar[:3, 3], [3, -1, -2], atol=1e-12)
    image = sample.images[0]
    assert (image.camera.width, image.camera.height, image.camera.fx) == (20, 10, 10)
    np.testing.assert_allclose(image.camera_from_lidar @ [4, 0, 0, 1], [0.5, 0, 3.5, 1], atol=1e-12)
    assert source.load_sample(0).images == ()
    (sequence / "calib.txt").write_text("P2: 10 0 9.5 5 0 10 4.5 0 0 0 1 0\n")  # as in data_odometry_color.zip
    with pytest.raises(InputError, match=r"calib.txt has no entry Tr: .* unpack data_odometry_calib.zip"):
        SemanticKitti(sequence).load_sample(1)
    (sequence / "calib.txt").unlink()
    with pytest.raises(InputError, match=r"has poses.txt but no calib.txt; unpack data_odometry_calib.zip"):
        SemanticKitti(sequence).load_sample(1)


def test_damaged_files(sequence):
    source = SemanticKitti(sequence)
    (sequence / "labels" / "000001.label").write_bytes(bytes(15))
    with pytest.raises(InputError, match=r"000001.label hold 15 bytes, the scan has 4 points and needs 16"):
        source.load_sample(1)
    np.array([10, 10, 200, 10], "<u4").tofile(sequence / "labels" / "000001.label")
    with pytest.raises(InputError, match=r"000001.label: ids 200 are none of semantickitti"):
        source.load_sample(1)
    path = sequence / "velodyne" / "000003.bin"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match="holds 65 bytes, which is no multiple of 16"):
        source.load_sample(2)
    with pytest.raises(InputError, match=r"holds no velodyne"):
        SemanticKitti(sequence.parent)
    assert is_semantickitti(sequence)
    assert not is_semantickitti(sequence.parent)


def test_the_mapping_decides_every_class():
    mapping = LabelMapping.load("semantickitti_to_nuscenes16")
    assert len(mapping.names) == 34
    by_name = {name: mapping.class_ids[raw_id] for raw_id, name in mapping.names.items()}
    for name, target in {
        "parking": "driveable_surface",
        "lane-marking": "driveable_surface",
        "other-ground": "other_flat",
        "other-structure": "manmade",
        "traffic-sign": "manmade",
        "trunk": "vegetation",
        "bicyclist": "bicycle",
        "moving-person": "pedestrian",
        "other-vehicle": None,
        "on-rails": None,
    }.items():
        assert by_name[name] == class_ids(target)[0], name
    for name in (n for n in by_name if n.startswith("moving-")):
        still = name.removeprefix("moving-")
        assert by_name[name] == by_name[still], name
    shared = [mapping.target.class_names[i] for i in mapping.shared_class_ids]
    assert set(mapping.target.class_names) - set(shared) == {
        "barrier",
        "construction_vehicle",
        "traffic_cone",
        "trailer",
    }


def test_every_mapping_of_the_project_loads():
    paths = list(LABEL_SPACES.glob("*_to_*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        mapping = LabelMapping.load(path.stem)
        raw = np.array(sorted(mapping.names))
        assert mapping.map_ids(raw).tolist() == [mapping.class_ids[i] for i in raw]


def test_wrong_mappings_are_named(tmp_path, monkeypatch):
    target = (LABEL_SPACES / "nuscenes16.yaml").read_text()
    monkeypatch.setattr("training.sources.label_mapping.LABEL_SPACES", tmp_path)
    (tmp_path / "nuscenes16.yaml").write_text(target)
    with pytest.raises(ConfigError, match=r"a.yaml does not exist"):
        LabelMapping.load("a")
    for text, message in (
        ("{target: nuscenes16, classes: [{id: 1, name: a, target: tram}]}", "'tram' is no class of nuscenes16"),
        ("{target: nuscenes16, classes: [{id: 1, name: a, target: car}, {id: 1, name: b, target: bus}]}", "twice"),
        ("{target: nuscenes16, classes: [{id: 1}]}", "expected {source, target, classes"),
    ):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            LabelMapping.load("a")


def test_label_file_halves(tmp_path):
    np.array([255 | 65535 << 16], "<u4").tofile(tmp_path / "a.label")
    class_id, instance_id = load_label_file(tmp_path / "a.label", 1)
    assert (class_id[0], instance_id[0]) == (255, 65535)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs shared/data/semantickitti")
def test_the_real_scans():
    source = SemanticKitti(REAL)
    assert [source.load_sample(i).class_id is not None for i in range(len(source))] == [True, True, False, False]
    sample = source.load_sample(0)
    assert 120_000 < len(sample.cloud) < 130_000
    share = np.bincount(sample.class_id, minlength=256) / len(sample.cloud)
    names = source.label_space.class_names
    assert share[names.index("driveable_surface")] > 0.2
    assert share[255] < 0.05
    road = sample.cloud.points[sample.class_id == names.index("driveable_surface")]
    assert np.median(road[:, 2]) == pytest.approx(-1.73, abs=0.15)  # the ground lies under the sensor: axes are right
