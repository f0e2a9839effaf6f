"""A source of painted images and a teacher that reads the paint; as a program, one process of a labelling run.

Everything follows from the index of a sample, so any two runs must write the same bytes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample, TeacherSegments
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import ClassDictionary

WIDTH, HEIGHT = 12, 8
SPACE = LabelSpace("paint", ("dark", "bright"), ((0, 0, 0), (255, 255, 255)))
DICTIONARY = ClassDictionary.from_dict(
    {
        "name": "paint",
        "label_space": "paint",
        "templates": ["a photo of {}."],
        "groups": [
            {"name": "dark", "class": "dark", "texts": ["black", "navy"]},
            {"name": "bright", "class": "bright", "texts": ["white"]},
            {"name": "sky", "class": None, "texts": ["sky"]},
        ],
    },
    SPACE,
)
CAMERAS = ("left", "right")


class PaintedSource:
    """``count`` samples with two images each; those in ``corrupt`` cannot be loaded."""

    name = "painted"
    label_space = None

    def __init__(self, count: int, corrupt: frozenset[int] = frozenset(), keys: dict[int, str] | None = None) -> None:
        self.count, self.corrupt, self.keys = count, corrupt, keys or {}
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return self.count

    def load_sample(self, index: int) -> Sample:
        self.loaded.append(index)
        if index in self.corrupt:
            raise InputError(f"scan {index} is cut off")
        cloud = PointCloud(np.zeros((1, 3), np.float32), np.zeros(1, np.float32), index + 1)
        images = tuple(self._image(index, number) for number in range(len(CAMERAS)))
        return Sample(self.keys.get(index, f"painted/{index:06d}"), cloud, images)

    def describe(self) -> dict[str, object]:
        return {"cameras": list(CAMERAS)}

    def _image(self, index: int, number: int) -> CameraImage:
        paint = np.random.default_rng([index, number]).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        stamp_ns = (index + 1) * 1000 + number
        return CameraImage(CAMERAS[number], paint, CameraModel(WIDTH, HEIGHT, 5, 5, 6, 4), np.eye(4), stamp_ns)


class PaintTeacher:
    """One segment per quarter of the range of the red channel, with random but repeatable features of 5 dimensions."""

    label_space = SPACE
    dictionary = DICTIONARY
    text_features = np.eye(4, 5, dtype=np.float32)

    def __init__(self, log: Path | None = None, seconds: float = 0.0) -> None:
        self.log, self.seconds = log, seconds
        self.calls: list[tuple[str, str]] = []

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        self.calls.append((key, image.name))
        if self.log is not None:
            with self.log.open("a") as log:
                log.write(f"{key} {image.name}\n")
        time.sleep(self.seconds)
        text_map = image.image[..., 0] // 64
        present, segment_id = np.unique(text_map, return_inverse=True)
        features = np.random.default_rng(int(image.image.sum())).standard_normal((len(present), 5))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return TeacherSegments(
            (segment_id.reshape(text_map.shape) + 1).astype(np.uint16),
            DICTIONARY.text_class[present],
            np.linspace(0.1, 0.9, len(present)).astype(np.float32),
            present.astype(np.int32),
            features.astype(np.float32),
        )

    def describe(self) -> dict[str, object]:
        return {"teacher": "paint", "dictionary": DICTIONARY.hash}


if __name__ == "__main__":
    from training.labelling_run import LabellingSettings, label_source
    from training.sharding import read_shard

    FOLDER, LOG, COUNT, SECONDS = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    TEACHER = PaintTeacher(LOG, SECONDS)
    label_source(PaintedSource(COUNT), TEACHER, FOLDER, read_shard(), LabellingSettings(progress=False))
