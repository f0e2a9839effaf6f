"""What images of KITTI, labelled by a 2D network, teach about scans of SemanticKITTI, against synthetic drives.

    python benchmarks/kitti_chain.py --data FOLDER [--seeds 3] [--json kitti_chain.json] [--work build/kitti_chain]

FOLDER holds ``kitti_raw/2011_09_26`` and ``kitti_object/training`` to learn from, ``masks_2d`` with what a Cityscapes
network says about their images, and ``semantickitti/sequences/00`` to be judged on. The masks are lifted to the points,
one student per seed learns from them (``config/recipes/kitti_masks.yaml``), and all are scored beside the shipped
student on every labelled scan of the sequence, before and after AFI. "fine-tuned" students start from the shipped one
instead of from random weights. No ground truth is learned from, and nothing was chosen by these scores. Without the
data nothing is measured. A killed run goes on where it stopped.

KITTI's one camera looks forward, so the labels cover a narrow part of a scan; what lies beside and behind the vehicle,
and the ground just before it, a student knows only from scans turned at random in training. "in view" are the points
that this camera would see. mIoU runs over the shared classes that the truth holds; "all shared" also counts those that
a student invents.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.core.data_types import IGNORE_ID, Sample
from ov_seg_ros.core.projection import project_cloud
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.runtime.model_file import load_model_file, shipped_model_path
from ov_seg_ros.runtime.segmenter import Segmenter
from training.chain import Chain, recipe_path
from training.commands.options import Bars, positive
from training.evaluation import Evaluation, Predict, evaluate_all
from training.lift_stage import lifted_files
from training.pipeline import StudentLabels, export, label, lift, train
from training.recipe import Recipe
from training.sources.joined import JoinedSource
from training.sources.kitti_object import KittiObject
from training.sources.kitti_raw import KittiRaw
from training.sources.semantickitti import SemanticKitti
from training.student.examples import LabelledScan

RAW, OBJECT, MASKS = Path("kitti_raw/2011_09_26"), Path("kitti_object/training"), Path("masks_2d")
TEST = Path("semantickitti/sequences/00")
MASK_FILES = "*/{key_name}"
"""Masks lie in one folder per data set, named as the image."""

SYNTHETIC, LIFTED, FINE_TUNED = "synthetic student", "kitti_chain", "fine-tuned on KITTI"

FINE_TUNING_STEPS, FINE_TUNING_RATE = 100, 1e-3
"""A quarter of the steps and of the peak learning rate of a training from random weights."""

PARTS = {"whole": "miou", "seen": "miou_in_view", "unseen": "miou_out_of_view"}


def open_training(data: Path) -> JoinedSource:
    """The frames that are learned from; none has ground truth."""
    return JoinedSource([KittiRaw(data / RAW), KittiObject(data / OBJECT)])


def labelled_samples(source: SemanticKitti) -> Iterator[Sample]:
    """The scans of a sequence that have ground truth."""
    for index in range(len(source)):
        sample = source.load_sample(index)
        if sample.class_id is not None:
            yield sample


def prepare(data: Path, work: Path, folder: str, recipe: Recipe) -> Chain:
    """The stages of one training; all trainings share the lifted labels."""
    changes: dict[str, object] = {"folder": str(data / MASKS), "stem": MASK_FILES, "layout": "label_maps"}
    chain = Chain.prepare(recipe, [str(data / RAW)], work / folder, changes)
    return replace(chain, open_source=partial(open_training, data), data=work)


def trainings(options: argparse.Namespace, recipe: Recipe) -> Iterator[tuple[str, Chain]]:
    """Every training with the row it belongs to."""
    first, config, shipped = options.steps, recipe.train.trainer, str(shipped_model_path())
    for row, folder, start, steps, rate in (
        (LIFTED, "seed", recipe.train.start, first or config.steps, config.optimizer.learning_rate),
        (FINE_TUNED, "tuned", shipped, first or FINE_TUNING_STEPS, FINE_TUNING_RATE),
    ):
        for seed in range(options.seeds):
            optimizer = replace(config.optimizer, learning_rate=rate)
            trainer = replace(config, seed=seed, steps=steps, optimizer=optimizer)
            changed = replace(recipe, train=replace(recipe.train, start=start, trainer=trainer))
            yield row, prepare(options.data, options.work, f"{folder}{seed}", changed)


def learn(chain: Chain) -> Path:
    """Masks to points to a student file."""
    label(chain)
    lift(chain)
    stage, trainer = train(chain)
    model = chain.work / "student.onnx"
    export(chain, stage, trainer, model)
    return model


def count_labels(chain: Chain) -> dict[str, Any]:
    """What the lifted scans teach: their number, the share of points with a label, and the points per class."""
    names = chain.recipe.load_label_space().class_names
    files, _ = lifted_files(chain.folder("lift"))
    counts = sum(np.bincount(LabelledScan.load(path, False).class_id, minlength=IGNORE_ID + 1) for path in files)
    counts = np.asarray(counts)
    labelled = int(counts[:IGNORE_ID].sum())
    return {
        "training_scans": len(files),
        "labelled_share": labelled / float(counts.sum()),
        "labelled_points": {name: int(n) for name, n in zip(names, counts, strict=False) if n},
    }


def score(students: Mapping[str, Sequence[Path]], data: Path, recipe: Recipe) -> dict[str, list[Evaluation]]:
    """All students of a row, each alone and with AFI, on the labelled scans."""
    source, image = SemanticKitti(data / TEST, recipe.label_space), open_training(data).load_sample(0).images[0]
    space, constants = recipe.load_label_space(), recipe.refine.afi()

    def in_view(sample: Sample) -> NDArray[np.bool_]:
        projection = project_cloud(sample.cloud.points, image.camera_from_lidar, image.camera, occlusion=None)
        seen = np.zeros(len(sample.cloud), np.bool_)
        seen[projection.point_index] = True
        return seen

    def with_afi(student: Predict, sample: Sample) -> NDArray[np.uint8]:
        return refine_afi(sample.cloud.points, student(sample), space, constants)

    rows: dict[tuple[str, int], Predict] = {}
    for name, paths in students.items():
        for number, path in enumerate(paths):
            student = StudentLabels(Segmenter.load(path, "cpu", 1))
            rows[name, number] = student
            rows[f"{name} + AFI", number] = partial(with_afi, student)
    named = {f"{name} {number}": predict for (name, number), predict in rows.items()}
    shared = source.mapping.shared_class_ids
    found = evaluate_all(labelled_samples(source), named, space, class_ids=shared, seen=in_view)
    grouped: dict[str, list[Evaluation]] = {}
    for name, number in rows:
        grouped.setdefault(name, []).append(found[f"{name} {number}"])
    return grouped


def summarize(name: str, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """One row of the result, over the seeds; standard deviations are those of the seeds."""
    found = [evaluation.to_dict() for evaluation in evaluations]
    row: dict[str, Any] = {"name": name, "trainings": len(found)}
    for part, key in PARTS.items():
        row |= _mean_and_spread(key, [scores[part]["miou"] for scores in found])
    row |= _mean_and_spread("miou_all_shared", [scores["whole"]["miou_fair"] for scores in found])
    row |= _mean_and_spread("accuracy", [scores["whole"]["accuracy"] for scores in found])
    row["miou_by_seed"] = [scores["whole"]["miou"] for scores in found]
    classes = {c: [scores["whole"]["iou"][c] for scores in found] for c in found[0]["evaluated_classes"]}
    row["iou"] = {c: _mean_and_spread("iou", ious) for c, ious in classes.items() if None not in ious}
    row["ranges"] = [
        {"from_m": band["from_m"], "to_m": band["to_m"], "points": band["points"]}
        | _mean_and_spread("miou", [scores["ranges"][i]["miou"] for scores in found])
        for i, band in enumerate(found[0]["ranges"])
    ]
    return row


def _mean_and_spread(key: str, values: Sequence[float | None]) -> dict[str, float | None]:
    known = np.array([v for v in values if v is not None], np.float64)
    if not len(known):
        return {f"{key}_mean": None, f"{key}_std": None}
    return {f"{key}_mean": float(known.mean()), f"{key}_std": float(known.std(ddof=1)) if len(known) > 1 else 0.0}


def train_seconds(chain: Chain) -> float:
    """Of all steps of a training."""
    with (chain.folder("train") / "log.csv").open() as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


def missing_data(data: Path | None) -> str:
    """Why nothing can be measured; empty if it can."""
    if data is None:
        return "give --data FOLDER with kitti_raw, kitti_object, masks_2d and semantickitti"
    absent = [str(data / part) for part in (RAW, OBJECT, MASKS, TEST) if not (data / part).is_dir()]
    return f"there is no {', '.join(absent)}" if absent else ""


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Percent; mean and standard deviation over the seeds."""
    keys = (*PARTS.values(), "miou_all_shared", "accuracy")
    titles = ("mIoU", "in view", "out of view", "all shared", "accuracy")
    print(f"{'percent':24}", *(f"{title:>14}" for title in titles))
    for row in rows:
        print(f"{row['name']:24}", *(_cell(row, key) for key in keys))
    print(f"\n{'IoU, percent':24}", *(f"{row['name']:>24}" for row in rows))
    for name in rows[0]["iou"]:
        print(f"{name:24}", *(f"{_cell(row['iou'][name], 'iou'):>24}" for row in rows))


