"""The recipe of a student made from synthetic drives, all of it in one YAML file."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.point_features import check_names, uses_color
from ov_seg_ros.core.voxels import VoxelGrid
from training.config import LABEL_SPACES, GridSettings, check_name, load_keys, parse_settings, plain
from training.drive_sets import DriveSet
from training.student.augmentation import AugmentationConfig
from training.student.label_objective import LabelLossConfig
from training.student.minkunet import NETWORKS
from training.student.trainer import TrainerConfig
from training.value_ranges import NOT_NEGATIVE


@dataclass(frozen=True)
class TeacherSettings:
    """The simulated 2D teacher.

    Attributes:
        severity: scale of all its errors; 0 = none, 1 = the default error profile.
        calibration_error: the extrinsics used for lifting are off as after an ordinary calibration.
    """

    severity: float = 1.0
    calibration_error: bool = True

    def __post_init__(self) -> None:
        NOT_NEGATIVE.check(self, "severity")


@dataclass(frozen=True)
class SyntheticRecipe:
    """One distillation from drives to an exported student.

    Attributes:
        name: of the student, and of the files of its results.
        label_space: a file in config/label_spaces, without suffix.
        labels: "teacher" (label-free) or "truth" (the supervised ceiling, for comparison only).
        train_drives: what the student learns from.
        held_out_drives: never learned from; where it is judged.
        network: a name of ``minkunet.NETWORKS``.
        teacher, grid, point_features, label_loss, trainer, augmentation: settings of the stages.
    """

    name: str
    label_space: str
    train_drives: tuple[DriveSet, ...]
    held_out_drives: tuple[DriveSet, ...]
    point_features: tuple[str, ...]
    network: str = "small"
    labels: str = "teacher"
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    grid: GridSettings = field(default_factory=GridSettings)
    label_loss: LabelLossConfig = field(default_factory=LabelLossConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_names(self.point_features)
        if self.labels not in ("teacher", "truth"):
            raise ConfigError(f"labels must be teacher or truth, got {self.labels!r} (recipe {self.name})")
        if self.network not in NETWORKS:
            raise ConfigError(
                f"network must be one of {', '.join(NETWORKS)}, got {self.network!r} (recipe {self.name})"
            )
        shared = {s for d in self.train_drives for s in d.seeds} & {s for d in self.held_out_drives for s in d.seeds}
        if shared:
            raise ConfigError(f"recipe {self.name}: drives {sorted(shared)} are both trained on and held out")

    @property
    def uses_color(self) -> bool:
        """Whether the student sees camera colours."""
        return uses_color(self.point_features)

    def voxel_grid(self) -> VoxelGrid:
        """The grid of the student."""
        return self.grid.build()

    def load_label_space(self) -> LabelSpace:
        """The classes of the student."""
        return LabelSpace.load(LABEL_SPACES / f"{self.label_space}.yaml")

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; what the model file stores."""
        return typing.cast("dict[str, Any]", plain(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> SyntheticRecipe:
        """Reads a YAML recipe; ``extends: other.yaml`` takes over the keys of a recipe beside it.

        Raises:
            ConfigError: missing file, unknown key (with the nearest known one), wrong type, value out of its range.
        """
        return parse_settings(cls, load_keys(path), str(path))
