"""Table of contents of the offline side: one short function per stage, in the order of the data flow.

Every stage writes into a folder whose name carries a hash of all that made it, so a stage is never mixed up with
one of other settings, and an interrupted stage continues where it stopped.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from ov_seg_ros import __version__
from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.runtime.segmenter import Segmenter
from training.drive_sets import drive_configs, drive_folder, render_drives, short_hash
from training.evaluation import Evaluation, evaluate
from training.export import export_student
from training.labelling import SimulatedLabels, label_drive
from training.progress import Progress
from training.sources.synthetic import DriveConfig
from training.sources.synthetic_folder import SyntheticFolder
from training.student.label_objective import LabelledScans, LabelObjective
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.process_group import ProcessGroup
from training.student.trainer import Trainer
from training.synthetic_recipe import SyntheticRecipe
from training.teachers.simulated import TeacherErrorConfig
from training.worker_pool import WorkerPool


@dataclass(frozen=True)
class Workspace:
    """Where a recipe's stages lie, with how many processes they are made, and on which device they are trained."""

    recipe: SyntheticRecipe
    root: Path
    processes: int
    progress: Progress
    device: str = "auto"

    def drive_folder(self, config: DriveConfig) -> Path:
        """Of one synthetic drive; shared by all recipes that use it."""
        return drive_folder(self.root / "drives", config)

    def label_folder(self, config: DriveConfig) -> Path:
        """Of the labelled scans of one drive."""
        made_by = {"teacher": asdict(self.recipe.teacher), "labels": self.recipe.labels}
        return self.root / "labels" / f"{self.drive_folder(config).name}-{short_hash(made_by)}"

    def training_folder(self) -> Path:
        """Of the checkpoint and its log."""
        return self.root / "training" / f"{self.recipe.name}-{short_hash(self.recipe.to_dict())}"


def run(space: Workspace, model_path: Path) -> dict[str, Any]:
    """Recipe to exported and evaluated student; returns what ``evaluate_student`` does."""
    make_drives(space)
    label(space)
    trainer = train(space)
    export(space, trainer, model_path)
    scores = evaluate_student(space, model_path)
    held_out = {part: scores["student"][part]["miou"] for part in ("whole", "seen", "unseen")}
    export(space, trainer, model_path, held_out)
    return scores


def make_drives(space: Workspace) -> None:
    """Renders the drives of the recipe that are not there yet."""
    configs = [*drive_configs(space.recipe.train_drives), *drive_configs(space.recipe.held_out_drives)]
    render_drives(space.root / "drives", configs, space.processes, space.progress)


def label(space: Workspace) -> None:
    """Teacher and lifting on the training drives, one process per drive."""
    configs = list(drive_configs(space.recipe.train_drives))
    with WorkerPool(space.processes) as pool:
        for done, _ in enumerate(pool.map(_label_one, [space.recipe] * len(configs), *_folders(space, configs)), 1):
            space.progress("labels", done, len(configs))


def train(space: Workspace) -> Trainer:
    """Trains, or continues, or loads what is already trained.

    Without a GPU as many of ``space.processes`` as can share the passes of a batch train together.
    """
    _labelled_scans(space).require_something_to_learn(space.recipe.label_loss.trust)
    group = ProcessGroup.join(space.device)
    if group.device.type != "cpu":
        return _train_member(space, group)
    config = space.recipe.trainer
    size = max(n for n in range(1, space.processes + 1) if config.passes % n == 0)
    with ProcessGroup.local(size, partial(_train_member, replace(space, progress=_silent))) as group:
        return _train_member(space, group)


def _train_member(space: Workspace, group: ProcessGroup) -> Trainer:
    """What each process of a training does."""
    recipe, scans = space.recipe, _labelled_scans(space)
    torch.manual_seed(recipe.trainer.seed)
    network = MinkUNet(NETWORKS[recipe.network], len(recipe.point_features), scans.num_classes)
    objective = LabelObjective(network, recipe.label_loss, scans.class_weights(recipe.label_loss.rare_class_power))
    trainer = Trainer(recipe.trainer, objective, scans, space.training_folder(), group)
    trainer.run(lambda step, steps, _losses: space.progress("train", step, steps))
    return trainer


