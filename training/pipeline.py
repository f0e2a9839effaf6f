"""Table of contents of the offline side: one short function per stage, in the order of the data flow.

Every stage writes into a folder of its own that knows what made it: settings, and the hashes of the stages before it.
A folder of other settings is refused, an interrupted stage continues where it stopped.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from ov_seg_ros import __version__
from ov_seg_ros.core.data_types import IGNORE_ID, PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.refinement.afi_config import OBJECT_NAMES, AfiConfig
from ov_seg_ros.runtime.model_file import load_model_file
from ov_seg_ros.runtime.segmenter import Segmenter
from training.chain import Chain
from training.evaluation import Evaluation, Predict, evaluate_all
from training.evaluation_report import write_evaluation
from training.export import export_student
from training.finished_labels import find_finished, remember_request
from training.labelling_run import LabellingResult, LabellingSettings, label_source, source_identity
from training.learning_stages import (
    CHECKPOINT,
    LearningJob,
    learn_settings,
    pretrain_settings,
    run_learning,
    run_pretraining,
)
from training.lift_stage import LiftJob, lift_source, lifted_files, require_files
from training.progress import silent
from training.recipe import LearnSettings
from training.sample_journal import list_skipped, read_journals
from training.scored_samples import ScoredSamples
from training.sources.protocol import Source
from training.stage_folder import STAGE_FILE, StageFolder, first_difference, plain_settings
from training.student.examples import LabelledScan
from training.student.trainer import Trainer

PROBES = ("linear", "finetune")

TRUTH, NO_TRUTH = "truth", "no ground truth"
LIFTED = f"lifted from a 2D teacher, {NO_TRUTH}"
LIFTED_AFTER_UNKNOWN = "lifted from a 2D teacher, after others that the first student does not name"

Note = Callable[[str], None]
"""Told, in one line, what whoever started a stage should know."""


def label(chain: Chain) -> LabellingResult:
    """The teacher labels all images of the source; under ``torchrun`` every process its part.

    Where all are labelled, no teacher is built.
    """
    folder, source = chain.folder("label"), chain.open_source()
    if (found := find_finished(folder, source, chain.dictionary, chain.teacher_request, chain.part)) is not None:
        return found
    settings = LabellingSettings(progress=chain.progress is not silent)
    result = label_source(source, chain.build_teacher(), folder, chain.part, settings)
    remember_request(result, chain.teacher_request)
    return result


def lift(chain: Chain) -> StageFolder:
    """What the teacher said gets onto the points: labels, and pairs for the pre-training.

    Raises:
        InputError: another source than this one was labelled, or what ``lift_source`` raises.
    """
    labelled = StageFolder.load(chain.folder("label")).require_complete()
    _require_source(labelled, chain.open_source())
    stage = StageFolder.open(chain.folder("lift"), "lift", _lift_settings(chain), {"label": labelled.hash})
    return _lift(chain, stage, chain.folder("label"))


def true_labels(chain: Chain) -> StageFolder:
    """Labelled scans with the ground truth of the source, for probing, fine-tuning and supervised ceilings.

    Raises:
        InputError: the source has no ground truth in the recipe's label space, or too many samples are corrupt.
    """
    source = chain.open_source()
    space = chain.recipe.load_label_space()
    require_truth(source, space)
    settings = {
        "source": source_identity(source, truth=True),
        "colors": chain.recipe.lift.colors,
        "label_space": space.name,
    }
    folder = chain.folder(f"truth-{source.name}-{len(source)}")
    return _lift(chain, StageFolder.open(folder, "truth", settings), None)


def require_truth(source: Source, label_space: LabelSpace) -> None:
    """Refuses a source that a student with these classes can neither learn from nor be judged by.

    Raises:
        InputError: it has no ground truth, or one of other classes.
    """
    have = source.label_space
    if have is None or have.class_names != label_space.class_names:
        raise InputError(
            f"source {source.name} has ground truth of label space {have.name if have else 'none'}, needed is "
            f"{label_space.name}; choose a source with labels, or give it labels=..."
        )


def wait_for(chain: Chain, stage: str, seconds: float = 5.0) -> None:
    """Returns when all processes of ``torchrun`` have done their part of a stage; looks every so many seconds."""
    while not StageFolder.load(chain.folder(stage)).complete and chain.part.world > 1:
        time.sleep(seconds)


def refine(chain: Chain) -> StageFolder:
    """AFI on the lifted labels, if the recipe wants it; otherwise they stay as they are."""
    lifted = _lifted(chain)
    if not chain.recipe.refine.labels:
        return lifted
    space, constants = chain.recipe.load_label_space(), chain.recipe.refine.afi()
    stage = StageFolder.open(chain.folder("refine"), "refine", {"afi": asdict(constants)}, {"lift": lifted.hash})
    if chain.part.rank:
        wait_for(chain, "refine")
        return StageFolder.load(stage.path)
    files, _ = lifted_files(lifted.path)
    for done, path in enumerate(files, 1):
        target = stage.path / "scans" / path.name
        if not target.exists():
            scan = LabelledScan.load(path, chain.recipe.lift.colors)
            refined = refine_afi(scan.points, scan.class_id, space, constants)
            # Labels that AFI gives to points without one are trusted as the mean of the others is.
            fresh = (scan.class_id == IGNORE_ID) & (refined != IGNORE_ID)
            mean = scan.confidence[scan.class_id != IGNORE_ID].mean() if fresh.any() else 0
            confidence = np.where(fresh, mean, scan.confidence).astype(np.float32)
            replace(scan, class_id=refined, confidence=confidence).save(target)
        chain.progress("refine", done, len(files))
    return stage.finish(len(files))


def pretrain(chain: Chain) -> StageFolder:
    """TMP: the network learns what the teacher's segments and texts look like in 3D, without classes."""
    return run_pretraining(chain, _lifted(chain))


