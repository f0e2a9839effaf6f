"""A made-up text-image space for the simulated teacher, drawn from a seed and shaped like CLIP's.

No weights of CLIP come along, so the vectors of the texts are drawn. What decides how contrastive learning behaves is
copied from real ones, measured on the 171 names of COCO-Stuff under ViT-B/16 (15 templates averaged, as ZegCLIP ships
them; ``test_simulated_features.py`` compares the distributions):

* all texts lie in a narrow cone: they share a component of length 0.90, so unrelated texts have cosines around 0.81;
* how far a text lies along that component varies by 0.03, which makes most of the spread of the cosines (0.74 to 0.88
  for 5 % to 95 % of all pairs);
* what is left of a text looks random (its cosines to others have a standard deviation of 0.12, that of noise in about
  70 dimensions), but for relatives: synonyms (rock, stone) and classes that are taken for each other (car, truck)
  have cosines of 0.87 to 0.97;
* what stands in one class without being alike is not close: names of manmade things (bench, bridge, ceiling) have a
  median of 0.80, like any others. So relationship is thinned out in groups of many texts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import ConfigError
from training.dictionary import ClassDictionary
from training.teachers.confusions import confusion_rows

REVISION = 1
"""Goes up whenever the same settings give other vectors."""

RESERVED = 2
"""Dimensions that tell nothing apart: what all texts share, and what all images have and no text."""


@dataclass(frozen=True)
class TextSpaceConfig:
    """How the vectors of texts relate.

    Attributes:
        dimensions: of the space, D. CLIP has 512 to 1024; about 50 of them carry the names measured above.
        seed: of the draw.
        common: length of the component that all texts share, of 1.
        common_spread: standard deviation of that length from text to text.
        class_share: of the rest of a text (its square), what it shares with its class; classes that are taken for each
            other share part of that.
        group_share: the same for its group in the dictionary.
        motley_size: groups of more texts than this are no synonyms; both shares fall off as this over their number.
    """

    dimensions: int = 64
    seed: int = 0
    common: float = 0.9
    common_spread: float = 0.028
    class_share: float = 0.4
    group_share: float = 0.2
    motley_size: int = 8

    def __post_init__(self) -> None:
        if self.dimensions < 8:
            raise ConfigError(f"text space: dimensions must be at least 8, got {self.dimensions}")
        for name in ("common", "common_spread", "class_share", "group_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"text space: {name} must be in [0, 1), got {getattr(self, name)}")
        if self.class_share + self.group_share > 1.0:
            raise ConfigError(
                f"text space: class_share + group_share must be at most 1, got {self.class_share} + {self.group_share}"
            )
        if self.motley_size < 1 or self.seed < 0:
            raise ConfigError(f"text space: motley_size >= 1 and seed >= 0, got {self.motley_size} and {self.seed}")


@dataclass(frozen=True, eq=False)
class TextSpace:
    """The vectors of the texts of a dictionary, and the axes of their space.

    Attributes:
        dictionary: whose texts these are.
        config: how they were drawn.
        text_features: (T, D) float32 unit vectors; equal texts have equal vectors.
        axes: (D, D) float64 orthonormal columns: what all texts share, what all images and no text have, the rest.
        meaning: (T, D) float64 unit vectors of what tells a text from others, orthogonal to the first two axes.
    """

    dictionary: ClassDictionary
    config: TextSpaceConfig
    text_features: NDArray[np.float32]
    axes: NDArray[np.float64]
    meaning: NDArray[np.float64]

    @classmethod
    def make(cls, dictionary: ClassDictionary, config: TextSpaceConfig | None = None) -> TextSpace:
        """Draws the space; the same arguments give the same vectors."""
        config = config or TextSpaceConfig()
        generator = np.random.default_rng([config.seed, config.dimensions])
        axes, _ = np.linalg.qr(generator.standard_normal((config.dimensions, config.dimensions)))
        first = first_of_equals(dictionary)
        meaning = _draw_meaning(dictionary, config, generator)[first] @ axes[:, RESERVED:].T  # (T, D)
        common = generator.normal(config.common, config.common_spread, len(dictionary))[first].clip(0.0, 0.999)
        vectors = common[:, None] * axes[:, 0] + np.sqrt(1.0 - common**2)[:, None] * meaning
        return cls(dictionary, config, vectors.astype(np.float32), axes, meaning)

    @cached_property
    def choices(self) -> tuple[tuple[NDArray[np.int64], NDArray[np.float64]], ...]:
        """Per class the texts a teacher may answer, without repetitions, and their cumulative weights.

        Words at the head of a group, and groups at the head of a class, are answered more often: the weight of the
        n-th is 1/n, as of words in a language (Zipf).

        Raises:
            ConfigError: a class has no text of its own.
        """
        dictionary, first = self.dictionary, first_of_equals(self.dictionary)
        found = []
        for class_id, name in enumerate(dictionary.label_space.class_names):
            texts = np.flatnonzero((dictionary.text_class == class_id) & (first == np.arange(len(dictionary))))
            if not len(texts):
                raise ConfigError(f"dictionary {dictionary.name} has no text for class {name}; give it one")
            group = dictionary.text_group[texts]
            rank = np.arange(len(texts)) - np.searchsorted(group, group)
            weight = 1.0 / ((1.0 + rank) * (1.0 + np.unique(group, return_inverse=True)[1]))
            found.append((texts, np.cumsum(weight) / weight.sum()))
        return tuple(found)

    def pick_texts(self, class_id: NDArray[np.integer], draw: NDArray[np.float64]) -> NDArray[np.int32]:
        """(R,) int32 a text of each class, decided by (R,) uniform numbers in [0, 1)."""
        picked = np.zeros(len(class_id), np.int32)
        for i, (c, number) in enumerate(zip(class_id, draw, strict=True)):
            texts, cumulative = self.choices[int(c)]
            picked[i] = texts[min(int(np.searchsorted(cumulative, number, side="right")), len(texts) - 1)]
        return picked

    def describe(self) -> dict[str, Any]:
        """Settings and revision, JSON types; with the hash of the dictionary they decide the vectors."""
        return {"revision": REVISION, **asdict(self.config)}


def first_of_equals(dictionary: ClassDictionary) -> NDArray[np.int64]:
    """(T,) index of the first text with the same words: a text encoder cannot tell them apart."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(text, i) for i, text in enumerate(dictionary.texts)], np.int64)