def _labelled_scans(space: Workspace) -> LabelledScans:
    recipe, num_classes = space.recipe, len(space.recipe.load_label_space())
    files = [f for c in drive_configs(recipe.train_drives) for f in sorted(space.label_folder(c).glob("??????.npz"))]
    return LabelledScans(
        files, recipe.voxel_grid(), recipe.point_features, num_classes, recipe.uses_color, recipe.augmentation
    )


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Progress of processes that have none to show."""


def export(space: Workspace, trainer: Trainer, path: Path, scores: dict[str, float] | None = None) -> None:
    """Writes the trained student; ``scores`` on the held-out drives go into its provenance."""
    provenance = {
        "ov_seg_ros": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "training_scans": len(trainer.examples),
        "labels": "lifted from a simulated 2D teacher, no ground truth"
        if space.recipe.labels == "teacher"
        else "truth",
        "held_out_miou": scores or {},
    }
    description = StudentDescription(
        name=space.recipe.name,
        label_space=space.recipe.load_label_space(),
        grid=space.recipe.voxel_grid(),
        point_features=space.recipe.point_features,
        num_levels=trainer.average.config.num_levels,
        recipe=space.recipe.to_dict(),
        provenance=provenance,
    )
    export_student(trainer.average.eval(), description, path)


def evaluate_student(space: Workspace, path: Path) -> dict[str, Any]:
    """Scores the exported file, and the lifted labels themselves, on the held-out drives.

    Returns:
        JSON types: ``student`` and ``lifted`` (scores per part, see ``Evaluation``), for a colour student also
        ``without_color``, and how they came about.
    """
    segmenter = Segmenter.load(path, provider="cpu")
    space_of_labels = space.recipe.load_label_space()
    rows = {"student": evaluate(_held_out(space, "student"), _with_images(segmenter), space_of_labels)}
    if segmenter.uses_color:
        rows["without_color"] = evaluate(_held_out(space, "lidar alone"), _lidar_only(segmenter), space_of_labels)
    rows["lifted"] = _evaluate_lifted(space)
    return {
        "recipe": space.recipe.name,
        "held_out_drives": [asdict(d) for d in space.recipe.held_out_drives],
        "model_bytes": path.stat().st_size,
        **{name: row.to_dict() for name, row in rows.items()},
    }


def _with_images(segmenter: Segmenter) -> Callable[[Sample], np.ndarray]:
    return lambda sample: segmenter.segment(sample.cloud, sample.images).class_id


def _lidar_only(segmenter: Segmenter) -> Callable[[Sample], np.ndarray]:
    return lambda sample: segmenter.segment(sample.cloud).class_id


def _held_out(space: Workspace, stage: str) -> Iterator[Sample]:
    configs = list(drive_configs(space.recipe.held_out_drives))
    total = sum(c.num_scans for c in configs)
    done = 0
    for config in configs:
        drive = SyntheticFolder(space.drive_folder(config))
        for index in range(len(drive)):
            yield drive.load_sample(index)
            done += 1
            space.progress(f"evaluate {stage}", done, total)


def _evaluate_lifted(space: Workspace) -> Evaluation:
    """The labels that the recipe would have made on the held-out drives, by the same teacher and calibration."""
    lifted: dict[str, np.ndarray] = {}
    for config in drive_configs(space.recipe.held_out_drives):
        labels = _simulated(space.recipe, SyntheticFolder(space.drive_folder(config)), config.seed)
        for index in range(len(labels.drive)):
            lifted[labels.drive.load_sample(index, with_images=False).key] = labels.lift(index).class_id
    return evaluate(_held_out(space, "lifted"), lambda s: lifted[s.key], space.recipe.load_label_space())


def _simulated(recipe: SyntheticRecipe, drive: SyntheticFolder, seed: int) -> SimulatedLabels:
    errors = TeacherErrorConfig(severity=recipe.teacher.severity)
    if not recipe.teacher.calibration_error:
        errors = TeacherErrorConfig(errors.severity, rotation_sigma=0, translation_sigma=0, stamp_sigma=0)
    return SimulatedLabels(drive, errors, seed, recipe.load_label_space())


def _label_one(recipe: SyntheticRecipe, drive_folder: Path, out: Path) -> int:
    drive = SyntheticFolder(drive_folder)
    labels = _simulated(recipe, drive, drive.config.seed)
    return sum(1 for _ in label_drive(labels, out, use_truth=recipe.labels == "truth"))


def _folders(space: Workspace, configs: list[DriveConfig]) -> tuple[list[Path], list[Path]]:
    return [space.drive_folder(c) for c in configs], [space.label_folder(c) for c in configs]
