"""CAT-Seg as a teacher (Cho et al., CVPR 2024): semantic segments by aggregating the cosines of a fine-tuned CLIP.

Released checkpoints: ``model_large.pth`` and ``model_base.pth`` of cvlab-kaist/CAT-Seg, trained on COCO-Stuff. AFOV
exported its masks with the first version of 2023, which has a Swin backbone beside CLIP; such exports are read by the
teacher ``precomputed``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.prompt_templates import load_templates
from training.teachers.cat_seg_checkpoint import load_cat_seg
from training.teachers.cat_seg_network import CatSegArchitecture
from training.teachers.cat_seg_windows import SlidingWindow, predict_in_windows
from training.teachers.device import choose_device
from training.teachers.fingerprint import fingerprint
from training.teachers.image_preparation import ImageSizes, prepare_image
from training.teachers.segment_pooling import segments_from_scores
from training.teachers.text_encoder import OpenClipTextEncoder, encode_texts

if TYPE_CHECKING:
    from training.dictionary import ClassDictionary

DICTIONARY_TEMPLATES = "dictionary"


@dataclass(frozen=True)
class CatSegConfig:
    """Settings of the CAT-Seg teacher; the defaults are those of its published evaluation.

    Attributes:
        checkpoint: path of a released file.
        templates: a set in config/templates; "cat_seg" is what it was trained with. "dictionary" takes the templates
            of the class dictionary.
        short_side: pixels the shorter side of an image is resized to before anything else.
        max_long_side: pixels the longer side may have.
        sliding_window: tiles and the whole image; False squashes the whole image into one look (as AFOV did).
        window: sizes of the tiles.
        device: "auto", "cpu", "cuda" or "cuda:N".
        architecture: must fit the checkpoint.
    """

    checkpoint: str
    templates: str = "cat_seg"
    short_side: int = 640
    max_long_side: int = 2560
    sliding_window: bool = True
    window: SlidingWindow = field(default_factory=SlidingWindow)
    device: str = "auto"
    architecture: CatSegArchitecture = field(default_factory=CatSegArchitecture)

    def __post_init__(self) -> None:
        if not 1 <= self.short_side <= self.max_long_side:
            raise ConfigError(
                f"cat_seg: 1 <= short_side <= max_long_side is needed, got {self.short_side} and {self.max_long_side}"
            )


class CatSegTeacher:
    """Segments images with CAT-Seg; one segment per text that wins a pixel, features in its CLIP's text space.

    Args:
        config: settings.
        dictionary: the texts to look for.

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: unknown CLIP, templates or device, or a text is too long.
        ModelError: the checkpoint is missing, unreadable, or made for another architecture.
    """

    def __init__(self, config: CatSegConfig, dictionary: ClassDictionary) -> None:
        self.config, self.dictionary = config, dictionary
        self._device = choose_device(config.device)
        own = config.templates == DICTIONARY_TEMPLATES
        self.templates = dictionary.templates if own else load_templates(config.templates)
        checkpoint = Path(config.checkpoint).expanduser()
        network = load_cat_seg(checkpoint, config.architecture)
        self._weights = {"file": checkpoint.name, "sha256": fingerprint(network)}
        self.network = network.to(self._device)
        model = config.architecture.clip_model
        encoder = OpenClipTextEncoder(model, config.checkpoint, str(self._device), self.network.clip)
        self.text_features: NDArray[np.float32] = encode_texts(encoder, dictionary.texts, self.templates)

    @property
    def label_space(self) -> LabelSpace:
        """Classes of the dictionary."""
        return self.dictionary.label_space

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image: per pixel the most probable text, each judged on its own with a sigmoid.

        A segment's feature is the mean over its pixels of the dense CLIP features of the whole image.

        Raises:
            InputError: the network answers with NaN; names ``key`` and the camera.
        """
        native = (image.image.shape[0], image.image.shape[1])
        sizes = ImageSizes.of(native, self.config.short_side, self.config.max_long_side, 1)
        pixels = prepare_image(image.image, sizes).to(self._device)
        with torch.inference_mode():
            probabilities, features = self._predict(pixels)
            low = features.permute(1, 2, 0)  # (h, w, D)
            try:
                return segments_from_scores(probabilities, low, self.dictionary, native, "none")
            except InputError as error:
                raise InputError(f"sample {key}, camera {image.name!r}: {error}") from error

    def describe(self) -> dict[str, Any]:
        """What made the segments, in JSON types."""
        config = self.config
        preprocessing = {"short_side": config.short_side, "max_long_side": config.max_long_side}
        return {
            "teacher": "cat_seg",
            "model": config.architecture.clip_model,
            "architecture": dataclasses.asdict(config.architecture),
            "weights": self._weights,
            "preprocessing": preprocessing,
            "window": dataclasses.asdict(config.window) if config.sliding_window else None,
            "templates": list(self.templates),
            "logit_scale": None,
            "dictionary": self.dictionary.hash,
        }

    def _predict(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(3, H, W) to (T, h', w') probabilities and (D, h, w) features."""
        texts = torch.from_numpy(self.text_features).to(self._device)
        if self.config.sliding_window:
            return predict_in_windows(pixels, lambda image: self.network(image, texts), self.config.window)
        logits, features = self.network(pixels, texts)
        return logits.sigmoid(), features
