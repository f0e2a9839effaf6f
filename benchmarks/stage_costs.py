"""Measures what every stage of AFOV's chain costs: processor time, wall time and disk per 1,000 scans.

    python benchmarks/stage_costs.py [--recipes synthetic_afov afov] [--lidar spinning32] [--scans 2] [--rounds 3]
        [--source SPEC --teacher YAML [--set KEY=VALUE ...]] [--json stage_costs.json]

By default on a synthetic drive that no student learns from; ``--source`` adds another one, with a teacher that needs no
network (masks that are there, see docs/teachers.md; if they have no features, random ones are drawn). Stages are those
of ``training.pipeline``, each in a new folder and on one thread. A first round compiles and is not counted; figures are
those of the round with the least processor time, which is what the work costs whatever else runs, though processors
that are shared make it more. Wall time holds for the load that each row names. Files come from the cache of the disk,
and sizes count in blocks of 4 kB. A training step is a forward and a backward pass of one scan and its share of the
update of the weights; making the batch (reading, augmentation, voxels, tables) is a row of its own, because it stays on
the CPU where the step goes to a GPU. ``--json`` adds to a file that exists, so that parts can be measured one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.stage_costs_material import Material, real_material, synthetic_material
from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.runtime.segmenter import Segmenter
from training.chain import Chain, recipe_path
from training.evaluation import evaluate_all
from training.export import export_student
from training.labelling_estimate import BLOCK
from training.labelling_run import LabellingSettings, label_source
from training.lift_stage import lifted_files
from training.pipeline import StudentLabels, lift, refine
from training.recipe import Recipe
from training.sharding import Shard
from training.student.contrast import ContrastLoss
from training.student.contrast_objective import ContrastObjective
from training.student.label_objective import LabelledScans, LabelObjective
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.paired_scans import PairedScans
from training.student.trainer import Objective, TrainerConfig
from training.teacher_choice import parse_changes
from training.teachers.precomputed import PrecomputedConfig, PrecomputedTeacher
from training.teachers.protocol import Teacher
from training.teachers.segment_store import SegmentStore

QUIET = LabellingSettings(progress=False, prefetch=0)
PER_SAMPLE = ("segments", "scans", "pairs")
"""Folders of the stages with files for every sample."""


@dataclass(frozen=True)
class Cost:
    """One row.

    Attributes:
        source: what was worked on.
        stage: what was done.
        network: that was involved, "" for none.
        cpu_s, wall_s: per 1,000 scans; of an export, per student.
        disk_mb: likewise, in units of 10 ** 6 bytes; None where nothing is written.
        load: of the machine (1 minute) while it was measured.
    """

    source: str
    stage: str
    network: str
    cpu_s: float
    wall_s: float
    disk_mb: float | None = None
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))


def seconds(action: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Processor and wall time of the round with the least processor time; a first round is not counted."""
    took = []
    for _ in range(rounds + 1):
        start = time.process_time(), time.perf_counter()
        action()
        took.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    return min(took[1:])


