"""SAN as a teacher (Xu et al., CVPR 2023): semantic segments of any vocabulary from a frozen CLIP and a side adapter.

The best of AFOV's three teachers on nuScenes. Released checkpoints: ``san_vit_large_14.pth`` (the one AFOV uses) and
``san_vit_b_16.pth`` of MendelXu/SAN, both trained on COCO-Stuff.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.teachers.device import choose_device
from training.teachers.fingerprint import fingerprint
from training.teachers.image_preparation import ImageSizes, prepare_image
from training.teachers.san_checkpoint import load_san
from training.teachers.san_network import SanArchitecture
from training.teachers.segment_pooling import segments_from_queries
from training.teachers.text_encoder import OpenClipTextEncoder, encode_texts

if TYPE_CHECKING:
    from training.dictionary import ClassDictionary

SIZE_DIVISIBILITY = 32
"""Images are padded to multiples of it, as in training."""


@dataclass(frozen=True)
class SanConfig:
    """Settings of the SAN teacher; the defaults are those AFOV labels nuScenes with.

    Attributes:
        checkpoint: path of a released file.
        clip_pretrained: open_clip's tag or file of CLIP's weights, for a checkpoint that leaves the frozen ones out.
        short_side: pixels the shorter side of an image is resized to.
        max_long_side: pixels the longer side may have; smaller than that only for panoramas.
        device: "auto", "cpu", "cuda" or "cuda:N".
        architecture: must fit the checkpoint.
    """

    checkpoint: str
    clip_pretrained: str = "openai"
    short_side: int = 640
    max_long_side: int = 2560
    device: str = "auto"
    architecture: SanArchitecture = field(default_factory=SanArchitecture)

    def __post_init__(self) -> None:
        if not 1 <= self.short_side <= self.max_long_side:
            raise ConfigError(
                f"san: 1 <= short_side <= max_long_side is needed, got {self.short_side} and {self.max_long_side}"
            )
        layers = self.architecture.fusion_layers
        if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0:
            raise ConfigError(f"san: fusion_layers must be ascending block counts of CLIP, got {list(layers)}")


class SanTeacher:
    """Segments images with SAN; one segment per predicted text, features in CLIP's text space.

    Args:
        config: settings.
        dictionary: the texts to look for and their templates; SAN was trained with the set "vild14".

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: unknown CLIP or device, or a text is too long.
        ModelError: the checkpoint is missing, unreadable, or made for another architecture.
    """

    def __init__(self, config: SanConfig, dictionary: ClassDictionary) -> None:
        self.config, self.dictionary = config, dictionary
        self._device = choose_device(config.device)
        checkpoint = Path(config.checkpoint).expanduser()
        network, clip = load_san(checkpoint, config.clip_pretrained, config.architecture)
        self._weights = {"file": checkpoint.name, "sha256": fingerprint(network)}
        self.network = network.to(self._device)
        model = config.architecture.clip_model
        encoder = OpenClipTextEncoder(model, config.checkpoint, str(self._device), clip.to(self._device))
        self.text_features: NDArray[np.float32] = encode_texts(encoder, dictionary.texts, dictionary.templates)

    @property
    def label_space(self) -> LabelSpace:
        """Classes of the dictionary."""
        return self.dictionary.label_space

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image: per pixel the text with the highest ``sum_q P(text | q) sigmoid(mask_q)``.

        A segment's feature is the unit vector along the sum over its pixels of AFOV's pixel embeddings
        ``sum_q embedding_q sigmoid(mask_q)``.

        Raises:
            InputError: the network answers with NaN; names ``key`` and the camera.
        """
        native = (image.image.shape[0], image.image.shape[1])
        sizes = ImageSizes.of(native, self.config.short_side, self.config.max_long_side, SIZE_DIVISIBILITY)
        pixels = prepare_image(image.image, sizes).to(self._device)
        with torch.inference_mode():
            texts = torch.from_numpy(self.text_features).to(self._device)
            logits, masks, embeddings = self.network(pixels[None], texts)
            probabilities = torch.softmax(logits[0], dim=-1)[:, :-1]  # (Q, T), the background dropped
            masks = functional.interpolate(masks, sizes.padded, mode="bilinear", align_corners=False)
            masks = masks[0, :, : sizes.resized[0], : sizes.resized[1]]
            try:
                return segments_from_queries(probabilities, masks, embeddings[0], self.dictionary, native)
            except InputError as error:
                raise InputError(f"sample {key}, camera {image.name!r}: {error}") from error

    def describe(self) -> dict[str, Any]:
        """What made the segments, in JSON types."""
        config = self.config
        return {
            "teacher": "san",
            "model": config.architecture.clip_model,
            "architecture": dataclasses.asdict(config.architecture),
            "weights": self._weights,
            "preprocessing": {"short_side": config.short_side, "max_long_side": config.max_long_side},
            "templates": list(self.dictionary.templates),
            "logit_scale": float(self.network.ov_classifier.logit_scale.exp()),
            "dictionary": self.dictionary.hash,
        }
