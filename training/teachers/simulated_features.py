"""Texts and features for the segments of the simulated teacher: what a CLIP-like network would say of them.

What a feature may know. A real one is the pooled image embedding of a segment. The simulated one is a sum of

* the meaning of the text that the teacher answered - and it stays the nearest of all texts, as in real teachers,
  whose label is the argmax over the same products;
* a share ``truth_leak`` of another class: the true class where the teacher is wrong. Pixels do carry such evidence:
  CLIP is right on ImageNet in 64.2 % with its first and in 89.4 % with its first five classes (Ge et al., "Improving
  Zero-shot Generalization and Robustness of Multi-modal Models", CVPR 2023), so where the first is wrong, the truth
  is among the next four in (89.4 - 64.2) / (100 - 64.2) = 70 %. Were each of the four equally likely to be right once
  those before it are not, the second would be in 1 - 0.30 ** (1 / 4) = 26 %; better guesses come first, so it is more.
  The default stays at those two figures: the second class is the true one of 28 % of the wrong segments, the second
  to fifth of 69 %. Without any leak it is 21 % and 57 %, because classes that are taken for each other are neighbours
  (``truth_ranks`` measures it). A segment with a right class gets the same share of a class that is taken for its
  own, so that how mixed a feature is does not tell whether its label is wrong;
* what all images share and no text has: the modality gap (Liang et al., "Mind the Gap", NeurIPS 2022), a constant
  vector orthogonal to what tells texts apart;
* the look of the instance, the same through a drive, and noise of the image.

The truth enters through the answered class and ``truth_leak`` alone, inside the simulated teacher. With 0 a feature
knows nothing that the label does not tell.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.errors import ConfigError
from training.teachers.confusions import confusion_rows
from training.teachers.simulated_text_space import RESERVED, TextSpace, first_of_equals, unit_rows

REVISION = 1
"""Goes up whenever the same settings give other texts or features."""

MARGIN = 0.004
"""By which the answered text is the nearest, in cosine; survives features stored as float16."""

MAX_MOVES = 100
"""Attempts at making a text the nearest before the feature becomes that text; never needed with the default."""


@dataclass(frozen=True)
class FeatureConfig:
    """What the feature of a segment is made of; the squares of the parts are shares of its squared length.

    Attributes:
        truth_leak: share in [0, 0.5) of the true class in the meaning of a wrong segment's feature (and of a class it
            is taken for in a right one's), 0 = none.
        gap: share of what all images have in common.
        meaning: share of what the segment is.
        look: share of how this instance looks, constant through a drive; the rest is noise of the image.
        text_persistence: share of the images in which an instance gets its usual one of the texts of a class.
    """

    truth_leak: float = 0.1
    gap: float = 0.5
    meaning: float = 0.25
    look: float = 0.15
    text_persistence: float = 0.8

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0.0 <= getattr(self, field.name) <= 1.0:
                raise ConfigError(f"features: {field.name} must be in [0, 1], got {getattr(self, field.name)}")
        if self.truth_leak >= 0.5:
            raise ConfigError(f"features: truth_leak must be below 0.5, got {self.truth_leak}")
        if self.gap + self.meaning + self.look > 1.0 + 1e-9:
            raise ConfigError(
                f"features: gap + meaning + look must be at most 1, got {self.gap} + {self.meaning} + {self.look}"
            )


@dataclass(frozen=True)
class SegmentTruth:
    """What the simulated teacher knows of the R segments of an image, and nobody else.

    Attributes:
        answered: (R,) uint8 class it gave.
        true: (R,) uint8 class it should have given; 255 (sky) = no evidence of any other class.
        instance: (R,) int64, 0 = stuff.
    """

    answered: NDArray[np.uint8]
    true: NDArray[np.uint8]
    instance: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.answered)


class SimulatedFeatures:
    """Makes texts and features.

    Attributes:
        space: of texts and features.
        config: what a feature is made of.
    """

    def __init__(self, space: TextSpace, config: FeatureConfig | None = None) -> None:
        """Prepares for a space.

        Raises:
            ConfigError: a class of the label space has no text.
        """
        self.space, self.config = space, config or FeatureConfig()
        self._confusions = np.cumsum(confusion_rows(space.dictionary.label_space.class_names), axis=1)
        self._first = first_of_equals(space.dictionary)
        self._texts = space.text_features.astype(np.float64)
        self._cosines = self._texts @ self._texts.T
        _ = space.choices  # raises here rather than at the first image

    def make(self, truth: SegmentTruth, image: CameraImage, seed: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Texts and features of the segments of one image.

        Args:
            truth: of the segments.
            image: its name and stamp tell the images of a drive apart; the pixels are not used.
            seed: of the drive; the same arguments give the same result.

        Returns:
            (R,) int32 text ids, each of the answered class, and (R, D) float32 unit vectors.
        """
        generator = np.random.default_rng([seed, zlib.crc32(b"features:" + image.name.encode()), image.stamp_ns])
        uniform, look = self._draw(truth, seed, generator)
        text_id = self.space.pick_texts(truth.answered, uniform[:, 0])
        other = self.space.pick_texts(self._other_class(truth, uniform[:, 1]), uniform[:, 2])
        meaning = self.space.meaning
        mixed = (1.0 - self.config.truth_leak) * meaning[text_id] + self.config.truth_leak * meaning[other]
        return text_id, self._embed(text_id, unit_rows(mixed), look, generator).astype(np.float32)

    def truth_ranks(self, truth: SegmentTruth, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """(W,) place of the true class among all classes, 1 = nearest, in the features of the W wrong segments."""
        wrong = (truth.true != truth.answered) & (truth.true < len(self._confusions))
        products = features[wrong] @ self.space.text_features.T
        text_class = self.space.dictionary.text_class
        nearest = [products[:, text_class == c].max(axis=1) for c in range(len(self._confusions))]
        by_class = np.stack(nearest, axis=1)  # (W, C)
        own = by_class[np.arange(len(by_class)), truth.true[wrong]]
        ranks: NDArray[np.int64] = 1 + (by_class > own[:, None]).sum(axis=1)
        return ranks

    def describe(self) -> dict[str, Any]:
        """Settings and revisions, JSON types."""
        return {"revision": REVISION, **asdict(self.config), "text_space": self.space.describe()}

    def _draw(
        self, truth: SegmentTruth, seed: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(R, 3) uniform numbers that decide texts and other class, and (R, D - 2) looks; an instance keeps its own."""
        count, dimensions = len(truth), self.space.config.dimensions - RESERVED
        uniform, look = generator.random((count, 3)), generator.standard_normal((count, dimensions))
        usual = generator.random(count) < self.config.text_persistence
        for i in np.flatnonzero(truth.instance):
            own = np.random.default_rng([seed, int(truth.instance[i]), zlib.crc32(b"look")])
            kept = own.random(3)
            uniform[i] = kept if usual[i] else (uniform[i, 0], *kept[1:])
            look[i] = own.standard_normal(dimensions)
        return uniform, look

    def _other_class(self, truth: SegmentTruth, draw: NDArray[np.float64]) -> NDArray[np.int64]:
        """(R,) the true class of wrong segments, a class that the answered one is taken for of the others."""
        count = len(self._confusions)
        taken_for = (self._confusions[truth.answered] <= draw[:, None]).sum(axis=1)
        taken_for = np.where(taken_for < count, taken_for, truth.answered)  # a single class is taken for nothing
        wrong = (truth.true != truth.answered) & (truth.true < count)
        return np.where(wrong, truth.true, taken_for).astype(np.int64)

    def _embed(
        self,
        text_id: NDArray[np.int32],
        meaning: NDArray[np.float64],
        look: NDArray[np.float64],
        generator: np.random.Generator,
    ) -> NDArray[np.float64]:
        """(R, D) unit vectors, nearest to their texts."""
        config, axes = self.config, self.space.axes
        dimensions = look.shape[1]
        rest = max(0.0, 1.0 - config.gap - config.meaning - config.look)
        noise = np.sqrt(config.look) * look + np.sqrt(rest) * generator.standard_normal(look.shape)
        features = np.sqrt(config.gap) * axes[:, 1] + np.sqrt(config.meaning) * meaning
        features = features + (noise / np.sqrt(dimensions)) @ axes[:, RESERVED:].T
        return self._nearest_to(text_id, features)

    def _nearest_to(self, text_id: NDArray[np.int32], features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Moves features until no other text is nearer than their own, each time as little as rules out the nearest."""
        features = unit_rows(features)
        moving = np.arange(len(features))
        for _ in range(MAX_MOVES):
            own = self._texts[text_id[moving]]
            products = features[moving] @ self._texts.T - (features[moving] * own).sum(axis=1)[:, None]
            products[self._first == self._first[text_id[moving]][:, None]] = -np.inf
            rival = products.argmax(axis=1)
            excess = products[np.arange(len(moving)), rival] + MARGIN
            left = excess > 0
            moving, away, excess = moving[left], (own - self._texts[rival])[left], excess[left] + MARGIN
            if not len(moving):
                return features
            step = excess / (away**2).sum(axis=1)  # onto the plane between the two texts, and a little beyond
            features[moving] = unit_rows(features[moving] + step[:, None] * away)
        features[moving] = self._texts[text_id[moving]]
        return features
