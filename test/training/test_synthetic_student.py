"""The whole offline chain on two tiny drives, and that ground truth never reaches a label-free student."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("embreex", reason="embreex renders the synthetic drives")

from ov_seg_ros.runtime.segmenter import Segmenter
from training.drive_sets import DriveSet
from training.labelling import SimulatedLabels, label_drive
from training.sources.synthetic import DriveConfig, SyntheticDrive
from training.sources.synthetic_folder import SyntheticFolder, write_drive
from training.student.examples import LabelledScan
from training.student.trainer import TrainerConfig
from training.synthetic_recipe import SyntheticRecipe
from training.synthetic_student import Workspace, run
from training.teachers.simulated import TeacherErrorConfig

pytestmark = pytest.mark.xdist_group("pipeline")

RECIPE = SyntheticRecipe(
    name="tiny",
    label_space="nuscenes16",
    train_drives=(DriveSet("spinning32", (901,), scans=2),),
    held_out_drives=(DriveSet("spinning32", (902,), scans=1),),
    point_features=("offset_z", "height", "intensity", "red", "green", "blue", "color_valid"),
    trainer=TrainerConfig(steps=4, batch_size=1, checkpoint_every=2),
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    root = tmp_path_factory.mktemp("work")
    stages = []
    space = Workspace(RECIPE, root, 1, lambda stage, done, total: stages.append((stage, done, total)))
    model = root / "model" / "student.onnx"
    return space, run(space, model), model, stages


def test_every_stage_runs_and_is_scored(outcome):
    _, scores, model, stages = outcome
    assert ("train", 4, 4) in stages
    assert {"drives", "labels", "train", "evaluate student", "evaluate lidar alone", "evaluate lifted"} <= {
        stage for stage, _, _ in stages
    }
    assert set(scores) >= {"student", "without_color", "lifted"}
    whole, seen, unseen = (scores["student"][part]["points"] for part in ("whole", "seen", "unseen"))
    assert whole == seen + unseen
    assert unseen > 0
    assert scores["lifted"]["answered"]["miou"] > 0.2
    segmenter = Segmenter.load(model)
    assert segmenter.description.recipe == RECIPE.to_dict()
    assert segmenter.description.provenance["held_out_miou"]["whole"] == scores["student"]["whole"]["miou"]
    assert segmenter.description.provenance["training_scans"] == 2


def test_a_second_run_makes_nothing_again(outcome):
    space, scores, model, _ = outcome
    files = {p: p.stat().st_mtime_ns for p in space.root.rglob("*.npz")}
    assert run(space, model) == scores
    assert {p: p.stat().st_mtime_ns for p in space.root.rglob("*.npz")} == files


def test_other_settings_use_other_folders(outcome):
    space = outcome[0]
    config = DriveConfig(901, "spinning32", 2, 5)
    changed = replace(space, recipe=replace(RECIPE, labels="truth"))
    assert changed.label_folder(config) != space.label_folder(config)
    assert changed.training_folder() != space.training_folder()
    assert changed.drive_folder(config) == space.drive_folder(config)


def test_labels_do_not_depend_on_the_ground_truth_of_the_points(tmp_path):
    folder = tmp_path / "drive"
    write_drive(SyntheticDrive(DriveConfig(903, num_scans=2)), folder)
    labels = SimulatedLabels(SyntheticFolder(folder), TeacherErrorConfig(), 903, RECIPE.load_label_space())
    honest = [LabelledScan.load(p, True) for p in label_drive(labels, tmp_path / "honest", use_truth=False)]
    for path in (folder / "scans").glob("*.npz"):
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays["class_id"] = np.zeros_like(arrays["class_id"])
        arrays["instance_id"] = np.zeros_like(arrays["instance_id"])
        np.savez(path, **arrays)
    labels = replace(labels, drive=SyntheticFolder(folder))
    blind = [LabelledScan.load(p, True) for p in label_drive(labels, tmp_path / "blind", use_truth=False)]
    for a, b in zip(honest, blind, strict=True):
        np.testing.assert_array_equal(a.class_id, b.class_id)
        np.testing.assert_array_equal(a.confidence, b.confidence)
        assert (a.class_id != 255).any()
    truth = next(label_drive(labels, tmp_path / "truth", use_truth=True))
    assert (LabelledScan.load(truth, False).class_id == 0).all()
