"""A source, a teacher and a recipe on which the whole offline chain runs in seconds; all labels follow by hand.

A scan is a ring of points, every second one 1 m above the sensor (a building or a wall) and the others 1 m below it
(road or asphalt). The camera looks forward over 90 degrees; the teacher knows the image by its rows and columns: sky
on top, where no point lies, then building on the left and wall on the right, then road and asphalt. It gives the right
class to whatever the camera sees.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import IGNORE_ID, CameraImage, PointCloud, Sample, TeacherSegments
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.chain import Chain
from training.config import LABEL_SPACES, GridSettings
from training.dictionary import ClassDictionary
from training.labelling_run import LabellingSettings, label_source
from training.lift_stage import LiftJob, lift_source
from training.recipe import LearnSettings, LiftSettings, PretrainSettings, Recipe
from training.sharding import Shard
from training.stage_folder import StageFolder
from training.student.pair_augmentation import PairAugmentationConfig
from training.student.trainer import TrainerConfig
from training.teachers.precomputed import PrecomputedConfig, PrecomputedTeacher

SPACE = LabelSpace.load(LABEL_SPACES / "nuscenes16.yaml")
ROAD, BUILDING = SPACE.class_names.index("driveable_surface"), SPACE.class_names.index("manmade")
VOCABULARY = {
    "name": "tiny",
    "label_space": "nuscenes16",
    "templates": ["a photo of a {}."],
    "groups": [
        {"name": "way", "class": "driveable_surface", "texts": ["road", "asphalt"]},
        {"name": "house", "class": "manmade", "texts": ["building", "wall"]},
        {"name": "sky", "class": None, "texts": ["sky"]},
    ],
}
DICTIONARY = ClassDictionary.from_dict(VOCABULARY, SPACE)
POINTS = 240
WIDTH, HEIGHT, SKY = 64, 48, 6
CONFIDENCE = np.array([0.5, 0.6, 0.7, 0.8, 0.9], np.float32)
"""Of the segments: sky, building, wall, road, asphalt."""
TEXTS = np.array([4, 2, 3, 0, 1], np.int32)
LOOKING_FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
QUIET = LabellingSettings(progress=False)


class TinySource:
    """``count`` scans; those in ``corrupt`` cannot be loaded, those in ``blind`` have no image."""

    name = "tiny"

    def __init__(
        self,
        count: int = 3,
        corrupt: frozenset[int] = frozenset(),
        blind: frozenset[int] = frozenset(),
        truth: bool = True,
        highest: int | None = None,
    ) -> None:
        self.count, self.corrupt, self.blind, self.truth, self.highest = count, corrupt, blind, truth, highest

    @property
    def label_space(self) -> LabelSpace | None:
        return SPACE if self.truth else None

    def __len__(self) -> int:
        return self.count

    def load_sample(self, index: int) -> Sample:
        if index in self.corrupt:
            raise InputError(f"scan {index} is cut off")
        rng = np.random.default_rng(index)
        azimuth, distance = rng.uniform(-np.pi, np.pi, POINTS), rng.uniform(4, 12, POINTS)
        height = np.where(self.load_ring(index) == 1, 1.0, -1.0)
        points = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), height], axis=1)
        stamp_ns = 1_700_000_000_000_000_000 + index * 100_000_000
        cloud = PointCloud(points.astype(np.float32), rng.random(POINTS, np.float32), stamp_ns, "lidar")
        images = () if index in self.blind else (self._image(stamp_ns),)
        return Sample(f"tiny/{index:06d}", cloud, images, self._class_id(height))

    def load_ring(self, index: int) -> np.ndarray:
        return (np.arange(POINTS) % 2).astype(np.uint16)

    def describe(self) -> dict[str, object]:
        return {"blind": sorted(self.blind), "truth": {"highest": self.highest}}

    def _image(self, stamp_ns: int) -> CameraImage:
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[: HEIGHT // 2], pixels[HEIGHT // 2 :] = (200, 100, 0), (0, 0, 250)
        camera = CameraModel(WIDTH, HEIGHT, 32.0, 32.0, 31.5, 23.5)
        return CameraImage("front", pixels, camera, LOOKING_FORWARD, stamp_ns + 5_000_000)

    def _class_id(self, height: np.ndarray) -> np.ndarray | None:
        if not self.truth:
            return None
        class_id = np.where(height > 0, BUILDING, ROAD).astype(np.uint8)
        class_id[0] = IGNORE_ID if self.highest is None else self.highest
        return class_id


class RowTeacher:
    """Knows what is where in the image."""

    label_space = SPACE
    dictionary = DICTIONARY

    def __init__(self, with_features: bool = True, blank: bool = False) -> None:
        self.blank = blank
        self.text_features = np.eye(5, 6, dtype=np.float32) if with_features else None

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        if self.blank:
            nothing = np.zeros(0, np.float32)
            return TeacherSegments(
                np.zeros((HEIGHT, WIDTH), np.uint16), nothing.astype(np.uint8), nothing, nothing.astype(np.int32),
                None if self.text_features is None else np.zeros((0, 6), np.float32),
            )  # fmt: skip
        segment_id = np.ones((HEIGHT, WIDTH), np.uint16)
        for row, first in ((slice(SKY, HEIGHT // 2), 2), (slice(HEIGHT // 2, HEIGHT), 4)):
            segment_id[row, : WIDTH // 2], segment_id[row, WIDTH // 2 :] = first, first + 1
        features = None
        if self.text_features is not None:
            features = 0.8 * self.text_features[TEXTS]
            features[:, 5] = 0.6  # what all images share
        return TeacherSegments(segment_id, DICTIONARY.text_class[TEXTS], CONFIDENCE, TEXTS, features)

    def describe(self) -> dict[str, object]:
        return {"teacher": "rows", "dictionary": DICTIONARY.hash, "blank": self.blank}


TRAINER = TrainerConfig(steps=2, batch_size=2, scans_per_pass=1, checkpoint_every=1)
RECIPE = Recipe(
    name="tiny",
    label_space="nuscenes16",
    teacher="none",
    point_features=("offset_z", "height", "intensity"),
    grid=GridSettings("cartesian", (1.0, 1.0, 0.5), (-16.0, -16.0, -4.0), (16.0, 16.0, 4.0)),
    lift=LiftSettings(occlusion=False),
    pretrain=PretrainSettings(trainer=TRAINER, pairs=PairAugmentationConfig(min_pairs=8)),
    train=LearnSettings(trainer=TRAINER),
    probe=LearnSettings(trainer=TrainerConfig(steps=2, only_head=True)),
    finetune=LearnSettings(trainer=TRAINER),
)


def export_segments(folder: Path, source: object | None = None) -> Path:
    """What the teacher says about a source, in files, for a precomputed teacher."""
    label_source(source or TinySource(6), RowTeacher(), folder, settings=QUIET)
    return folder


def tiny_chain(work: Path, exported: Path, count: int = 4, recipe: Recipe = RECIPE) -> Chain:
    """The whole chain on ``count`` scans."""
    teacher = partial(PrecomputedTeacher, PrecomputedConfig(str(exported)), DICTIONARY)
    return Chain(recipe, work, partial(TinySource, count), DICTIONARY, teacher, Shard(), device="cpu")


def lift_job(folder: Path, source: object, store: Path | None, settings: LiftSettings = RECIPE.lift) -> LiftJob:
    """What to lift from a store, or from the ground truth."""
    return LiftJob(source, settings, folder, len(SPACE), None if store is None else DICTIONARY, store)


def lift(job: LiftJob, part: Shard | None = None, processes: int = 1) -> StageFolder:
    """Opens the folder and lifts."""
    stage = StageFolder.open(job.folder, "lift", {"lift": job.settings})
    return lift_source(job, stage, part or Shard(), processes)


class DyingSource(TinySource):
    """Ends its process, as a kill does, when it is asked for scan 2."""

    def load_sample(self, index: int) -> Sample:
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load_sample(index)