def disk_bytes(path: Path) -> int:
    """What a file, or those below a folder, take in whole blocks."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(-(-each.stat().st_size // BLOCK) * BLOCK for each in files)


class StageCosts:
    """The stages on one material; each uses what those before it wrote."""

    def __init__(self, material: Material, work: Path, rounds: int) -> None:
        self.material, self.work, self.rounds = material, work, rounds
        self.count = len(material.open_source())

    def data_rows(self, recipe: Recipe) -> Iterator[Cost]:
        """Everything up to the labels of the points, which needs no network here."""
        chain, material = self._chain(recipe), self.material
        source = material.open_source()
        yield self._row("read scan and images", lambda: [source.load_sample(i) for i in range(self.count)])
        folder, copy = chain.folder("label"), self.work / "label_again"
        teacher = material.build_teacher()
        yield self._written(f"label: {material.teacher_name}", folder, lambda: self._label(teacher, folder))
        if material.teacher_name != "precomputed":
            stored = PrecomputedTeacher(PrecomputedConfig(str(folder)), material.dictionary)
            yield self._written("label: precomputed", copy, lambda: self._label(stored, copy))
        yield self._written("lift", chain.folder("lift"), lambda: lift(chain))
        for constants in ("default", "released"):
            settings = replace(recipe.refine, labels=True, constants=constants)
            refining = replace(chain, recipe=replace(recipe, refine=settings))
            action = partial(refine, refining)
            yield self._written(f"refine: AFI, {constants}", chain.folder("refine"), action)

    def network_rows(self, recipe: Recipe) -> Iterator[Cost]:
        """Pre-training, training, export and evaluation of one recipe."""
        paired, contrast = self._pretraining(recipe)
        yield from self._training_rows("pretrain", recipe, recipe.pretrain.trainer, paired, contrast)
        labelled, classes = self._learning(recipe)
        yield from self._training_rows("train", recipe, recipe.train.trainer, labelled, classes)
        model = self.work / f"{recipe.name}.onnx"
        cpu, wall = seconds(lambda: self._export(recipe, classes.network, model), self.rounds)
        yield Cost(self.material.name, "export, each", recipe.network, cpu, wall, disk_bytes(model) / 1e6)
        segmenter = Segmenter.load(model, "cpu", num_threads=1)
        for name, refined in (("evaluate", False), ("evaluate, with AFI", True)):
            yield self._row(name, partial(self._evaluate, recipe, segmenter, refined), recipe.network)

    def _chain(self, recipe: Recipe) -> Chain:
        material = self.material
        return Chain(
            recipe, self.work, material.open_source, material.dictionary, material.build_teacher, Shard(), device="cpu"
        )

    def _row(self, stage: str, action: Callable[[], object], network: str = "") -> Cost:
        """Of an action on all scans."""
        cpu, wall = seconds(action, self.rounds)
        return Cost(self.material.name, stage, network, 1000 * cpu / self.count, 1000 * wall / self.count)

    def _written(self, stage: str, folder: Path, action: Callable[[], object]) -> Cost:
        """Of an action on all scans that writes a folder, which is emptied before."""

        def run() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            action()

        row = self._row(stage, run)
        return replace(row, disk_mb=sum(disk_bytes(folder / part) for part in PER_SAMPLE) / self.count / 1e3)

    def _label(self, teacher: Teacher, folder: Path) -> None:
        label_source(self.material.open_source(), teacher, folder, settings=QUIET)

    def _pretraining(self, recipe: Recipe) -> tuple[PairedScans, ContrastObjective]:
        settings, chain = recipe.pretrain, self._chain(recipe)
        files = lifted_files(chain.folder("lift"))
        examples = PairedScans(
            *files, recipe.grid.build(), recipe.point_features, settings.augmentation, settings.pairs
        )
        texts = SegmentStore.open(chain.folder("label"), chain.dictionary).text_features
        assert texts is not None
        groups = torch.from_numpy(chain.dictionary.text_group.astype(np.int64))
        network = MinkUNet(NETWORKS[recipe.network], len(recipe.point_features), texts.shape[1])
        loss = ContrastLoss(settings.contrast, torch.from_numpy(texts), groups)
        return examples, ContrastObjective(network, loss, settings.negatives)

    def _learning(self, recipe: Recipe) -> tuple[LabelledScans, LabelObjective]:
        settings, num_classes = recipe.train, len(recipe.load_label_space())
        files, _ = lifted_files(self._chain(recipe).folder("lift"))
        examples = LabelledScans(
            files, recipe.grid.build(), recipe.point_features, num_classes, recipe.uses_color, settings.augmentation
        )
        network = MinkUNet(NETWORKS[recipe.network], len(recipe.point_features), num_classes)
        weights = examples.class_weights(settings.loss.rare_class_power)
        return examples, LabelObjective(network, settings.loss, weights)

    def _training_rows(
        self, stage: str, recipe: Recipe, config: TrainerConfig, examples: Any, objective: Objective
    ) -> Iterator[Cost]:
        """Of one scan each; the update of the weights is shared by the batch of the recipe."""
        name, network = self.material.name, objective.network
        rng, levels = np.random.default_rng(0), network.config.num_levels
        cpu, wall = seconds(lambda: [examples.make_batch([i], levels, rng) for i in range(self.count)], self.rounds)
        per = 1000 / self.count
        yield Cost(name, f"{stage}: make batch", recipe.network, per * cpu, per * wall)
        optimizer = config.optimizer.build(network)
        batch = examples.make_batch([0], levels, rng)

        def learn() -> None:
            optimizer.zero_grad()
            objective.loss(batch)[0].backward()

        passes, update = seconds(learn, self.rounds), seconds(optimizer.step, self.rounds)
        cpu, wall = (1000 * (p + u / config.batch_size) for p, u in zip(passes, update, strict=True))
        yield Cost(name, f"{stage}: step", recipe.network, cpu, wall)

    def _export(self, recipe: Recipe, network: MinkUNet, path: Path) -> None:
        description = StudentDescription(
            name=recipe.name,
            label_space=recipe.load_label_space(),
            grid=recipe.grid.build(),
            point_features=recipe.point_features,
            num_levels=network.config.num_levels,
            recipe=recipe.to_dict(),
            provenance={},
        )
        export_student(network.eval(), description, path)

    def _evaluate(self, recipe: Recipe, segmenter: Segmenter, refined: bool) -> None:
        space, constants = recipe.load_label_space(), recipe.refine.afi()
        source, student = self.material.open_truth(), StudentLabels(segmenter)
        rows: dict[str, Any] = {"student": student}
        if refined:
            rows["student + AFI"] = lambda sample: refine_afi(sample.cloud.points, student(sample), space, constants)
        evaluate_all((source.load_sample(i) for i in range(self.count)), rows, space)


def describe_scans(material: Material, lifted: Path) -> dict[str, Any]:
    """Means over the scans of a material: what its costs depend on."""
    source = material.open_source()
    samples = [source.load_sample(i) for i in range(len(source))]
    scans, pairs = lifted_files(lifted)
    labelled = [float((np.load(path)["class_id"] != IGNORE_ID).mean()) for path in scans]
    stored = [np.load(path) for path in pairs]
    return {
        "source": material.name,
        "scans": len(samples),
        "points": float(np.mean([len(s.cloud) for s in samples])),
        "images": float(np.mean([len(s.images) for s in samples])),
        "image_size": [samples[0].images[0].camera.width, samples[0].images[0].camera.height],
        "labelled_points": float(np.mean(labelled)),
        "pairs": float(np.mean([len(p["point"]) for p in stored])),
        "segments": float(np.mean([len(p["text_id"]) for p in stored])),
        "feature_numbers": int(stored[0]["features"].shape[1]),
    }


def print_row(row: Cost) -> None:
    """One line."""
    disk = "" if row.disk_mb is None else f"{row.disk_mb:10,.1f}"
    print(f"{row.source:26} {row.stage:24} {row.network:12} {row.cpu_s:9,.1f} {row.wall_s:9,.1f} {disk}", flush=True)


def write(path: Path, rounds: int, scans: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Writes the figures; rows of other sources, stages and networks that the file holds already stay."""
    machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1}
    old = json.loads(path.read_text()) if path.exists() else {"scans": [], "rows": []}
    measured = {(row["source"], row["stage"], row["network"]) for row in rows}
    kept = [row for row in old["rows"] if (row["source"], row["stage"], row["network"]) not in measured]
    described = {each["source"] for each in scans}
    content = {
        **machine,
        "torch": torch.__version__,
        "rounds": rounds,
        "scans": [each for each in old["scans"] if each["source"] not in described] + scans,
        "rows": kept + rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def materials(options: argparse.Namespace, folder: Path) -> Iterator[Material]:
    """The synthetic drive, and what ``--source`` asks for."""
    if options.lidar != "none":
        yield synthetic_material(folder, options.lidar, options.scans)
    if options.source:
        yield real_material(options.source, options.teacher, parse_changes(options.set), options.scans)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["synthetic_afov", "afov"], help="names or YAML files")
    parser.add_argument("--lidar", choices=("spinning32", "spinning64", "none"), default="spinning32")
    parser.add_argument("--source", help="another source, as `python -m training label --source`")
    parser.add_argument(
        "--teacher", type=Path, default=Path("config/teachers/cityscapes_masks.yaml"), help="of --source"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the teacher")
    parser.add_argument("--scans", type=int, default=2, help="per source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipes = [Recipe.load(recipe_path(name)) for name in options.recipes]
    rows: list[Cost] = []
    about: list[dict[str, Any]] = []
    print(f"{'per 1,000 scans':51} {'network':12} {'CPU s':>9} {'wall s':>9} {'disk MB':>10}")
    with tempfile.TemporaryDirectory() as temporary:
        for number, material in enumerate(materials(options, Path(temporary))):
            costs = StageCosts(material, Path(temporary) / str(number), options.rounds)
            for row in costs.data_rows(recipes[0]):
                rows.append(row)
                print_row(row)
            about.append(describe_scans(material, costs.work / "lift"))
            for recipe in recipes:
                for row in costs.network_rows(recipe):
                    rows.append(row)
                    print_row(row)
    if options.json:
        write(options.json, options.rounds, about, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
