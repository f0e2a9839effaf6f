"""The stages that train a network: pre-training, learning from lifted labels, and learning from true ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.runtime.model_file import load_model_file
from training.chain import Chain
from training.lift_stage import lifted_files
from training.recipe import LearnSettings
from training.stage_folder import StageFolder
from training.student.contrast import ContrastLoss
from training.student.contrast_objective import ContrastObjective
from training.student.label_objective import LabelledScans, LabelObjective
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.paired_scans import PairedScans
from training.student.process_group import ProcessGroup
from training.student.sparse_backends import use_backend
from training.student.start_weights import start_from, text_head
from training.student.trainer import Trainer, TrainerConfig
from training.student_start import start_from_student
from training.teachers.segment_store import SegmentStore

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class LearningJob:
    """One training from labels; can be sent to other processes.

    Attributes:
        stage: name shown while it runs.
        settings: of the recipe.
        scans: folder of the labelled scans.
        out: folder of the checkpoint.
        start: checkpoint of an earlier training; None to start from random weights, or from the student file that the
            settings name.
    """

    stage: str
    settings: LearnSettings
    scans: Path
    out: Path
    start: Path | None


def run_pretraining(chain: Chain, lifted: StageFolder) -> StageFolder:
    """TMP on the pairs of a lift stage; continues where it stopped.

    Raises:
        InputError: the teacher has no features, there is nothing to learn from, or the folder was made with other
            settings.
    """
    recipe = chain.recipe
    if not lifted_files(lifted.path)[1]:
        raise InputError(f"{lifted.path} holds no pairs: pre-training needs a teacher with features in a text space")
    _paired_scans(chain, lifted.path).require_something_to_learn()
    stage = StageFolder.open(chain.folder("pretrain"), "pretrain", pretrain_settings(chain), {"lift": lifted.hash})
    trainer = run_together(chain, recipe.pretrain.trainer, partial(_pretrain_member, chain.quiet(), lifted.path))
    return stage.finish(trainer.step)


def run_learning(chain: Chain, job: LearningJob, inputs: dict[str, str]) -> tuple[StageFolder, Trainer]:
    """Learns from labels; continues where it stopped, or loads what is already trained.

    Args:
        chain: what all stages share.
        job: what is learned from, and where to.
        inputs: hashes of the stages that went in.

    Raises:
        InputError: there is nothing to learn from, or the folder was made with other settings.
    """
    _labelled_scans(chain, job).require_something_to_learn(job.settings.loss.trust)
    settings = learn_settings(chain, job.settings)
    stage = StageFolder.open(job.out, job.stage, settings, inputs)
    trainer = run_together(chain, job.settings.trainer, partial(_learn_member, chain.quiet(), job))
    return stage.finish(trainer.step), trainer


def pretrain_settings(chain: Chain) -> dict[str, Any]:
    """What decides the result of the pre-training, beside what went in."""
    return {"pretrain": asdict(chain.recipe.pretrain), **network_settings(chain)}


def learn_settings(chain: Chain, settings: LearnSettings) -> dict[str, Any]:
    """What decides the result of a training from labels, beside the labels; a student file counts by its content."""
    learn = asdict(settings)
    if settings.student is not None:
        learn["start"] = f"student {load_model_file(settings.student).sha256}"
    return {"learn": learn, **network_settings(chain)}


def network_settings(chain: Chain) -> dict[str, Any]:
    """What decides the shape of the network and of what it sees."""
    recipe = chain.recipe
    return {"network": recipe.network, "grid": asdict(recipe.grid), "point_features": list(recipe.point_features)}


def run_together(chain: Chain, config: TrainerConfig, member: Any) -> Trainer:
    """Runs a training in all processes there are: those of ``torchrun``, or as many as can share a batch here."""
    group = ProcessGroup.join(chain.device)
    if group.size > 1 or group.device.type != "cpu":
        trainer: Trainer = member(group, progress=chain.progress)
        return trainer
    size = max(n for n in range(1, chain.processes + 1) if config.passes % n == 0)
    with ProcessGroup.local(size, member) as group:
        trainer = member(group, progress=chain.progress)
        return trainer


def _pretrain_member(chain: Chain, lifted: Path, group: ProcessGroup, progress: Any = None) -> Trainer:
    """What each process of a pre-training does."""
    recipe, settings = chain.recipe, chain.recipe.pretrain
    examples = _paired_scans(chain, lifted)
    texts = torch.from_numpy(_text_features(chain))
    loss = ContrastLoss(settings.contrast, texts, torch.from_numpy(chain.dictionary.text_group.astype(np.int64)))
    torch.manual_seed(settings.trainer.seed)
    network = MinkUNet(NETWORKS[recipe.network], len(recipe.point_features), texts.shape[1])
    use_backend(network, chain.backend)
    objective = ContrastObjective(network, loss, settings.negatives)
    trainer = Trainer(settings.trainer, objective, examples, chain.folder("pretrain"), group)
    trainer.run(_reporting(progress, "pretrain"))
    return trainer


def _learn_member(chain: Chain, job: LearningJob, group: ProcessGroup, progress: Any = None) -> Trainer:
    """What each process of a training from labels does."""
    recipe, settings = chain.recipe, job.settings
    scans = _labelled_scans(chain, job)
    torch.manual_seed(settings.trainer.seed)
    network = MinkUNet(NETWORKS[recipe.network], len(recipe.point_features), scans.num_classes)
    use_backend(network, chain.backend)
    if settings.student is not None:
        if not (job.out / CHECKPOINT).exists():  # else it goes on with that
            start_from_student(network, settings.student, scans, group)
    elif job.start is not None:
        start_from(network, job.start)
        if settings.head == "texts":
            temperature = recipe.pretrain.contrast.temperature
            text_head(network, job.start, _text_features(chain), chain.dictionary.text_class, temperature)
    objective = LabelObjective(network, settings.loss, scans.class_weights(settings.loss.rare_class_power))
    trainer = Trainer(settings.trainer, objective, scans, job.out, group)
    trainer.run(_reporting(progress, job.stage))
    return trainer


def _paired_scans(chain: Chain, lifted: Path) -> PairedScans:
    recipe, settings = chain.recipe, chain.recipe.pretrain
    scans, pairs = lifted_files(lifted)
    return PairedScans(scans, pairs, recipe.grid.build(), recipe.point_features, settings.augmentation, settings.pairs)


def _labelled_scans(chain: Chain, job: LearningJob) -> LabelledScans:
    recipe, num_classes = chain.recipe, len(chain.recipe.load_label_space())
    files, _ = lifted_files(job.scans)
    grid, uses_color = recipe.grid.build(), recipe.uses_color
    return LabelledScans(files, grid, recipe.point_features, num_classes, uses_color, job.settings.augmentation)


def _text_features(chain: Chain) -> NDArray[np.float32]:
    found = SegmentStore.open(chain.folder("label"), chain.dictionary).text_features
    if found is None:
        raise InputError(f"{chain.folder('label')} holds no vectors of the texts: label with a teacher that has some")
    return found


def _reporting(progress: Any, stage: str) -> Any:
    return None if progress is None else lambda step, steps, _losses: progress(stage, step, steps)
