"""The teacher MaskCLIP: CLIP's own image tower as a segmentation network, without any training.

Zhou, Loy, Dai: Extract Free Dense Labels from CLIP, ECCV 2022. Any ViT or ResNet of open_clip; the two refinements of
the paper are options. The released code runs the image tower of OpenAI's ViT with GELU; here both towers have
QuickGELU, with which they were trained.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.teachers.clip_image import (
    OPENAI_MEAN,
    OPENAI_STD,
    cell_size,
    check_windows,
    encode_windows,
    prepare_image,
)
from training.teachers.dense_clip import DenseClip
from training.teachers.device import choose_device
from training.teachers.fingerprint import fingerprint
from training.teachers.maskclip_refinement import confident_texts, smooth_by_keys
from training.teachers.open_clip_loading import load_open_clip
from training.teachers.segment_pooling import Activation, pool_features, segments_from_labels, segments_from_scores
from training.teachers.text_encoder import OpenClipTextEncoder, encode_texts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.dictionary import ClassDictionary
    from training.teachers.dense_clip import DenseFeatures


@dataclass(frozen=True)
class MaskClipConfig:
    """Settings of ``MaskClipTeacher``; the defaults are the paper's, without its refinements.

    Attributes:
        model: name of a ViT or ResNet CLIP in open_clip.
        weights: open_clip's name for them ("openai"), or a checkpoint file; see ``load_open_clip`` for its activation.
        short_side: pixels of the shorter side of the image for the network; 0 = as it is.
        window, window_stride: pixels of sliding windows, multiples of the cell (16 in ViT-B-16); 0 = whole image.
        logit_scale: factor of the cosines before the softmax.
        prompt_denoising: texts that reach this probability nowhere in an image are dropped; 0 = off, paper: 0.5.
        key_smoothing: cells below this probability are averaged with cells alike; 0 = off, paper: 1.0.
        half_precision: float16 for the network on a GPU.
        device: auto, cpu, cuda or cuda:N.
    """

    model: str = "ViT-B-16"
    weights: str = "openai"
    short_side: int = 512
    window: int = 0
    window_stride: int = 0
    logit_scale: float = 100.0
    prompt_denoising: float = 0.0
    key_smoothing: float = 0.0
    half_precision: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("short_side", "window", "window_stride"):
            if getattr(self, name) < 0:
                raise ConfigError(f"maskclip: {name} must be >= 0 pixels, got {getattr(self, name)}")
        for name in ("prompt_denoising", "key_smoothing"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"maskclip: {name} must be in 0..1 (0 = off), got {getattr(self, name)}")
        if not 0.0 < self.logit_scale < float("inf"):
            raise ConfigError(f"maskclip: logit_scale must be > 0, got {self.logit_scale}")


class MaskClipTeacher:
    """Compares the CLIP feature of every cell with every text; one segment per text that wins a pixel."""

    def __init__(self, config: MaskClipConfig, dictionary: ClassDictionary, clip: nn.Module | None = None) -> None:
        """Loads the network and encodes the texts.

        Args:
            config: settings.
            dictionary: the texts.
            clip: the open_clip model ``config.model``, already loaded; None loads it with ``config.weights``.

        Raises:
            MissingDependencyError: open_clip or torch is not installed.
            ModelError: the network cannot be loaded, or has no value path.
            ConfigError: windows do not fit its cells, or there is no such device.
        """
        self.config = config
        self.dictionary = dictionary
        self._device = choose_device(config.device)
        if clip is None:
            clip = load_open_clip(config.model, config.weights, str(self._device))
        clip = clip.to(self._device).eval()
        self._dense = DenseClip.wrap(clip.visual)
        if config.window:
            check_windows(config.window, config.window_stride, self._dense.cell)
        normalisation = getattr(clip.visual, "preprocess_cfg", {})
        self._mean = tuple(normalisation.get("mean", OPENAI_MEAN))
        self._std = tuple(normalisation.get("std", OPENAI_STD))
        encoder = OpenClipTextEncoder(config.model, config.weights, str(self._device), clip)
        self._weights = {"image_sha256": fingerprint(self._dense.visual), "text": encoder.describe()}
        self.text_features: NDArray[np.float32] = encode_texts(encoder, dictionary.texts, dictionary.templates)

    @property
    def label_space(self) -> LabelSpace:
        """Of the dictionary."""
        return self.dictionary.label_space

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image; features are means of the dense CLIP features over the pixels of a segment.

        Raises:
            InputError: the network returned NaN for this image.
        """
        size = (image.image.shape[0], image.image.shape[1])
        dense = self._encode(image.image)
        try:
            scores = self._score(dense)
            if scores is None:
                nothing = np.full(size, -1)
                return segments_from_labels(nothing, np.zeros(size), dense.features[0], self.dictionary, size)
            activation: Activation = "none" if self.config.key_smoothing else "softmax"
            return segments_from_scores(scores, dense.features[0], self.dictionary, size, activation)
        except InputError as error:
            raise InputError(f"sample {key}, camera {image.name!r}: {error}") from error

    def pool(self, image: NDArray[np.uint8], segment_id: NDArray[np.uint16], count: int) -> NDArray[np.float32]:
        """(R, D) float32 unit features of given segments, whoever made them (see ``pool_features``)."""
        return pool_features(segment_id, count, self._encode(image).features[0])

    def describe(self) -> dict[str, Any]:
        """What made the segments, in JSON types."""
        settings = asdict(self.config)
        for name in ("model", "weights", "device", "logit_scale"):
            settings.pop(name)
        return {
            "teacher": "maskclip",
            "model": self.config.model,
            "weights": self.config.weights,
            "weights_found": self._weights,
            "preprocessing": {
                "short_side": settings.pop("short_side"),
                "cell": self._dense.cell,
                "resampling": "bicubic",
                "mean": list(self._mean),
                "std": list(self._std),
            },
            "settings": settings,
            "templates": list(self.dictionary.templates),
            "logit_scale": self.config.logit_scale,
            "feature_dim": self._dense.dim,
            "dictionary": self.dictionary.hash,
        }

    def _encode(self, image: NDArray[np.uint8]) -> DenseFeatures:
        import torch

        config, device = self.config, self._device
        size = cell_size((image.shape[0], image.shape[1]), config.short_side, self._dense.cell)
        pixels = torch.from_numpy(prepare_image(image, size, self._mean, self._std))[None].to(device)
        half = config.half_precision and device.type == "cuda"
        with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=half):
            return encode_windows(self._dense, pixels, config.window, config.window_stride)

    def _score(self, dense: DenseFeatures) -> Tensor | None:
        """(T, h, w) logits, or probabilities after key smoothing; None if no text is confident anywhere."""
        import torch

        text = torch.from_numpy(self.text_features).to(dense.features.device)
        logits = self.config.logit_scale * (dense.features[0] @ text.T).permute(2, 0, 1)
        if self.config.prompt_denoising:
            kept = confident_texts(logits, self.config.prompt_denoising)
            if not bool(kept.any()):
                return None
            logits = torch.where(kept[:, None, None], logits, -100.0 * self.config.logit_scale)
        if not self.config.key_smoothing:
            return logits
        return smooth_by_keys(logits.softmax(dim=0), dense.keys[0], self.config.key_smoothing)
