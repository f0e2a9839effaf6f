"""The teacher SAM 3: finds all instances of a phrase (Carion et al. 2025, Segment Anything with Concepts).

The network of the transformers library. The image is encoded once, then the texts are asked for in batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.teachers.device import choose_device
from training.teachers.fingerprint import fingerprint
from training.teachers.hf_loading import load_network, load_tokenizer, squash_image, tokenize
from training.teachers.instance_merging import InstanceMasks, paint_instances
from training.teachers.segment_pooling import segments_from_scores

if TYPE_CHECKING:
    from training.dictionary import ClassDictionary

MEAN = STD = (0.5, 0.5, 0.5)
"""Normalisation of RGB in 0..1 that SAM 3 was trained with."""

OUTPUTS = ("instances", "instances_by_text", "semantic")


@dataclass(frozen=True)
class Sam3Config:
    """Settings of ``Sam3Teacher``.

    Attributes:
        weights: name on the hub or folder with network and tokenizer.
        output: "instances" (a segment per object), "instances_by_text" (the objects of one text are one segment) or
            "semantic" (the semantic head: per pixel the text with the highest probability).
        score_threshold: instances below this score are dropped; with "semantic", pixels below it are void.
        visible_share: see ``paint_instances``.
        text_batch: texts asked for at once. Each takes some 0.5 GB in float32, an estimate from shapes: the mask
            decoder holds about five maps of 256 x 288 x 288 (85 MB each), and 200 masks of 288 x 288 (66 MB).
        half_precision: bfloat16 on a GPU.
        device: auto, cpu, cuda or cuda:N.
    """

    weights: str = "facebook/sam3"
    output: str = "instances"
    score_threshold: float = 0.5
    visible_share: float = 0.5
    text_batch: int = 8
    half_precision: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ConfigError(f"sam3: output must be one of {', '.join(OUTPUTS)}, got {self.output!r}")
        for name in ("score_threshold", "visible_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"sam3: {name} must be in 0..1, got {getattr(self, name)}")
        if self.text_batch < 1:
            raise ConfigError(f"sam3: text_batch must be at least 1, got {self.text_batch}")


class Sam3Teacher:
    """Asks SAM 3 for every text of the dictionary and merges what it finds.

    Its texts are compared with objects inside the network, after both were mixed with the image, so there is no common
    space of texts and segments: ``text_features`` and the features are None. ``ClipFeatures`` adds CLIP's.

    Attributes:
        text_features: None.
    """

    text_features: NDArray[np.float32] | None = None

    def __init__(self, config: Sam3Config, dictionary: ClassDictionary) -> None:
        """Loads the network and encodes the texts, as they are, without templates.

        Raises:
            MissingDependencyError: transformers (5 or newer) or torch is not installed.
            ModelError: the checkpoint cannot be loaded or is another network's.
            ConfigError: a text is too long, or there is no such device.
        """
        import torch

        self.config = config
        self.dictionary = dictionary
        self._device = choose_device(config.device)
        self._network = load_network("Sam3Model", ("sam3", "sam3_video"), config.weights, self._device)
        length = self._network.config.text_config.max_position_embeddings
        ids, mask = tokenize(load_tokenizer(config.weights), dictionary.texts, length)
        self._mask = mask.to(self._device)
        with torch.inference_mode():
            parts = [
                self._network.get_text_features(i.to(self._device), attention_mask=m).pooler_output
                for i, m in zip(ids.split(64), self._mask.split(64), strict=True)
            ]
        self._text = torch.cat(parts)  # (T, length, D)
        self._size = _pair(self._network.config.vision_config.backbone_config.image_size)

    @property
    def label_space(self) -> LabelSpace:
        """Of the dictionary."""
        return self.dictionary.label_space

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image.

        Raises:
            InputError: the network returned NaN for this image.
        """
        import torch

        size = (image.image.shape[0], image.image.shape[1])
        half = self.config.half_precision and self._device.type == "cuda"
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            if self.config.output == "semantic":
                scores = torch.cat([_semantic(answer) for _, answer in self._ask(image.image, key)])
                return segments_from_scores(
                    scores, None, self.dictionary, size, "none", void_below=self.config.score_threshold
                )
            parts = [self._instances(answer, first) for first, answer in self._ask(image.image, key)]
            found = InstanceMasks(
                torch.cat([part.probabilities for part in parts]),
                torch.cat([part.scores for part in parts]),
                np.concatenate([part.text_id for part in parts]),
            )
            by_text = self.config.output == "instances_by_text"
            return paint_instances(found, self.dictionary, size, self.config.visible_share, by_text)

    def describe(self) -> dict[str, Any]:
        """What made the segments, in JSON types."""
        settings = {k: v for k, v in asdict(self.config).items() if k not in ("weights", "device", "text_batch")}
        return {
            "teacher": "sam3",
            "model": "transformers.Sam3Model",
            "weights": self.config.weights,
            "weights_sha256": fingerprint(self._network),
            "preprocessing": {"size": list(self._size), "resampling": "bilinear", "mean": list(MEAN), "std": list(STD)},
            "settings": settings,
            "templates": ["{}"],
            "logit_scale": None,
            "dictionary": self.dictionary.hash,
        }

    def _ask(self, image: NDArray[np.uint8], key: str) -> Iterator[tuple[int, Any]]:
        """(first text of the batch, the network's output for the batch) for all texts."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        pixels = squash_image(image, self._size, MEAN, STD).to(self._device)
        seen = self._network.get_vision_features(pixels)
        for first in range(0, len(self._text), self.config.text_batch):
            batch = slice(first, first + self.config.text_batch)
            text = BaseModelOutputWithPooling(pooler_output=self._text[batch])
            answer = self._network(
                vision_embeds=_repeat(seen, len(self._text[batch])), text_embeds=text, attention_mask=self._mask[batch]
            )
            if not bool(torch.isfinite(answer.pred_logits).all()):
                raise InputError(f"sample {key}: SAM 3 returned NaN; set half_precision to false or check the weights")
            yield first, answer

    def _instances(self, answer: Any, first: int) -> InstanceMasks:
        """Instances of a batch above the threshold; scores are object times presence, as in the released code."""
        scores = (answer.pred_logits.float().sigmoid() * answer.presence_logits.float().sigmoid()).cpu()  # (B, Q)
        text, query = (scores > self.config.score_threshold).nonzero(as_tuple=True)
        masks = answer.pred_masks[text.to(self._device), query.to(self._device)].float().sigmoid()
        return InstanceMasks(masks, scores[text, query], text.numpy() + first)


def _semantic(answer: Any) -> Any:
    """(B, h, w) probability of each text of a batch per pixel: semantic head times presence."""
    presence = answer.presence_logits.float().sigmoid()  # (B, 1)
    return answer.semantic_seg[:, 0].float().sigmoid() * presence[:, :, None]


def _repeat(seen: Any, count: int) -> Any:
    """The encoded image once per text, without copies."""
    repeated = {
        name: tuple(level.expand(count, -1, -1, -1) for level in getattr(seen, name))
        for name in ("fpn_hidden_states", "fpn_position_encoding")
    }
    return type(seen)(last_hidden_state=seen.last_hidden_state, **repeated)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
