"""What each part of the method gains, on synthetic drives: equal network, data and steps with and without it.

Every seed has training drives of its own, its own order of scans and its own first weights. All rows of a seed learn
from the same scans for the same number of steps, pre-training included, and are scored on drives that no training of
this repository uses. Nothing is chosen by those scores. Who starts from random weights, learns with the rates of the
pre-training, which does so too. One more row, ``baseline_short``, leaves out the pre-training without putting its steps
into the labels: what the same number of steps on labels reaches from random weights. With the 64 numbers of the
simulated features, steps of the pre-training take about as long as those on labels.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.runtime.segmenter import Segmenter
from training.atomic_files import write_json
from training.chain import Chain
from training.dictionary import DICTIONARIES, ClassDictionary
from training.drive_sets import DriveSet, drive_configs, drive_folder, render_drives, short_hash
from training.evaluation import Evaluation, Predict, evaluate_all
from training.labelling_run import LabellingSettings, label_source
from training.learning_stages import LearningJob, run_learning
from training.pipeline import StudentLabels, export, lift, lifted_labels, pretrain, train, true_labels
from training.progress import Progress
from training.recipe import Recipe
from training.sharding import Shard
from training.simulated_drives import CalibratedDrives, RenderedDrives, SimulatedDriveTeacher, TrueDrives
from training.stage_folder import StageFolder
from training.teachers.simulated import TeacherErrorConfig
from training.teachers.simulated_features import SimulatedFeatures
from training.teachers.simulated_text_space import TextSpace
from training.worker_pool import WorkerPool

DICTIONARY = "nuscenes"
SCORES = "scores.json"

HELD_OUT = (
    DriveSet("spinning32", (311, 313), scans=12, scan_stride=20),
    DriveSet("spinning64", (312, 314), scans=12, scan_stride=20),
)
VALIDATION = (
    DriveSet("spinning32", (211,), scans=12, scan_stride=20),
    DriveSet("spinning64", (212,), scans=12, scan_stride=20),
)
"""To choose settings by; never part of a result."""


def train_drives(seed: int, share: float = 1.0) -> tuple[DriveSet, ...]:
    """39 drives of 8 scans for each of three seeds, two thirds with 32 beams; those of `make student`, divided.

    Args:
        seed: 0, 1 or 2.
        share: of these drives that is used.
    """
    few, fewer = round(26 * share), round(13 * share)
    return (
        DriveSet("spinning32", tuple(range(1001 + 26 * seed, 1001 + 26 * seed + few)), scans=8, scan_stride=25),
        DriveSet("spinning64", tuple(range(1081 + 13 * seed, 1081 + 13 * seed + fewer)), scans=8, scan_stride=25),
    )


@dataclass(frozen=True)
class Arm:
    """One way to train: what is changed in the recipe.

    Attributes:
        text, image: the terms of the pre-training; without both there is none, and its steps go into the labels.
        truth: learn from the ground truth of every point.
        short: leave out the pre-training without putting its steps into the labels.
    """

    text: bool = False
    image: bool = False
    truth: bool = False
    short: bool = False

    def change(self, recipe: Recipe, seed: int) -> Recipe:
        """The recipe of this arm; pre-training and training together have the same number of steps in all but one.

        Raises:
            ConfigError: the recipe counts epochs, or its batches differ: then steps cannot be compared.
        """
        first, second = recipe.pretrain.trainer, recipe.train.trainer
        if not first.steps or not second.steps or first.batch_size != second.batch_size:
            raise ConfigError(
                f"recipe {recipe.name}: pretrain and train must both give steps, and the same batch_size, to be "
                f"compared; got {first.steps} and {second.steps} steps of {first.batch_size} and {second.batch_size}"
            )
        before, after = replace(first, seed=seed), replace(second, seed=seed)
        pretrained = self.text or self.image
        if not pretrained:
            steps = after.steps if self.short else before.steps + after.steps
            after = replace(before, steps=steps)
        contrast = recipe.pretrain.contrast
        contrast = replace(
            contrast,
            text_weight=contrast.text_weight if self.text else 0.0,
            image_weight=contrast.image_weight if self.image or not pretrained else 0.0,
        )
        start, head = ("pretrain", recipe.train.head) if pretrained else ("random", "fresh")
        return replace(
            recipe,
            pretrain=replace(recipe.pretrain, contrast=contrast, trainer=before),
            train=replace(recipe.train, trainer=after, start=start, head=head),
        )


ARMS = {
    "baseline": Arm(),
    "baseline_short": Arm(short=True),
    "tmp": Arm(text=True, image=True),
    "tmp_no_text": Arm(image=True),
    "tmp_no_image": Arm(text=True),
    "ceiling": Arm(truth=True),
}


@dataclass(frozen=True)
class SyntheticBenchmark:
    """Settings of one run; can be sent to other processes.

    Attributes:
        recipe: of the method.
        work: folder of the results.
        drives: folder of the rendered drives.
        seeds: 0, 1 and 2.
        held_out: where students are judged.
        share: of the training drives of a seed that is used.
        processes: trainings side by side.
        arms: names of ``ARMS``.
    """

    recipe: Recipe
    work: Path
    drives: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    held_out: tuple[DriveSet, ...] = HELD_OUT
    share: float = 1.0
    processes: int = 1
    arms: tuple[str, ...] = tuple(ARMS)

    @property
    def judged(self) -> str:
        """Folder of what the teacher says about the drives where students are judged."""
        return f"judged-{short_hash([asdict(d) for d in self.held_out])}"

    def folders(self, drives: tuple[DriveSet, ...]) -> tuple[Path, ...]:
        """Of rendered drives."""
        return tuple(drive_folder(self.drives, config) for config in drive_configs(drives))

    def chain(self, name: str, drives: tuple[DriveSet, ...], recipe: Recipe, true: bool = False) -> Chain:
        """The stages on some drives."""
        dictionary = ClassDictionary.load(DICTIONARIES / f"{DICTIONARY}.yaml", recipe.load_label_space())
        folders = self.folders(drives)
        source = partial(_open_true if true else _open_calibrated, folders)
        teacher = partial(_build_teacher, folders, dictionary)
        data = self.work / name.split("/")[0]
        return Chain(recipe, self.work / name, source, dictionary, teacher, Shard(), device="cpu", data=data)


def run_benchmark(benchmark: SyntheticBenchmark, progress: Progress) -> dict[str, list[dict[str, Any]]]:
    """Everything, in as many processes as there shall be; what is done already stays as it is.

    Returns:
        By row, one entry per seed: ``scores`` (an ``Evaluation`` as JSON types) and ``train_seconds``.
    """
    sets = {
        benchmark.judged: benchmark.held_out,
        **{f"seed{s}": train_drives(s, benchmark.share) for s in benchmark.seeds},
    }
    render_drives(
        benchmark.drives, [c for drives in sets.values() for c in drive_configs(drives)], benchmark.processes, progress
    )
    with WorkerPool(benchmark.processes) as pool:
        for done, _ in enumerate(pool.map(_prepare, [benchmark] * len(sets), sets.keys(), sets.values()), 1):
            progress("label and lift", done, len(sets))
        jobs = [(seed, arm) for seed in benchmark.seeds for arm in benchmark.arms]
        rows: dict[str, list[dict[str, Any]]] = {}
        for done, found in enumerate(pool.map(_train_and_score, [benchmark] * len(jobs), *zip(*jobs, strict=True)), 1):
            progress("train and score", done, len(jobs))
            for name, entry in found.items():
                rows.setdefault(name, []).append(entry)
    lifted = {"scores": _score_lifted(benchmark).to_dict(), "train_seconds": 0.0}
    return {"lifted": [lifted] * len(benchmark.seeds), **rows}


def _prepare(benchmark: SyntheticBenchmark, name: str, drives: tuple[DriveSet, ...]) -> None:
    torch.set_num_threads(1)
    chain = benchmark.chain(name, drives, benchmark.recipe)
    label_source(
        chain.open_source(), chain.build_teacher(), chain.folder("label"), settings=LabellingSettings(progress=False)
    )
    lift(chain)


def _train_and_score(benchmark: SyntheticBenchmark, seed: int, arm: str) -> dict[str, dict[str, Any]]:
    """Rows of one training: without and with AFI."""
    torch.set_num_threads(1)
    change = ARMS[arm]
    chain = benchmark.chain(
        f"seed{seed}/{arm}",
        train_drives(seed, benchmark.share),
        change.change(benchmark.recipe, seed),
        true=change.truth,
    )
    stage, trainer = _learn(chain, change)
    settings = {"held_out": [asdict(d) for d in benchmark.held_out], "afi": asdict(chain.recipe.refine.afi())}
    scored = StageFolder.open(chain.folder("scores"), "scores", settings, {"learn": stage.hash})
    path = scored.path / SCORES
    if not scored.complete:
        model = chain.work / "student.onnx"
        export(chain, stage, trainer, model)
        rows = _score(benchmark, chain, model)
        write_json(path, {name: row.to_dict() for name, row in rows.items()})
        scored.finish(len(rows))
    seconds = sum(_seconds(p) for p in (chain.folder("pretrain"), stage.path))
    scores: Mapping[str, Any] = json.loads(path.read_text())
    return {
        f"{arm}{suffix}": {"scores": scores[row], "train_seconds": seconds}
        for row, suffix in (("student", ""), ("student + AFI", "_afi"))
    }


def _learn(chain: Chain, arm: Arm) -> tuple[StageFolder, Any]:
    if arm.truth:
        truth = true_labels(chain)
        return run_learning(
            chain,
            LearningJob("train", chain.recipe.train, truth.path, chain.folder("train"), None),
            {"truth": truth.hash},
        )
    if chain.recipe.train.start == "pretrain":
        pretrain(chain)
    return train(chain)


def _score(benchmark: SyntheticBenchmark, chain: Chain, model: Path) -> dict[str, Evaluation]:
    space, constants = chain.recipe.load_label_space(), chain.recipe.refine.afi()
    student = StudentLabels(Segmenter.load(model, provider="cpu"))
    rows: dict[str, Predict] = {
        "student": student,
        "student + AFI": lambda sample: refine_afi(sample.cloud.points, student(sample), space, constants),
    }
    return evaluate_all(_held_out(benchmark), rows, space)


def _score_lifted(benchmark: SyntheticBenchmark) -> Evaluation:
    chain = benchmark.chain(benchmark.judged, benchmark.held_out, benchmark.recipe)
    rows = {"lifted": lifted_labels(chain)}
    return evaluate_all(_held_out(benchmark), rows, benchmark.recipe.load_label_space())["lifted"]


def _held_out(benchmark: SyntheticBenchmark) -> Iterator[Sample]:
    source = _open_true(benchmark.folders(benchmark.held_out))
    return (source.load_sample(index) for index in range(len(source)))


def _seconds(folder: Path) -> float:
    """Of all steps of a training."""
    path = folder / "log.csv"
    if not path.exists():
        return 0.0
    with path.open() as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


def _open_calibrated(folders: tuple[Path, ...]) -> CalibratedDrives:
    return CalibratedDrives(RenderedDrives(folders))


def _open_true(folders: tuple[Path, ...]) -> TrueDrives:
    return TrueDrives(RenderedDrives(folders))


def _build_teacher(folders: tuple[Path, ...], dictionary: ClassDictionary) -> SimulatedDriveTeacher:
    features = SimulatedFeatures(TextSpace.make(dictionary))
    return SimulatedDriveTeacher(RenderedDrives(folders), TeacherErrorConfig(), features)