def _draw_meaning(
    dictionary: ClassDictionary, config: TextSpaceConfig, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(T, D - 2) unit vectors: a part of the class, a part of the group and one of the text itself."""
    shape = (len(dictionary), config.dimensions - RESERVED)
    own = unit_rows(generator.standard_normal(shape))
    of_group = unit_rows(generator.standard_normal((len(dictionary.groups), shape[1])))
    of_class = _draw_classes(dictionary, shape[1], generator)
    size = np.bincount(dictionary.text_group)[dictionary.text_group]
    alike = np.minimum(1.0, config.motley_size / size)[:, None]  # (T, 1)
    shared_class, shared_group = config.class_share * alike, config.group_share * alike
    parts = np.sqrt(shared_class) * of_class[dictionary.text_group]
    parts += np.sqrt(shared_group) * of_group[dictionary.text_group]
    return unit_rows(parts + np.sqrt(1.0 - shared_class - shared_group) * own)


def _draw_classes(dictionary: ClassDictionary, dimensions: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(G, dimensions) unit vector of the class of each group; of a sink, which has none, one of its own."""
    rows = confusion_rows(dictionary.label_space.class_names)
    wanted = np.maximum(rows, rows.T) + np.eye(len(rows))
    values, vectors = np.linalg.eigh(wanted)  # the nearest matrix of cosines has no negative eigenvalues
    factor = unit_rows(vectors * np.sqrt(values.clip(0.0)))
    basis, _ = np.linalg.qr(generator.standard_normal((dimensions, max(len(rows), 1))))  # (dimensions, C) or fewer
    classes = unit_rows(factor[:, : basis.shape[1]] @ basis.T)
    of_group = unit_rows(generator.standard_normal((len(dictionary.groups), dimensions)))
    known = dictionary.group_class != IGNORE_ID
    of_group[known] = classes[dictionary.group_class[known]]
    return of_group


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows scaled to length 1."""
    scaled: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled
