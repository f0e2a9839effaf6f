"""Folders of plain label maps, as any semantic segmentation network writes them.

<stem>.png        one channel, 8 or 16 bit: the number of a text per pixel, 255 = none
<stem>_conf.png   confidence, 8 bit (255 = 1.0), at the size of the picture or a whole number of times smaller;
                  without it every pixel counts as certain
classes.json      {"0": "road", ...}, or texts.json with a list; in the folder or the one above it
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, TeacherSegments
from ov_seg_ros.core.errors import InputError
from training.dictionary import ClassDictionary
from training.teachers.segment_files import image_file, read_id_map
from training.teachers.segment_pooling import make_segments
from training.teachers.store_texts import find_beside, load_texts, match_texts

CONFIDENCE = "_conf"
_CROSS_AND_CORNERS = np.ones((3, 3), bool)


class LabelMapFolder:
    """Label maps by stem.

    Attributes:
        folder: where they lie.
        dictionary: gives their texts classes.
    """

    def __init__(
        self, folder: Path, dictionary: ClassDictionary, min_confidence: float = 0.0, components: bool = False
    ) -> None:
        """Opens a folder.

        Args:
            folder: see the head of this module.
            dictionary: that gives the texts their classes. Without a file of classes the maps index its texts.
            min_confidence: pixels below it become void.
            components: each connected region of a text is a segment of its own, not all its pixels together.

        Raises:
            InputError: no such folder, no maps in it, or texts the dictionary lacks.
        """
        self.folder, self.dictionary = Path(folder), dictionary
        self._min_confidence, self._components = min_confidence, components
        if not self.folder.is_dir():
            raise InputError(f"folder of label maps {folder} does not exist")
        classes = find_beside(self.folder, "classes.json", "texts.json")
        texts = load_texts(classes) if classes else dictionary.texts
        self._text_id = match_texts(texts, dictionary, str(classes))

    def stems(self) -> Iterator[str]:
        """Stems of all label maps, sub-folders included, in no particular order."""
        for path in self.folder.rglob("*.png"):
            stem = path.relative_to(self.folder).with_suffix("").as_posix()
            if not stem.endswith(CONFIDENCE):
                yield stem

    def read(self, stem: str) -> TeacherSegments:
        """One segment per text of a picture (or connected region of it), ascending by text.

        Raises:
            InputError: a file is missing or damaged, a number has no text, or the sizes do not fit.
        """
        path = image_file(self.folder, stem, ".png")
        numbers = read_id_map(path)
        none = numbers == IGNORE_ID
        highest = int(numbers[~none].max(initial=0))
        if highest >= len(self._text_id):
            raise InputError(
                f"{path}: label {highest} is none of the {len(self._text_id)} texts; "
                "the picture is corrupt or of other classes"
            )
        confidence = self._read_confidence(stem, numbers.shape)
        text_map = self._text_id[np.where(none, 0, numbers)]
        text_map = np.where(none | (confidence < self._min_confidence), -1, text_map)
        segment_id, text_id = _number_regions(text_map) if self._components else _number_texts(text_map)
        return make_segments(segment_id, text_id, confidence, None, self.dictionary)

    def _read_confidence(self, stem: str, size: tuple[int, ...]) -> NDArray[np.float32]:
        """(H, W) in [0, 1]: pixel (u, v) reads (u // s, v // s) of a map s times smaller."""
        path = image_file(self.folder, stem, f"{CONFIDENCE}.png")
        if not path.is_file():
            return np.ones(size, np.float32)
        small = read_id_map(path)
        if not small.size or small.max() > 255:
            raise InputError(f"{path} must hold confidences as 8 bit, 255 = 1.0, got up to {small.max(initial=0)}")
        scale = _scale_between(size, small.shape)
        if scale is None:
            raise InputError(
                f"{path} has {small.shape[1]} x {small.shape[0]} pixels, its label map {size[1]} x {size[0]}: "
                "expected the same size, or one that is a whole number of times smaller, rounded up"
            )
        rows, columns = (np.arange(n) // scale for n in size)
        return small[rows[:, None], columns[None, :]].astype(np.float32) / np.float32(255)


def _scale_between(size: tuple[int, ...], small: tuple[int, ...]) -> int | None:
    """How many times smaller a map is; of several that fit (tiny pictures only) a power of two, as strides are."""
    fitting = [s for s in range(1, max(size) + 1) if tuple(math.ceil(n / s) for n in size) == small]
    return min(fitting, key=lambda s: (s.bit_count() > 1, s), default=None)


def _number_texts(text_map: NDArray[np.int32]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Ids from 1 for the texts of a map in ascending order, and the text of each; -1 becomes 0."""
    present = np.unique(text_map[text_map >= 0])
    number = np.zeros(int(text_map.max(initial=-1)) + 2, np.uint16)
    number[present + 1] = np.arange(1, len(present) + 1)
    return number[text_map + 1], present.astype(np.int64)


def _number_regions(text_map: NDArray[np.int32]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Likewise for connected regions (diagonal neighbours belong together)."""
    from scipy import ndimage

    segment_id = np.zeros(text_map.shape, np.int64)
    text_id: list[int] = []
    for text in np.unique(text_map[text_map >= 0]):
        region, count = ndimage.label(text_map == text, _CROSS_AND_CORNERS)
        segment_id[region > 0] = region[region > 0] + len(text_id)
        text_id += [int(text)] * count
    if len(text_id) > np.iinfo(np.uint16).max:
        raise InputError(f"the label map has {len(text_id)} connected regions, at most 65535 are possible; smooth it")
    return segment_id.astype(np.uint16), np.array(text_id, np.int64)
