"""Several sources as one: drives and data sets that one student learns from together."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.projection import DEFAULT_OCCLUSION, VisibilityTest
from training.sources.point_files import check_index
from training.sources.protocol import Source

MAX_NAME_BYTES = 200
"""Of a joined name. File systems allow 255, and folders of stages are called "finetune-NAME-SAMPLES"."""

MAX_FIRST_BYTES = 60
"""Of the first name in a shortened one."""


class JoinedSource:
    """The samples of several sources in a row: all of the first, then all of the second, and so on.

    Laser numbers and occlusion tests come from those sources that have them.

    Attributes:
        name: "kitti_raw+kitti_object", or the one given; of many sources "first+12_more-1f3a5c7e".
        sources: those it is made of.
    """

    def __init__(self, sources: Sequence[Source], name: str = "") -> None:
        """Puts sources in a row.

        Args:
            sources: any, also several of the same name.
            name: usable as a folder name; "" = those of the sources, joined by "+", shortened where it is too long.

        Raises:
            ConfigError: no source, or two of them with ground truth in different label spaces.
        """
        if not sources:
            raise ConfigError("a joined source needs at least one source, got none")
        self.sources = tuple(sources)
        self._label_space = _common_label_space(self.sources)
        self._names = _distinct([source.name for source in self.sources])
        self.name = name or _joined_name(self._names)
        self._ends = list(accumulate(len(source) for source in self.sources))

    @property
    def label_space(self) -> LabelSpace | None:
        """Of those sources that have ground truth; None if none has."""
        return self._label_space

    def __len__(self) -> int:
        return self._ends[-1]

    def load_sample(self, index: int) -> Sample:
        """Loads a sample; its key is the name of this source before the key it has in its own.

        A source that shares its name with an earlier one gets a number in the keys: "drive/000000" of the second
        "drive" becomes "drive+drive-2/drive-2/000000".

        Raises:
            InputError: the index is out of range, or the sample cannot be read.
        """
        number, own = self._place(index)
        sample = self.sources[number].load_sample(own)
        rest = sample.key.removeprefix(f"{self.sources[number].name}/")
        return replace(sample, key=f"{self.name}/{self._names[number]}/{rest}")

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        abouts = [source.describe() for source in self.sources]
        truth = [about.pop("truth", None) for about in abouts]
        parts = zip(self._names, self.sources, abouts, strict=True)
        return {
            "sources": [{"name": name, "samples": len(source), "about": about} for name, source, about in parts],
            "truth": truth,
        }

    def load_ring(self, index: int) -> NDArray[np.uint16] | None:
        """(N,) uint16 laser of each point, None where the sample's source does not know it; raises as that does."""
        number, own = self._place(index)
        load = getattr(self.sources[number], "load_ring", None)
        ring: NDArray[np.uint16] | None = None if load is None else load(own)
        return ring

    def load_occlusion(self, index: int) -> VisibilityTest | None:
        """The occlusion test of the sample's source, by default the one for LiDARs; raises as the source does."""
        number, own = self._place(index)
        load = getattr(self.sources[number], "load_occlusion", None)
        test: VisibilityTest | None = DEFAULT_OCCLUSION if load is None else load(own)
        return test

    def _place(self, index: int) -> tuple[int, int]:
        """Number of a sample's source, and the index in it."""
        check_index(index, len(self), self.name)
        number = bisect.bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


def _joined_name(names: Sequence[str]) -> str:
    """The names, joined; where that is too long, the first, the number of the others and a hash of all, in order."""
    joined = "+".join(names)
    if len(joined.encode()) <= MAX_NAME_BYTES:
        return joined
    first = names[0].encode()[:MAX_FIRST_BYTES].decode(errors="ignore")
    return f"{first}+{len(names) - 1}_more-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, each further one of the same with a number that makes it unlike all others."""
    distinct: list[str] = []
    for name in names:
        number, own = 1, name
        while own in distinct or (number > 1 and own in names):
            number += 1
            own = f"{name}-{number}"
        distinct.append(own)
    return distinct


def _common_label_space(sources: Sequence[Source]) -> LabelSpace | None:
    labelled = [(source.name, space) for source in sources if (space := source.label_space) is not None]
    if not labelled:
        return None
    name, first = labelled[0]
    for other, space in labelled[1:]:
        if space.class_names != first.class_names:
            raise ConfigError(
                f"sources {name} and {other} have ground truth of different label spaces, {first.name} and "
                f"{space.name}; open them with the same labels=..."
            )
    return first
