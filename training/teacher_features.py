"""Whether a teacher can be pre-trained with: known once it is built, long before what it says gets onto points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import ConfigError, OvSegError
from training.chain import Chain
from training.finished_labels import find_finished
from training.teachers.segment_store import SegmentStore


def require_text_features(chain: Chain, dry_run: bool = False) -> None:
    """Refuses a teacher without features, where the recipe wants to pre-train, before it labels anything.

    Args:
        chain: builds the teacher, unless all is labelled.
        dry_run: a teacher that cannot be built is left to ``plan_lines``, which says so.

    Raises:
        ConfigError: the teacher has no vectors of the texts.
        OvSegError: it cannot be built, or the folder of its labels is of another source.
    """
    if chain.recipe.train.start != "pretrain":
        return
    try:
        features = _text_features(chain)
    except OvSegError:
        if not dry_run:
            raise
        return
    if features is None:
        raise ConfigError(
            f"recipe {chain.recipe.name} pre-trains (train: start: pretrain), but teacher {chain.recipe.teacher} has "
            "no features in a text space to learn from; choose a teacher that has some, or write train: start: random"
        )


def _text_features(chain: Chain) -> NDArray[np.float32] | None:
    folder, source = chain.folder("label"), chain.open_source()
    if find_finished(folder, source, chain.dictionary, chain.teacher_request, chain.part) is not None:
        return SegmentStore.open(folder, chain.dictionary).text_features
    return chain.build_teacher().text_features
