"""Recipes of the whole chain: recording and teacher to student, every constant of a method in one YAML file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.point_features import check_names, uses_color
from ov_seg_ros.core.projection import DEFAULT_OCCLUSION, MIN_DEPTH, VisibilityTest
from ov_seg_ros.refinement.afi_config import AfiConfig
from training.config import LABEL_SPACES, GridSettings, check_name, load_keys, parse_settings, plain
from training.student.augmentation import AugmentationConfig
from training.student.contrast import ContrastConfig
from training.student.contrast_objective import NEGATIVES
from training.student.label_objective import LabelLossConfig
from training.student.minkunet import NETWORKS
from training.student.pair_augmentation import PairAugmentationConfig
from training.student.trainer import TrainerConfig
from training.value_ranges import POSITIVE

AFI_CONSTANTS = ("default", "released")
HEADS = ("fresh", "texts")
STARTS = ("random", "pretrain", "train")
STUDENT_SUFFIX = ".onnx"


@dataclass(frozen=True)
class LiftSettings:
    """How what a teacher says about images gets onto the points.

    Attributes:
        occlusion: points that a nearer surface hides from a camera take nothing from its image.
        min_depth: nearer points take nothing either, metres along the optical axis.
        colors: keep the colours of the points, for a student that wants them.
    """

    occlusion: bool = True
    min_depth: float = MIN_DEPTH
    colors: bool = False

    def __post_init__(self) -> None:
        POSITIVE.check(self, "min_depth")

    @property
    def visibility(self) -> VisibilityTest | None:
        """The occlusion test, None for none."""
        return DEFAULT_OCCLUSION if self.occlusion else None


@dataclass(frozen=True)
class RefineSettings:
    """Where AFI is applied, and with which constants.

    Attributes:
        labels: to the lifted labels, before a student learns from them.
        predictions: to what the student says, when it is evaluated.
        constants: "default" (chosen on synthetic training drives) or "released" (of AFOV's code).
    """

    labels: bool = False
    predictions: bool = True
    constants: str = "default"

    def __post_init__(self) -> None:
        if self.constants not in AFI_CONSTANTS:
            raise ConfigError(f"refine constants must be one of {', '.join(AFI_CONSTANTS)}, got {self.constants!r}")

    def afi(self) -> AfiConfig:
        """The constants."""
        return AfiConfig.released() if self.constants == "released" else AfiConfig.default()


@dataclass(frozen=True)
class PretrainSettings:
    """Tri-modal contrastive pre-training (TMP).

    Attributes:
        contrast: the loss.
        trainer: length, batch and optimiser.
        augmentation: of the scans.
        pairs: dropping of pairs beside it.
        negatives: "scan" (segments of one scan face each other, as released) or "pass" (those of all its scans).
    """

    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    pairs: PairAugmentationConfig = field(default_factory=PairAugmentationConfig)
    negatives: str = "scan"

    def __post_init__(self) -> None:
        if self.negatives not in NEGATIVES:
            raise ConfigError(f"negatives must be one of {', '.join(NEGATIVES)}, got {self.negatives!r}")


@dataclass(frozen=True)
class LearnSettings:
    """Learning classes from labels, be they lifted or true.

    Attributes:
        loss: on the labelled voxels.
        trainer: length, batch and optimiser.
        augmentation: of the scans.
        start: from "random" weights, those of the pre-training ("pretrain"), those learned from lifted labels ("train",
            for probing and fine-tuning), or those of a student file (a path that ends in .onnx) of the same network,
            grid, point features and classes.
        head: "fresh" (as released) or "texts": the last layer starts as the zero-shot classifier of the pre-trained
            network (an addition to AFOV). After "train" or a student it is theirs.
    """

    loss: LabelLossConfig = field(default_factory=LabelLossConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    start: str = "pretrain"
    head: str = "fresh"

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ConfigError(f"head must be one of {', '.join(HEADS)}, got {self.head!r}")
        if self.start not in STARTS and self.student is None:
            raise ConfigError(
                f"start must be one of {', '.join(STARTS)}, or the path of a student (STUDENT.onnx), got {self.start!r}"
            )
        if self.head == "texts" and self.start != "pretrain":
            raise ConfigError("head: texts needs start: pretrain, it is made from the pre-trained network")

    @property
    def student(self) -> Path | None:
        """The student file to start from; None for other starts."""
        return Path(self.start) if self.start.endswith(STUDENT_SUFFIX) else None


@dataclass(frozen=True)
class Recipe:
    """One way from a recording to a student.

    Attributes:
        name: of the student, and of the folder of its results.
        label_space: a file in config/label_spaces, without suffix.
        teacher: a file in config/teachers, without suffix, or the path of your own.
        point_features: what the network sees of the points of a voxel.
        network: a name of ``minkunet.NETWORKS``.
        grid: voxels.
        lift, refine, pretrain, train: settings of the stages.
        probe: linear probing, learning the last layer from true labels.
        finetune: learning everything from true labels.
    """

    name: str
    label_space: str
    teacher: str
    point_features: tuple[str, ...]
    network: str = "small"
    grid: GridSettings = field(default_factory=GridSettings)
    lift: LiftSettings = field(default_factory=LiftSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    train: LearnSettings = field(default_factory=LearnSettings)
    probe: LearnSettings = field(default_factory=lambda: LearnSettings(trainer=TrainerConfig(only_head=True)))
    finetune: LearnSettings = field(default_factory=LearnSettings)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.train.start == "train":
            raise ConfigError(
                f"recipe {self.name}: train cannot start from itself; use start: pretrain, random or a student"
            )
        check_names(self.point_features)
        if self.network not in NETWORKS:
            known = ", ".join(NETWORKS)
            raise ConfigError(f"network must be one of {known}, got {self.network!r} (recipe {self.name})")
        if self.uses_color and not self.lift.colors:
            raise ConfigError(f"recipe {self.name}: point_features hold colours, so lift needs colors: true")
        if not self.probe.trainer.only_head:
            raise ConfigError(
                f"recipe {self.name}: probe learns the last layer alone, its trainer needs only_head: true"
            )

    @property
    def uses_color(self) -> bool:
        """Whether the student sees camera colours."""
        return uses_color(self.point_features)

    def load_label_space(self) -> LabelSpace:
        """The classes of the student."""
        return LabelSpace.load(LABEL_SPACES / f"{self.label_space}.yaml")

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; what the model file stores."""
        return cast("dict[str, Any]", plain(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Reads a YAML recipe; ``extends: other.yaml`` takes over the keys of a recipe beside it.

        Raises:
            ConfigError: missing file, unknown key (with the nearest known one), wrong type, value out of its range.
        """
        return parse_settings(cls, load_keys(path), str(path))