def train(chain: Chain) -> tuple[StageFolder, Trainer]:
    """The network learns the classes from the lifted labels."""
    scans = refine(chain)
    start, inputs = _start(chain, chain.recipe.train)
    job = LearningJob("train", chain.recipe.train, scans.path, chain.folder("train"), start)
    return run_learning(chain, job, {scans.stage: scans.hash, **inputs})


def probe(chain: Chain, mode: str) -> tuple[StageFolder, Trainer]:
    """The network learns from the ground truth of the source: "linear" its head only, "finetune" all.

    Raises:
        ConfigError: an unknown mode.
        InputError: the source has no ground truth in the recipe's label space.
    """
    if mode not in PROBES:
        raise ConfigError(f"probe mode must be one of {', '.join(PROBES)}, got {mode!r}")
    settings = chain.recipe.probe if mode == "linear" else chain.recipe.finetune
    start, inputs = _start(chain, settings)
    truth = true_labels(chain)
    wait_for(chain, truth.path.name)
    truth = StageFolder.load(truth.path).require_complete()
    out = chain.folder(f"{mode}-{truth.path.name.removeprefix('truth-')}")
    return run_learning(chain, LearningJob(mode, settings, truth.path, out, start), {"truth": truth.hash, **inputs})


def export(chain: Chain, stage: StageFolder, trainer: Trainer, path: Path) -> None:
    """Writes a trained network as a student file that knows where it comes from.

    Once a network has learned from ground truth, so has every student that starts from it.
    """
    recipe = chain.recipe
    description = StudentDescription(
        name=recipe.name,
        label_space=recipe.load_label_space(),
        grid=recipe.grid.build(),
        point_features=recipe.point_features,
        num_levels=trainer.average.config.num_levels,
        recipe=recipe.to_dict(),
        provenance={
            "ov_seg_ros": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "stage": stage.stage,
            "hash": stage.hash,
            "training_scans": len(trainer.examples),
            **_learned_from(chain, stage),
        },
    )
    export_student(trainer.average.cpu().eval(), description, path)


def _learned_from(chain: Chain, stage: StageFolder) -> dict[str, Any]:
    """Which labels a network has seen: those of its own training, and before that those of the student it began as."""
    recipe, labels = chain.recipe, TRUTH if "truth" in stage.inputs else LIFTED
    settings = {"train": recipe.train, "linear": recipe.probe, "finetune": recipe.finetune}[stage.stage]
    if settings.student is None:
        return {"labels": labels}
    start = load_model_file(settings.student)
    before = start.description.provenance.get("labels")
    if labels == LIFTED and (before is None or NO_TRUTH not in before):
        labels = before or LIFTED_AFTER_UNKNOWN
    return {"labels": labels, "start": {"name": start.description.name, "sha256": start.sha256, "labels": before}}


def evaluate(chain: Chain, model: Path, out: Path, note: Note = lambda line: None) -> dict[str, Evaluation]:
    """Scores a student on the ground truth of the source, before and after AFI; writes tables, plots and JSON.

    Where the lift stage is of the same source, its labels are scored too, and AFI with the help of them (image assist).
    Corrupt samples and those without ground truth are part of no score and listed beside these.

    Args:
        chain: recipe and source.
        model: file of the student.
        out: folder of the results.
        note: told what is left out, and why.

    Raises:
        ModelError: there is no such student.
        InputError: the source has no ground truth in the student's label space, or too many samples are corrupt.
    """
    segmenter = Segmenter.load(model)
    space = segmenter.description.label_space
    source = chain.open_source()
    require_truth(source, space)
    rows: dict[str, Predict] = {}
    if space.class_names == chain.dictionary.label_space.class_names and _lifted_from_source(chain, note):
        rows["lifted"] = lifted_labels(chain)
    student = StudentLabels(segmenter)
    rows["student"] = student
    if chain.recipe.refine.predictions:
        rows |= _refined(student, space, chain.recipe.refine.afi(), rows.get("lifted"))
    samples = ScoredSamples(source, partial(chain.progress, "evaluate"))
    results = evaluate_all(samples, rows, space)
    write_evaluation(out, results)
    list_skipped(out, samples.skipped)
    if samples.without_truth:
        note(f"{samples.without_truth} of {len(source)} samples have no ground truth and are part of no score")
    return results


