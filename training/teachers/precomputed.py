"""A teacher that ran elsewhere: its results are read from files.

Takes what the label stage of this project wrote, exports of AFOV's ``superpixel_generation.py`` (released code) and
plain label maps of any network, see ``segment_store`` and ``label_maps``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import ClassDictionary
from training.fingerprint import files_below, fingerprint_files, fingerprint_values
from training.teachers.feature_tables import VARIANTS, Variant
from training.teachers.image_stems import StemPattern, Tokens, load_nuscenes_tokens
from training.teachers.label_maps import CONFIDENCE, LabelMapFolder
from training.teachers.segment_store import SegmentStore

LAYOUTS = ("auto", "segments", "label_maps")
SUFFIXES = (".png", ".json", ".npy", ".npz", ".pt")
"""Of the files that results are read from."""


@dataclass(frozen=True)
class PrecomputedConfig:
    """Where the results lie and how to read them.

    Attributes:
        folder: of a segment store, of an export in its layout, or of label maps.
        layout: "segments", "label_maps", or "auto": segments where pictures have a ``.json`` beside them.
        stem: pattern of the file names, see ``image_stems``; "" = what the store says, else ``{key_name}``.
        tokens: path of nuScenes' ``sample_data.json``, for a pattern with ``{token}``.
        features: "out_vocab" or "in_vocab", where an exporter stored two tables (FC-CLIP).
        min_confidence: label maps only: pixels below it become void.
        components: label maps only: connected regions become segments of their own.
    """

    folder: str
    layout: str = "auto"
    stem: str = ""
    tokens: str = ""
    features: str = "out_vocab"
    min_confidence: float = 0.0
    components: bool = False

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ConfigError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if self.features not in VARIANTS:
            raise ConfigError(f"features must be one of {', '.join(VARIANTS)}, got {self.features!r}")
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence must be in [0, 1], got {self.min_confidence}")


class PrecomputedTeacher:
    """Reads what another teacher said.

    Attributes:
        dictionary: gives the stored texts their classes.
        text_features: (T, D) float32 unit vectors in the order of the dictionary, or None.
    """

    text_features: NDArray[np.float32] | None = None

    def __init__(self, config: PrecomputedConfig, dictionary: ClassDictionary) -> None:
        """Opens the folder.

        Raises:
            InputError: it does not exist, holds no results, or was made with another dictionary.
            ConfigError: the pattern of the file names means nothing.
        """
        self.config, self.dictionary = config, dictionary
        self._about: dict[str, Any] = {}
        self._content = ""
        self._read: Callable[[str, CameraImage], TeacherSegments]
        if self._layout() == "label_maps":
            self._open_label_maps()
        else:
            self._open_segments()

    @property
    def label_space(self) -> LabelSpace:
        """The classes its segments speak of."""
        return self.dictionary.label_space

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Reads the result for an image.

        Raises:
            InputError: it is missing, damaged, or of another size than the image.
        """
        segments = self._read(key, image)
        expected = (image.camera.height, image.camera.width)
        if segments.segment_id.shape != expected:
            height, width = segments.segment_id.shape
            raise InputError(
                f"sample {key}, camera {image.name}: the stored map has {width} x {height} pixels, the image "
                f"{expected[1]} x {expected[0]}; segments must be stored at the size of the image"
            )
        return segments

    def describe(self) -> dict[str, Any]:
        """What made the segments, and which they are, in JSON types; where they lie does not count."""
        made_by = self._about.get("teacher")
        made_by = made_by if isinstance(made_by, dict) else {}
        same = {name: made_by.get(name) for name in ("model", "weights", "preprocessing", "templates", "logit_scale")}
        settings = {name: value for name, value in asdict(self.config).items() if name not in ("folder", "tokens")}
        own = {"teacher": "precomputed", "dictionary": self.dictionary.hash, "settings": settings}
        tokens = fingerprint_files([Path(self.config.tokens)]) if self.config.tokens else "none"
        return {**own, **same, "made_by": self._about, "content": self._content, "tokens": tokens}

    def _layout(self) -> str:
        if self.config.layout != "auto":
            return self.config.layout
        folder = Path(self.config.folder)
        if not folder.is_dir():
            raise InputError(f"folder of precomputed results {folder} does not exist")
        pictures = (p for p in folder.rglob("*.png") if not p.stem.endswith(CONFIDENCE))
        first = next(pictures, None)
        if first is None:
            raise InputError(f"{folder} holds no .png, so no results of a teacher")
        return "segments" if first.with_name(f"{first.name[:-4]}.json").is_file() else "label_maps"

    def _open_segments(self) -> None:
        folder, variant = Path(self.config.folder), cast(Variant, self.config.features)
        store = SegmentStore.open(folder, self.dictionary, self.config.stem or None, variant, self._tokens())
        self.text_features, self._about = store.text_features, store.about
        texts = "none" if store.text_features is None else fingerprint_values(store.text_features)
        self._content = f"{_fingerprint(store.files)}, vectors of texts: {texts}"
        self._read = lambda key, image: store.read(key, image.name, image.stamp_ns)

    def _open_label_maps(self) -> None:
        config = self.config
        maps = LabelMapFolder(Path(config.folder), self.dictionary, config.min_confidence, config.components)
        self._content = _fingerprint(Path(config.folder))
        pattern = StemPattern(config.stem or "{key_name}", maps.stems, self._tokens())
        self._read = lambda key, image: maps.read(pattern.stem_of(key, image))

    def _tokens(self) -> Tokens:
        return load_nuscenes_tokens(Path(self.config.tokens)) if self.config.tokens else {}


def _fingerprint(folder: Path) -> str:
    return fingerprint_files((path for path in files_below(folder) if path.suffix in SUFFIXES), folder)