def _cell(values: Mapping[str, float | None], key: str) -> str:
    mean, spread = values[f"{key}_mean"], values[f"{key}_std"]
    return " " * 13 + "-" if mean is None or spread is None else f"{100 * mean:7.1f} +- {100 * spread:3.1f}"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Trains everything and scores it."""
    recipe, shipped = Recipe.load(recipe_path("kitti_masks")), shipped_model_path()
    students: dict[str, list[Path]] = {SYNTHETIC: [shipped]}
    seconds: dict[str, list[float]] = {}
    with Bars() as bars:
        for row, chain in trainings(options, recipe):
            shown = replace(chain, progress=partial(_show, bars, chain.work.name))
            students.setdefault(row, []).append(learn(shown))
            seconds.setdefault(row, []).append(train_seconds(chain))
    found = score(students, options.data, recipe)
    test = SemanticKitti(options.data / TEST, recipe.label_space)
    return {
        "command": shlex.join(["python", "benchmarks/kitti_chain.py", *options.given]),
        "seeds": list(range(options.seeds)),
        "test_scans": [sample.key for sample in labelled_samples(test)],
        "shared_classes": [test.mapping.target.class_names[i] for i in test.mapping.shared_class_ids],
        **count_labels(chain),
        "train_seconds": seconds,
        "rows": [summarize(name, evaluations) for name, evaluations in found.items()],
        "synthetic_student_sha256": load_model_file(shipped).sha256,
        "recipe": recipe.to_dict(),
        "fine_tuning": {"steps": options.steps or FINE_TUNING_STEPS, "learning_rate": FINE_TUNING_RATE},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "processes": 1, "threads": 1},
    }


def _show(bars: Bars, training: str, stage: str, done: int, total: int) -> None:
    bars(f"{training} {stage}", done, total)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the samples; without it nothing is measured")
    parser.add_argument("--work", type=Path, default=Path("build/kitti_chain"), help="(default: %(default)s)")
    parser.add_argument("--seeds", type=positive, default=3, help="trainings (default: %(default)s)")
    parser.add_argument("--steps", type=positive, help="instead of the recipe's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    options.given = sys.argv[1:] if arguments is None else list(arguments)
    if reason := missing_data(options.data):
        print(f"skipped: {reason}")
        return
    torch.set_num_threads(1)
    result = run(options)
    share, tests = 100 * result["labelled_share"], len(result["test_scans"])
    print(f"{result['training_scans']} scans with labels on {share:.1f} % of the points, judged on {tests} scans\n")
    print_table(result["rows"])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