def _refined(student: Predict, space: LabelSpace, constants: AfiConfig, lifted: Predict | None) -> dict[str, Predict]:
    """Rows after AFI: without images and, where it is known what these say of which objects, with them."""

    def refined(sample: Sample, image_labels: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        return refine_afi(sample.cloud.points, student(sample), space, constants, image_labels=image_labels)

    rows: dict[str, Predict] = {"student + AFI": refined}
    if lifted is not None and np.isin(space.class_names, OBJECT_NAMES).any():
        rows["student + AFI + images"] = lambda sample: refined(sample, lifted(sample))
    return rows


def lifted_labels(chain: Chain) -> Predict:
    """The labels that the lift stage gave to the points of a sample of its source; none to others."""
    lifted = chain.folder("lift")
    entries = read_journals(lifted).items()
    file_of = {e.key: lifted / "scans" / f"{i:06d}.npz" for i, e in entries if e.cameras and not e.error}

    def labels(sample: Sample) -> NDArray[np.uint8]:
        if sample.key not in file_of:
            return np.full(len(sample.cloud), IGNORE_ID, np.uint8)
        return LabelledScan.load(file_of[sample.key], False).class_id

    return labels


class StudentLabels:
    """The labels of a student, computed once per sample however many rows ask for them."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._last: tuple[PointCloud, NDArray[np.uint8]] | None = None

    def __call__(self, sample: Sample) -> NDArray[np.uint8]:
        """(N,) uint8."""
        if self._last is None or self._last[0] is not sample.cloud:
            self._last = (sample.cloud, self._segmenter.segment(sample.cloud, sample.images).class_id)
        return self._last[1]


def _lift(chain: Chain, stage: StageFolder, store: Path | None) -> StageFolder:
    job = LiftJob(
        chain.open_source,
        chain.recipe.lift,
        stage.path,
        len(chain.recipe.load_label_space()),
        None if store is None else chain.dictionary,
        store,
    )
    return lift_source(
        job, stage, chain.part, chain.processes, progress=lambda done, total: chain.progress(stage.stage, done, total)
    )


def _lift_settings(chain: Chain) -> dict[str, Any]:
    return {"lift": asdict(chain.recipe.lift), "dictionary": chain.dictionary.hash}


def _lifted(chain: Chain) -> StageFolder:
    """The lift stage, whole, of the source of this chain and of its labels; these may have been deleted since."""
    stage = chain.finished("lift", _lift_settings(chain))
    if (chain.folder("label") / STAGE_FILE).exists():
        labelled = StageFolder.load(chain.folder("label"))
        _require_source(labelled, chain.open_source())
        if (before := stage.inputs.get("label", "none")) != labelled.hash:
            raise InputError(
                f"{stage.path} was lifted from labels {before[:12]}, {labelled.path} now holds {labelled.hash[:12]}; "
                f"delete {stage.path} and run lift again"
            )
    return require_files(stage)


def _require_source(labelled: StageFolder, source: Source) -> None:
    """Refuses another source than the one that was labelled; the first difference is named."""
    have, want = labelled.settings.get("source", {}), plain_settings(source_identity(source))
    if difference := first_difference({"source": have}, {"source": want}):
        key, came, expected = difference
        raise InputError(
            f"{labelled.path} was made with {key} = {came}, source {source.name} has {expected}; give the "
            "--source that was labelled, or another --work for this one"
        )


def _start(chain: Chain, settings: LearnSettings) -> tuple[Path | None, dict[str, str]]:
    """The checkpoint to start from, and the hash of the stage that made it; a student file is part of the settings."""
    start = settings.start
    if start == "random" or settings.student is not None:
        return None, {}
    made_with = pretrain_settings(chain) if start == "pretrain" else learn_settings(chain, chain.recipe.train)
    stage = chain.finished(start, made_with)
    return stage.path / CHECKPOINT, {start: stage.hash}


def _lifted_from_source(chain: Chain, note: Note) -> bool:
    """Whether the lift stage is of the very source that is evaluated; what stops it from being used is noted."""
    labelled = chain.folder("label")
    if not all((folder / STAGE_FILE).exists() for folder in (labelled, chain.folder("lift"))):
        return False
    source = chain.open_source()
    if StageFolder.load(labelled).settings.get("source") != plain_settings(source_identity(source)):
        return False
    try:
        _lifted(chain)
    except InputError as error:
        note(f"no scores of the lifted labels, nor of AFI with them: {error}")
        return False
    return True
