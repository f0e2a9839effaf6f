"""From overlapping masks with scores, asked for text by text, to one segment per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import TeacherSegments
from training.teachers.segment_pooling import make_segments, segments_from_labels

if TYPE_CHECKING:
    from torch import Tensor

    from training.dictionary import ClassDictionary


@dataclass(frozen=True)
class InstanceMasks:
    """What a network found for some texts in one image.

    Attributes:
        probabilities: (N, h, w) that a pixel belongs to the instance, of the whole image at any resolution.
        scores: (N,) that the instance exists and is what the text says.
        text_id: (N,) int64 index into the texts.
    """

    probabilities: Tensor
    scores: Tensor
    text_id: NDArray[np.int64]


def paint_instances(
    found: InstanceMasks,
    dictionary: ClassDictionary,
    image_size: tuple[int, int],
    visible_share: float = 0.5,
    merge_texts: bool = False,
) -> TeacherSegments:
    """Paints masks in descending order of their scores on what is still free.

    Synonyms find the same object twice; the second mask is then painted over to more than ``1 - visible_share`` and is
    dropped as a whole, so that its rim does not become a segment. Pixels that no mask covers are void. The confidence
    of a segment is the mean over its pixels of score times mask probability.

    Args:
        found: masks; enlarged bilinearly to the image and cut at 0.5.
        dictionary: maps texts to classes.
        image_size: (H, W).
        visible_share: masks of which less than this share is still free are dropped.
        merge_texts: one segment per text (as AFOV has it) instead of one per instance.
    """
    import torch

    label = torch.full(image_size, -1, dtype=torch.int64, device=found.probabilities.device)
    confidence = torch.zeros(image_size, device=label.device)
    painted: list[int] = []
    for number in torch.sort(found.scores, descending=True, stable=True).indices.tolist():
        mask = found.probabilities[number].float()[None, None]
        probability = torch.nn.functional.interpolate(mask, image_size, mode="bilinear", align_corners=False)[0, 0]
        inside = probability > 0.5
        free = inside & (label < 0)
        area = int(free.sum())
        if area == 0 or area < visible_share * int(inside.sum()):
            continue
        label[free] = len(painted)
        confidence[free] = found.scores[number].float() * probability[free]
        painted.append(number)
    texts = found.text_id[np.array(painted, np.int64)]
    labels, confidences = label.cpu().numpy(), confidence.cpu().numpy()
    if merge_texts:
        text_map = np.append(texts, -1)[labels]
        return segments_from_labels(text_map, confidences, None, dictionary, image_size)
    return make_segments((labels + 1).astype(np.uint16), texts, confidences, None, dictionary)
