"""A folder with a teacher's segments of many images: what the label stage writes and every later stage reads.

    segments/<stem>.png .json .npy   one image, see ``segment_files``; in exports of others also directly in the folder
    texts.json                       the texts; category_id is the index into them
    text_embedding.npy               (T, D) float32 unit vectors; ``.pt`` is read, too. Absent without features
    teacher.json                     {format, stem, dictionary: {name, hash}, teacher: what it says of itself}

Only the pictures and their JSON must be there; texts, matrix and ``teacher.json`` may also lie one folder higher.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, TeacherSegments
from ov_seg_ros.core.errors import InputError
from training.atomic_files import write_bytes, write_json
from training.dictionary import ClassDictionary
from training.teachers.feature_tables import Variant, encode_array, unit_rows
from training.teachers.image_stems import StemPattern, Tokens
from training.teachers.segment_files import StoredSegments, image_file, load_json, read_segments, write_segments
from training.teachers.store_texts import check_dictionary_hash, find_beside, load_texts, match_texts
from training.teachers.text_features import load_text_features

FORMAT = 1
DEFAULT_STEM = "{key}_{camera}"
MATRIX_FILES = ("text_embedding.npy", "text_embedding.pt")


class SegmentStore:
    """Segments by image.

    Attributes:
        folder: of the store.
        files: folder that stems are relative to.
        dictionary: its texts are what ``TeacherSegments.text_id`` indexes.
        text_features: (T, D) float32 unit vectors in the order of the dictionary, or None.
        about: content of ``teacher.json``, empty where there is none.
        pattern: how stems follow from keys and cameras.
    """

    def __init__(
        self, folder: Path, dictionary: ClassDictionary, stem: str, variant: Variant, tokens: Tokens | None
    ) -> None:
        """Use ``create`` or ``open``."""
        self.folder, self.dictionary = folder, dictionary
        self.files = folder / "segments" if (folder / "segments").is_dir() else folder
        self.pattern = StemPattern(stem, self.stems, tokens or {})
        self.about: dict[str, Any] = {}
        self.text_features: NDArray[np.float32] | None = None
        self._variant: Variant = variant
        self._text_id = np.arange(len(dictionary.texts), dtype=np.int32)

    @classmethod
    def create(
        cls,
        folder: Path,
        dictionary: ClassDictionary,
        text_features: NDArray[np.float32] | None,
        teacher: Mapping[str, Any],
        stem: str = DEFAULT_STEM,
    ) -> SegmentStore:
        """Begins a store, or opens one that was begun with the same dictionary.

        Several processes may do so at the same time.

        Args:
            folder: created if it is not there.
            dictionary: the texts.
            text_features: (T, D) float32 unit vectors, or None.
            teacher: what the teacher says of itself, JSON types.
            stem: pattern of the file names; must tell all images apart.

        Raises:
            InputError: the folder is a store of another dictionary.
            StorageFullError: the disk is full.
        """
        folder = Path(folder)
        if not (folder / "teacher.json").exists():
            (folder / "segments").mkdir(parents=True, exist_ok=True)
            write_json(folder / "texts.json", list(dictionary.texts), shared=True)
            if text_features is not None:
                content = encode_array(np.asarray(text_features, np.float32))
                write_bytes(folder / "text_embedding.npy", content, shared=True)
            made_with = {"name": dictionary.name, "hash": dictionary.hash}
            about = {"format": FORMAT, "stem": stem, "dictionary": made_with, "teacher": dict(teacher)}
            write_json(folder / "teacher.json", about, shared=True)
        return cls.open(folder, dictionary)

    @classmethod
    def open(
        cls,
        folder: Path,
        dictionary: ClassDictionary,
        stem: str | None = None,
        variant: Variant = "out_vocab",
        tokens: Tokens | None = None,
    ) -> SegmentStore:
        """Opens a store of ours, or an export of AFOV or of anyone else in this layout.

        Without ``texts.json`` the ids are taken to index the texts of the dictionary.

        Args:
            folder: see the head of this module.
            dictionary: that gives the texts their classes.
            stem: pattern of the file names; by default that of ``teacher.json``, else ``{key_name}``.
            variant: which features to read where an exporter stored two (FC-CLIP).
            tokens: of the images, for a pattern with ``{token}``.

        Raises:
            InputError: no such folder, texts the dictionary lacks, a dictionary other than the one the store was made
                with, or a damaged file.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"segment store {folder} does not exist; make it with the label stage")
        first = find_beside(folder, "teacher.json", "texts.json", *MATRIX_FILES)
        place = first.parent if first else folder  # all of them are taken from one folder
        about_path = place / "teacher.json"
        about = load_json(about_path) if about_path.is_file() else {}
        if not isinstance(about, dict) or not isinstance(about.get("stem", ""), str):
            raise InputError(f"{about_path} must be an object whose stem is a text; copy it again, or label again")
        if about:
            check_dictionary_hash(about, dictionary, about_path)
        store = cls(folder, dictionary, stem or about.get("stem") or "{key_name}", variant, tokens)
        store.about = about
        texts_path = place / "texts.json"
        if texts_path.is_file():
            store._text_id = match_texts(load_texts(texts_path), dictionary, str(texts_path))
        if matrix := next((place / name for name in MATRIX_FILES if (place / name).is_file()), None):
            store.text_features = store._in_order_of_dictionary(matrix)
        return store

    def stems(self) -> Iterator[str]:
        """Stems of all images in the store, in no particular order."""
        for place, _, names in os.walk(self.files):
            relative = Path(place).relative_to(self.files)
            yield from ((relative / name[:-4]).as_posix() for name in names if name.endswith(".png"))

    def has(self, key: str, camera: str, stamp_ns: int | None = None) -> bool:
        """Whether the image is there, whole."""
        return image_file(self.files, self.pattern.stem(key, camera, stamp_ns), ".png").is_file()

    def write(self, key: str, camera: str, segments: TeacherSegments, stamp_ns: int | None = None) -> int:
        """Stores the segments of an image, whole or not at all; returns the number of bytes.

        Raises:
            InputError: the segments contradict each other or the dictionary.
            StorageFullError: the disk is full.
        """
        where = f"sample {key}, camera {camera}"
        self._check_texts(segments, where)
        try:
            return write_segments(self.files, self.pattern.stem(key, camera, stamp_ns), segments)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    def read(self, key: str, camera: str, stamp_ns: int | None = None) -> TeacherSegments:
        """Reads the segments of an image.

        Args:
            key: of the sample.
            camera: name of the camera.
            stamp_ns: of the image, where the pattern of the file names needs it.

        Returns:
            Features are scaled to unit length; a row of zeros stays one.

        Raises:
            InputError: a file is missing or damaged, or the files contradict each other, the texts or the matrix.
        """
        stem = self.pattern.stem(key, camera, stamp_ns)
        return self._with_classes(read_segments(self.files, stem, self._variant), stem)

    def _with_classes(self, stored: StoredSegments, stem: str) -> TeacherSegments:
        listing = image_file(self.files, stem, ".json")
        highest, lowest = stored.category_id.max(initial=-1), stored.category_id.min(initial=-1)
        if highest >= len(self._text_id) or lowest < -1:
            raise InputError(
                f"{listing}: category_id {highest if lowest >= -1 else lowest} is none of the {len(self._text_id)} "
                "texts; the file is corrupt or of another dictionary"
            )
        # -1 (no text) reads the entry appended at the end, in both tables
        text_id = np.append(self._text_id, np.int32(-1))[stored.category_id]
        class_id = np.append(self.dictionary.text_class, np.uint8(IGNORE_ID))[text_id]
        features = stored.table
        if features is not None:
            if self.text_features is not None and features.shape[1] != self.text_features.shape[1]:
                raise InputError(
                    f"{image_file(self.files, stem, '')}: features have {features.shape[1]} dimensions, the text "
                    f"matrix {self.text_features.shape[1]}; they are of different models"
                )
            features = unit_rows(features)
        return TeacherSegments(stored.segment_id, class_id.astype(np.uint8), stored.score, text_id, features)

    def _check_texts(self, segments: TeacherSegments, where: str) -> None:
        text_id = np.asarray(segments.text_id)
        count = len(self.dictionary.texts)
        if len(text_id) and not -1 <= text_id.min() <= text_id.max() < count:
            raise InputError(f"{where}: text ids must be -1..{count - 1}, got {text_id.min()}..{text_id.max()}")
        expected = np.append(self.dictionary.text_class, np.uint8(IGNORE_ID))[text_id]
        if len(text_id) == len(segments.class_id) and (bad := np.flatnonzero(expected != segments.class_id)).size:
            first = int(bad[0])
            text = self.dictionary.texts[text_id[first]] if text_id[first] >= 0 else "no text"
            raise InputError(
                f"{where}: segment {first + 1} ({text}) has class {segments.class_id[first]}, dictionary "
                f"{self.dictionary.name} says {expected[first]}; teacher and store must use the same dictionary"
            )

    def _in_order_of_dictionary(self, path: Path) -> NDArray[np.float32]:
        stored = load_text_features(path, len(self._text_id))
        missing = np.setdiff1d(np.arange(len(self.dictionary.texts)), self._text_id)
        if len(missing):
            raise InputError(
                f"{path} has no row for {len(missing)} texts of dictionary {self.dictionary.name}, the first is "
                f"{self.dictionary.texts[missing[0]]!r}; use the dictionary the export was made with"
            )
        ordered = np.zeros((len(self.dictionary.texts), stored.shape[1]), np.float32)
        known = self._text_id >= 0
        ordered[self._text_id[known]] = stored[known]
        return ordered
