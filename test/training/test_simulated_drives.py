"""Rendered drives in the form of real sources: what the label stage stores of them is what the teacher said."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("embreex", reason="embreex renders the synthetic drives")

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.config import LABEL_SPACES
from training.dictionary import DICTIONARIES, ClassDictionary
from training.labelling import SimulatedLabels
from training.labelling_run import LabellingSettings, label_source
from training.lifting import lift_segments
from training.simulated_drives import (
    CalibratedDrives,
    RenderedDrives,
    SimulatedDriveTeacher,
    TrueDrives,
    lidar_velocity,
)
from training.sources.protocol import Source
from training.sources.synthetic import DriveConfig, SyntheticDrive
from training.sources.synthetic_folder import write_drive
from training.teachers.protocol import Teacher
from training.teachers.segment_store import SegmentStore
from training.teachers.simulated import TeacherErrorConfig
from training.teachers.simulated_features import FeatureConfig, SimulatedFeatures
from training.teachers.simulated_text_space import TextSpace

SPACE = LabelSpace.load(LABEL_SPACES / "nuscenes16.yaml")
DICTIONARY = ClassDictionary.load(DICTIONARIES / "nuscenes.yaml", SPACE)
ERRORS = TeacherErrorConfig()
FEATURES = SimulatedFeatures(TextSpace.make(DICTIONARY))


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> RenderedDrives:
    """A rendered drive of two scans, and its first scan again under another name and seed."""
    root = tmp_path_factory.mktemp("drives")
    config = DriveConfig(911, num_scans=2, cameras=("front", "back"), image_width=160, image_height=90)
    write_drive(SyntheticDrive(config), root / "911")
    shutil.copytree(root / "911", root / "912")
    about = json.loads((root / "912" / "drive.json").read_text())
    about["name"], about["config"]["seed"], about["scans"] = "drive_0912_spinning32", 912, about["scans"][:1]
    (root / "912" / "drive.json").write_text(json.dumps(about))
    return RenderedDrives([root / "911", root / "912"], "tiny")


@pytest.fixture(scope="module")
def teacher(drives: RenderedDrives) -> SimulatedDriveTeacher:
    return SimulatedDriveTeacher(drives, ERRORS, FEATURES)


def test_samples_are_those_of_a_user(drives: RenderedDrives) -> None:
    source: Source = CalibratedDrives(drives, ERRORS)
    assert source.label_space is None
    assert len(source) == 3
    for index, (number, scan) in enumerate([(0, 0), (0, 1), (1, 0)]):
        drive, sample = drives.drives[number], source.load_sample(index)
        assert sample.key == f"tiny/{drive.name}/{scan:06d}"
        assert drives.find(sample.key) == (drive, scan)
        assert sample.class_id is None
        labels = SimulatedLabels(drive, ERRORS, drive.config.seed, SPACE)
        for image, expected, true in zip(
            sample.images, labels.as_calibrated(scan).images, drive.load_sample(scan).images, strict=True
        ):
            np.testing.assert_array_equal(image.camera_from_lidar, expected.camera_from_lidar)
            assert not np.array_equal(image.camera_from_lidar, true.camera_from_lidar)
            np.testing.assert_array_equal(image.image, true.image)


def test_truth_is_there_where_it_is_asked_for(drives: RenderedDrives) -> None:
    source: Source = TrueDrives(drives)
    assert source.label_space is not None
    assert source.label_space.class_names == SPACE.class_names
    sample, expected = source.load_sample(1), drives.drives[0].load_sample(1)
    assert sample.key == CalibratedDrives(drives).load_sample(1).key
    np.testing.assert_array_equal(sample.class_id, expected.class_id)
    for image, true in zip(sample.images, expected.images, strict=True):
        np.testing.assert_array_equal(image.camera_from_lidar, true.camera_from_lidar)


def test_rings_come_with_the_scans(drives: RenderedDrives) -> None:
    for source in (CalibratedDrives(drives), TrueDrives(drives)):
        ring = source.load_ring(2)
        assert ring.dtype == np.uint16
        assert len(ring) == len(source.load_sample(2).cloud)
        np.testing.assert_array_equal(ring, drives.drives[1].load_scan_fields(0)["ring"])


def test_the_label_stage_stores_what_the_simulated_labels_say(
    drives: RenderedDrives, teacher: SimulatedDriveTeacher, tmp_path: Path
) -> None:
    source = CalibratedDrives(drives, ERRORS)
    checked: Teacher = teacher
    result = label_source(source, checked, tmp_path / "label", settings=LabellingSettings(progress=False))
    assert (result.labelled, result.missing, result.skipped) == (3, 0, ())
    store = SegmentStore.open(tmp_path / "label", DICTIONARY)
    np.testing.assert_array_equal(store.text_features, teacher.text_features)
    for index in range(len(source)):
        sample = source.load_sample(index)
        read = {image.name: store.read(sample.key, image.name, image.stamp_ns) for image in sample.images}
        drive, scan = drives.locate(index)
        expected = SimulatedLabels(drive, ERRORS, drive.config.seed, SPACE).lift(scan)
        lifted = lift_segments(sample, read)
        for field in ("class_id", "confidence", "superpoint_id"):  # the store keeps scores exactly
            np.testing.assert_array_equal(getattr(lifted, field), getattr(expected, field))
        assert (lifted.class_id != 255).mean() > 0.1
        for image in sample.images:
            said = teacher.segment(image, sample.key)
            np.testing.assert_array_equal(read[image.name].text_id, said.text_id)
            np.testing.assert_allclose(read[image.name].features, said.features, atol=1e-3)


def test_source_and_teacher_travel_to_other_processes(drives: RenderedDrives, teacher: SimulatedDriveTeacher) -> None:
    source, true, copy = pickle.loads(pickle.dumps((CalibratedDrives(drives, ERRORS), TrueDrives(drives), teacher)))
    sample = source.load_sample(2)
    assert true.load_sample(2).key == sample.key
    a, b = (t.segment(sample.images[0], sample.key) for t in (teacher, copy))
    np.testing.assert_array_equal(a.segment_id, b.segment_id)
    np.testing.assert_array_equal(a.features, b.features)


def test_descriptions_differ_whenever_results_may(drives: RenderedDrives, teacher: SimulatedDriveTeacher) -> None:
    fewer = RenderedDrives([drives.drives[0].folder], "tiny")
    milder = replace(ERRORS, severity=0.5)
    variants = [
        teacher,
        SimulatedDriveTeacher(drives, milder, FEATURES),
        SimulatedDriveTeacher(fewer, ERRORS, FEATURES),
        SimulatedDriveTeacher(drives, ERRORS, SimulatedFeatures(FEATURES.space, FeatureConfig(truth_leak=0.0))),
    ]
    assert len({json.dumps(variant.describe(), sort_keys=True) for variant in variants}) == len(variants)
    assert teacher.describe()["dictionary"] == DICTIONARY.hash
    assert set(teacher.describe()) >= {"teacher", "model", "weights", "preprocessing", "templates", "logit_scale"}
    sources = [CalibratedDrives(drives, ERRORS), CalibratedDrives(drives, milder), CalibratedDrives(fewer, ERRORS)]
    assert len({json.dumps(source.describe()) for source in sources}) == len(sources)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("other/drive_0911_spinning32/000000", "none of source tiny: keys are tiny/<drive>/<scan>"),
        ("tiny/drive_0999_spinning32/000000", "none of source tiny"),
        ("tiny/drive_0911_spinning32/-1", "none of source tiny"),
        ("tiny/000000", "none of source tiny"),
        ("tiny/drive_0911_spinning32/000002", "has scans 0 to 1"),
    ],
)
def test_foreign_keys_are_refused(drives: RenderedDrives, key: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        drives.find(key)


def test_wrong_collections_and_indices_are_refused(drives: RenderedDrives) -> None:
    with pytest.raises(InputError, match="needs at least one rendered drive"):
        RenderedDrives([])
    folder = drives.drives[0].folder
    with pytest.raises(InputError, match="are both called drive_0911_spinning32; leave one out"):
        RenderedDrives([folder, folder])
    for index in (-1, 3):
        with pytest.raises(InputError, match=f"samples 0 to 2, got index {index}"):
            CalibratedDrives(drives).load_sample(index)


def test_velocity_is_the_way_between_neighbouring_scans(drives: RenderedDrives) -> None:
    drive = drives.drives[0]
    first, second = (drive.load_sample(i, with_images=False) for i in (0, 1))
    assert first.world_from_lidar is not None
    assert second.world_from_lidar is not None
    way = np.linalg.norm(second.world_from_lidar[:3, 3] - first.world_from_lidar[:3, 3])
    for scan in (0, 1):
        velocity = lidar_velocity(drive, scan)
        np.testing.assert_allclose(np.linalg.norm(velocity), way / 0.1, rtol=1e-6)
        assert velocity[0] == pytest.approx(np.linalg.norm(velocity), rel=0.05)  # forward
    np.testing.assert_array_equal(lidar_velocity(drives.drives[1], 0), np.zeros(3))
