"""The student that comes with the package: what the README and `make student` say of it is true of the file."""

import pytest

from ov_seg_ros.core.metrics import ConfusionMatrix
from ov_seg_ros.runtime.model_file import shipped_model_path
from ov_seg_ros.runtime.segmenter import Segmenter


@pytest.fixture(scope="module")
def student():
    return Segmenter.load(shipped_model_path(), provider="cpu", num_threads=1)


def test_it_is_small():
    assert shipped_model_path().stat().st_size <= 6_000_000


def test_it_was_made_by_the_recipe_of_make_student(student):
    pytest.importorskip("torch", reason="recipes are read by the training package")
    from training.config import RECIPES
    from training.synthetic_recipe import SyntheticRecipe

    recipe = SyntheticRecipe.load(RECIPES / "synthetic_small.yaml")
    assert student.description.recipe == recipe.to_dict()
    assert student.description.label_space == recipe.load_label_space()


def test_it_learned_from_no_ground_truth(student):
    assert student.description.recipe["labels"] == "teacher"
    assert "no ground truth" in student.description.provenance["labels"]


@pytest.mark.parametrize("lidar", ["spinning32", "spinning64"])
def test_it_segments_a_drive_that_it_has_never_seen(student, lidar):
    pytest.importorskip("embreex", reason="embreex renders the synthetic drives")
    from training.sources.synthetic import HELD_OUT_SEEDS, DriveConfig, SyntheticDrive

    drive = SyntheticDrive(DriveConfig(HELD_OUT_SEEDS[lidar][1], lidar, num_scans=4, scan_stride=30, cameras=()))
    matrix = ConfusionMatrix(len(student.description.label_space))
    for index in range(len(drive)):
        sample = drive.load_sample(index, with_images=False)
        matrix.update(sample.class_id, student.segment(sample.cloud).class_id)
    iou = dict(zip(student.description.label_space.class_names, matrix.iou(), strict=True))
    assert matrix.miou() > 0.35
    assert min(iou[name] for name in ("car", "driveable_surface", "manmade", "vegetation")) > 0.5
