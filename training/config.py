"""Recipes: every setting of an offline run in one YAML file, read strictly."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.point_features import check_names, uses_color
from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig
from training.student.label_objective import LabelLossConfig
from training.student.minkunet import NETWORKS
from training.student.trainer import TrainerConfig

T = TypeVar("T")

LABEL_SPACES = Path(__file__).resolve().parent.parent / "config" / "label_spaces"
RECIPES = Path(__file__).resolve().parent.parent / "config" / "recipes"


@dataclass(frozen=True)
class DriveSet:
    """Synthetic drives of one kind.

    Attributes:
        lidar: "spinning32" or "spinning64".
        seeds: one drive each.
        scans: per drive.
        scan_stride: every how many LiDAR revolutions a scan is kept; 10 = 1 s apart.
    """

    lidar: str
    seeds: tuple[int, ...]
    scans: int = 40
    scan_stride: int = 5


@dataclass(frozen=True)
class TeacherSettings:
    """The simulated 2D teacher.

    Attributes:
        severity: scale of all its errors; 0 = none, 1 = the default error profile.
        calibration_error: the extrinsics used for lifting are off as after an ordinary calibration.
    """

    severity: float = 1.0
    calibration_error: bool = True


@dataclass(frozen=True)
class GridSettings:
    """See ``core.voxels.VoxelGrid``."""

    kind: str = "cartesian"
    voxel_size: tuple[float, float, float] = (0.2, 0.2, 0.2)
    range_min: tuple[float, float, float] = (-100.0, -100.0, -6.0)
    range_max: tuple[float, float, float] = (100.0, 100.0, 18.0)


@dataclass(frozen=True)
class Recipe:
    """One distillation from drives to an exported student.

    Attributes:
        name: of the student.
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
        return VoxelGrid(**dataclasses.asdict(self.grid))

    def load_label_space(self) -> LabelSpace:
        """The classes of the student."""
        return LabelSpace.load(LABEL_SPACES / f"{self.label_space}.yaml")

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; what the model file stores."""
        return typing.cast("dict[str, Any]", _plain(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Reads a YAML recipe; ``extends: other.yaml`` takes over the keys of a recipe beside it.

        Raises:
            ConfigError: missing file, unknown key (with the nearest known one), wrong type.
        """
        return parse_settings(cls, _load_keys(path), str(path))


def _load_keys(path: Path) -> Any:
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise ConfigError(f"recipe {path} does not exist; recipes that come along: {known}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe {path} is no YAML: {error}") from error
    if isinstance(content, dict) and "extends" in content:
        base = _load_keys(path.parent / str(content.pop("extends")))
        return {**base, **content}
    return content


def parse_settings(settings: type[T], content: Any, where: str) -> T:
    """Builds a (nested) dataclass from YAML content, strictly.

    Raises:
        ConfigError: naming the key, what came and what was expected.
    """
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected keys of {settings.__name__}, got {content!r}")
    known = {f.name: f for f in dataclasses.fields(settings)}  # type: ignore[arg-type]
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")
    required = {n for n, f in known.items() if f.default is f.default_factory is dataclasses.MISSING}
    if missing := sorted(required - set(content)):
        raise ConfigError(f"{where}: missing key {', '.join(missing)}")
    hints = typing.get_type_hints(settings)
    return settings(**{key: _parse_value(hints[key], value, f"{where}: {key}") for key, value in content.items()})


def _parse_value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return parse_settings(typing.cast("type[Any]", hint), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        items = typing.get_args(hint)
        kinds = [items[0]] * len(value) if items[-1] is Ellipsis else list(items)
        if len(kinds) != len(value):
            raise ConfigError(f"{where}: expected {len(kinds)} values, got {value!r}")
        return tuple(_parse_value(kind, v, where) for kind, v in zip(kinds, value, strict=True))
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected keys and values, got {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
