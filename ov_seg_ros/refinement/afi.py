"""AFI, approximate flat interaction (AFOV, arXiv 2405.15286): smooths labels along locally straight structure.

Labels become votes. Four times, points that cover the scan evenly gather the votes of their neighbours, each more where
surfaces continue along the line between the two; then every point takes votes back along such lines only. A point on
no common line with anything keeps its own vote, which preserves small objects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.refinement.afi_config import AfiConfig
from ov_seg_ros.refinement.afi_decoder import decode
from ov_seg_ros.refinement.afi_encoder import encode, normalize_votes
from ov_seg_ros.refinement.near_ground import find_near_ground

TIE = 1e-6
"""Votes that differ by less are equal: a point keeps its label if that is among the winners."""


def refine_afi(
    points: NDArray[np.float32],
    class_id: NDArray[np.uint8],
    label_space: LabelSpace,
    config: AfiConfig,
    *,
    probabilities: NDArray[np.float32] | None = None,
    image_labels: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Refines the labels of one scan; the same input gives the same output.

    Args:
        points: (N, 3) metres, LiDAR frame with z up. Those that are not finite, or lie at (0, 0, 0), where drivers put
            beams that did not come back, keep their label and take no part.
        class_id: (N,) uint8 labels, 255 = none; a point without a label casts no vote but may receive some.
        label_space: of the labels; tells ground and objects by name.
        config: constants of the method.
        probabilities: (N, C) float32, votes instead of one whole vote for ``class_id``; None = whole votes.
        image_labels: (N,) uint8 labels that images give, 255 = none; replace labels at random, the nearer the
            likelier, and only by objects (image assist). None = no assist.
        seed: of the assist and of the search for the ground plane.

    Returns:
        (N,) uint8 labels; the input label where no vote arrives.

    Raises:
        InputError: shapes differ, or a label is no class.
        ConfigError: the classes named in ``config`` do not fit the label space.
    """
    _check(points, class_id, label_space, probabilities, image_labels)
    is_ground = config.ground_mask(label_space) if config.near_ground else np.zeros(len(label_space), bool)
    result = class_id.copy()
    valid = np.flatnonzero(np.isfinite(points).all(axis=1) & points.any(axis=1))
    if len(valid) == 0:
        return result
    places, labels = points[valid].astype(np.float64, order="C"), class_id[valid]
    votes = _votes_of(labels, len(label_space), None if probabilities is None else probabilities[valid])
    if image_labels is not None:
        labels, votes = _assist(
            places, labels, votes, image_labels[valid], config.object_mask(label_space), config, seed
        )
    on_ground = find_near_ground(places, config, seed) if config.near_ground else np.zeros(len(valid), bool)
    votes[on_ground | (np.hypot(places[:, 0], places[:, 1]) <= config.ego_radius)] = 0
    refined = decode(encode(places, votes, config), config)
    refined[on_ground] *= is_ground
    result[valid] = _elect(refined, labels)
    return result


def _check(
    points: NDArray[np.float32],
    class_id: NDArray[np.uint8],
    label_space: LabelSpace,
    probabilities: NDArray[np.float32] | None,
    image_labels: NDArray[np.uint8] | None,
) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points must have shape (N, 3), got {points.shape}")
    for name, labels in (("class_id", class_id), ("image_labels", image_labels)):
        if labels is None:
            continue
        if labels.shape != (len(points),) or labels.dtype != np.uint8:
            raise InputError(f"{name} must be ({len(points)},) uint8, got {labels.shape} {labels.dtype}")
        foreign = labels[(labels >= len(label_space)) & (labels != IGNORE_ID)]
        if len(foreign):
            raise InputError(
                f"{name} holds {foreign.max()}, but label space {label_space.name!r} has the classes"
                f" 0 to {len(label_space) - 1} and {IGNORE_ID} for none"
            )
    if probabilities is None:
        return
    expected = (len(points), len(label_space))
    if probabilities.shape != expected:
        raise InputError(f"probabilities must have shape {expected}, got {probabilities.shape}")
    if not (probabilities >= 0).all():  # NaN fails, too
        raise InputError("probabilities must be at least 0, some are negative or NaN")


def _votes_of(
    labels: NDArray[np.uint8], num_classes: int, probabilities: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """(N, C) one vote per labelled point, whole or divided by probabilities."""
    if probabilities is None:
        return np.eye(IGNORE_ID + 1, num_classes)[labels]
    votes = normalize_votes(probabilities.astype(np.float64))
    votes[labels == IGNORE_ID] = 0
    return votes


def _assist(
    points: NDArray[np.float64],
    labels: NDArray[np.uint8],
    votes: NDArray[np.float64],
    image_labels: NDArray[np.uint8],
    is_object: NDArray[np.bool_],
    config: AfiConfig,
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Takes over labels of objects from the images at random: labels and votes with them."""
    taken = np.random.default_rng([seed, 1]).random(len(points)) < assist_probability(points, config)
    taken &= np.append(is_object, np.zeros(IGNORE_ID + 1 - len(is_object), bool))[image_labels]
    votes = np.where(taken[:, None], _votes_of(image_labels, votes.shape[1], None), votes)
    return np.where(taken, image_labels, labels), votes


def assist_probability(points: NDArray[np.float64], config: AfiConfig) -> NDArray[np.float64]:
    """How likely the label of an image replaces that of the scan: b e^(-d/T) / (1 + b e^(-d/T)), T = d0 / ln b.

    Args:
        points: (N, 3) metres, LiDAR frame; d is their horizontal range.
        config: b = ``assist_odds``, d0 = ``assist_range``.

    Returns:
        (N,) float64: b / (1 + b) at range 0, one half at d0.
    """
    distance = np.hypot(points[:, 0], points[:, 1])
    odds = config.assist_odds ** (1 - distance / config.assist_range)  # b e^(-d ln b / d0)
    return odds / (1 + odds)


def _elect(votes: NDArray[np.float64], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N,) uint8 class of the largest vote; the input label where it ties with that, or where nobody votes."""
    largest = votes.max(axis=1)
    own = np.take_along_axis(votes, np.minimum(labels, votes.shape[1] - 1)[:, None].astype(np.int64), axis=1)[:, 0]
    keep = (largest <= 0) | ((labels != IGNORE_ID) & (own >= largest - TIE))
    return np.where(keep, labels, votes.argmax(axis=1)).astype(np.uint8)
