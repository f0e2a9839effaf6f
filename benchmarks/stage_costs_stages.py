"""What ``stage_costs.py`` measures: every stage of AFOV's chain on some scans, each from what those before it wrote."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.stage_costs_material import Material
from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.runtime.segmenter import Segmenter
from training.chain import Chain
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
from training.student.sparse_backends import use_backend
from training.student.trainer import Objective, TrainerConfig
from training.teachers.precomputed import PrecomputedConfig, PrecomputedTeacher
from training.teachers.protocol import Teacher
from training.teachers.segment_store import SegmentStore

QUIET = LabellingSettings(progress=False, prefetch=0)
PER_SAMPLE = ("segments", "scans", "pairs")
"""Folders of the stages with files for every sample."""

ONCE = 1000
"""Scans of an action that counts once and not per 1,000 scans."""

BACKEND = "auto"
"""Of the sparse convolutions, as a training chooses by itself."""


@dataclass(frozen=True)
class Part:
    """Something that is timed.

    Attributes:
        action: called again and again.
        scans: that it is done for.
        before: called before each round, outside of the time.
    """

    action: Callable[[], object]
    scans: float
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Work:
    """One row of the table.

    Attributes:
        source: what is worked on.
        stage: what is done.
        network: that is involved, "" for none.
        parts: makes ready what is timed; their costs add up.
        disk_mb: what was written, per 1,000 scans, in units of 10 ** 6 bytes; called after the last round.
    """

    source: str
    stage: str
    network: str
    parts: Callable[[], Sequence[Part]]
    disk_mb: Callable[[], float | None] = lambda: None

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from the other rows."""
        return self.source, self.stage, self.network


def disk_bytes(path: Path) -> int:
    """What a file, or those below a folder, take in whole blocks."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(-(-each.stat().st_size // BLOCK) * BLOCK for each in files)


class DataStages:
    """Everything up to the labels of the points, which needs no network here."""

    def __init__(self, material: Material, folder: Path, recipe: Recipe) -> None:
        self.material, self.folder, self.recipe = material, folder, recipe
        self.count = len(material.open_source())
        self.chain = chain_of(material, folder, recipe)

    def works(self) -> Iterator[Work]:
        """In their order."""
        material, chain = self.material, self.chain
        yield Work(material.name, "read scan and images", "", lambda: [Part(self._read, self.count)])
        folder, copy = chain.folder("label"), self.folder / "label_again"
        teacher = material.build_teacher
        yield self._written(f"label: {material.teacher_name}", folder, lambda: self._labelling(teacher(), folder))
        if material.teacher_name != "precomputed":
            yield self._written("label: precomputed", copy, lambda: self._labelling(self._stored(), copy))
        yield self._written("lift", chain.folder("lift"), lambda: partial(lift, chain))
        for constants in ("default", "released"):
            settings = replace(self.recipe.refine, labels=True, constants=constants)
            refining = replace(chain, recipe=replace(self.recipe, refine=settings))
            yield self._written(f"refine: AFI, {constants}", chain.folder("refine"), partial(partial, refine, refining))

    def _read(self) -> None:
        source = self.material.open_source()
        for index in range(self.count):
            source.load_sample(index)

    def _stored(self) -> Teacher:
        """A teacher that reads what the first one wrote."""
        return PrecomputedTeacher(PrecomputedConfig(str(self.chain.folder("label"))), self.material.dictionary)

    def _labelling(self, teacher: Teacher, folder: Path) -> Callable[[], object]:
        return lambda: label_source(self.material.open_source(), teacher, folder, settings=QUIET)

    def _written(self, stage: str, folder: Path, make: Callable[[], Callable[[], object]]) -> Work:
        """Of an action on all scans that writes a folder, which is empty before."""

        def remove() -> None:
            shutil.rmtree(folder, ignore_errors=True)

        def disk_mb() -> float:
            return sum(disk_bytes(folder / part) for part in PER_SAMPLE) / self.count / 1e3

        return Work(self.material.name, stage, "", lambda: [Part(make(), self.count, remove)], disk_mb)


class NetworkStages:
    """Pre-training, training, export and evaluation of one recipe, on what ``DataStages`` has lifted."""

    def __init__(self, material: Material, folder: Path, recipe: Recipe) -> None:
        self.material, self.folder, self.recipe = material, folder, recipe
        self.count = len(material.open_source())
        self.chain = chain_of(material, folder, recipe)
        self.model = folder / f"{recipe.name}.onnx"

    def works(self) -> Iterator[Work]:
        """In their order."""
        recipe = self.recipe
        yield from self._training("pretrain", recipe.pretrain.trainer, lambda: self._pretraining)
        yield from self._training("train", recipe.train.trainer, lambda: self._learning)
        yield self._work("export, each", lambda: [Part(self._export, ONCE)], lambda: disk_bytes(self.model) / 1e6)
        for name, refined in (("evaluate", False), ("evaluate, with AFI", True)):
            yield self._work(name, partial(self._evaluating, refined))

    def _work(
        self, stage: str, parts: Callable[[], Sequence[Part]], disk_mb: Callable[[], float | None] = lambda: None
    ) -> Work:
        return Work(self.material.name, stage, self.recipe.network, parts, disk_mb)

    def _training(
        self, stage: str, config: TrainerConfig, prepared: Callable[[], tuple[Any, Objective]]
    ) -> Iterator[Work]:
        """Of one scan each; the update of the weights is shared by the batch of the recipe."""
        yield self._work(f"{stage}: make batch", lambda: [self._batching(prepared()[0])])
        yield self._work(f"{stage}: step", lambda: self._stepping(config, *prepared()))

    def _batching(self, examples: Any) -> Part:
        rng, levels = np.random.default_rng(0), NETWORKS[self.recipe.network].num_levels
        return Part(lambda: [examples.make_batch([i], levels, rng) for i in range(self.count)], self.count)

    def _stepping(self, config: TrainerConfig, examples: Any, objective: Objective) -> list[Part]:
        network = objective.network
        optimizer = config.optimizer.build(network)
        batch = examples.make_batch([0], network.config.num_levels, np.random.default_rng(0))

        def learn() -> None:
            optimizer.zero_grad()
            objective.loss(batch)[0].backward()

        return [Part(learn, 1), Part(optimizer.step, config.batch_size)]

    def _network(self, outputs: int) -> MinkUNet:
        torch.manual_seed(0)
        network = MinkUNet(NETWORKS[self.recipe.network], len(self.recipe.point_features), outputs)
        use_backend(network, BACKEND)
        return network

    @cached_property
    def _pretraining(self) -> tuple[PairedScans, ContrastObjective]:
        recipe, settings, chain = self.recipe, self.recipe.pretrain, self.chain
        files = lifted_files(chain.folder("lift"))
        grid = recipe.grid.build()
        examples = PairedScans(*files, grid, recipe.point_features, settings.augmentation, settings.pairs)
        texts = SegmentStore.open(chain.folder("label"), chain.dictionary).text_features
        assert texts is not None, "the teachers of both materials have features"
        groups = torch.from_numpy(chain.dictionary.text_group.astype(np.int64))
        loss = ContrastLoss(settings.contrast, torch.from_numpy(texts), groups)
        return examples, ContrastObjective(self._network(texts.shape[1]), loss, settings.negatives)

    @cached_property
    def _learning(self) -> tuple[LabelledScans, LabelObjective]:
        recipe, settings, num_classes = self.recipe, self.recipe.train, len(self.recipe.load_label_space())
        files, _ = lifted_files(self.chain.folder("lift"))
        grid, uses_color = recipe.grid.build(), recipe.uses_color
        examples = LabelledScans(files, grid, recipe.point_features, num_classes, uses_color, settings.augmentation)
        weights = examples.class_weights(settings.loss.rare_class_power)
        return examples, LabelObjective(self._network(num_classes), settings.loss, weights)

    def _export(self) -> None:
        recipe, network = self.recipe, self._learning[1].network
        description = StudentDescription(
            name=recipe.name,
            label_space=recipe.load_label_space(),
            grid=recipe.grid.build(),
            point_features=recipe.point_features,
            num_levels=network.config.num_levels,
            recipe=recipe.to_dict(),
            provenance={},
        )
        export_student(network.eval(), description, self.model)

    def _evaluating(self, refined: bool) -> list[Part]:
        space, constants = self.recipe.load_label_space(), self.recipe.refine.afi()
        source, segmenter = self.material.open_truth(), Segmenter.load(self.model, "cpu", num_threads=1)

        def evaluate() -> None:
            student = StudentLabels(segmenter)
            rows: dict[str, Any] = {"student": student}
            if refined:
                rows["student + AFI"] = lambda s: refine_afi(s.cloud.points, student(s), space, constants)
            evaluate_all((source.load_sample(i) for i in range(self.count)), rows, space)

        return [Part(evaluate, self.count)]


def chain_of(material: Material, folder: Path, recipe: Recipe) -> Chain:
    """The stages of a recipe on a material, in one process on the CPU."""
    opener, teacher = material.open_source, material.build_teacher
    return Chain(recipe, folder, opener, material.dictionary, teacher, Shard(), device="cpu", backend=BACKEND)


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
