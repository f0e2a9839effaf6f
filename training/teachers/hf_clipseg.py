"""The teacher CLIPSeg: a light decoder on CLIP that answers one text at a time (Lüddecke, Ecker, CVPR 2022).

The network of the transformers library. CLIP sees the image once; only the decoder, 64 channels wide, runs per text.
Its CLIP is frozen, so segment features come from it by the value path of MaskCLIP (see ``dense_clip``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.prompt_templates import check_templates, fill_template
from training.teachers.device import choose_device
from training.teachers.fingerprint import fingerprint
from training.teachers.hf_loading import load_network, load_tokenizer, squash_image, tokenize
from training.teachers.segment_pooling import segments_from_scores
from training.teachers.text_encoder import encode_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from training.dictionary import ClassDictionary

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of RGB in 0..1 that CLIPSeg was trained with: that of ImageNet, not CLIP's."""


@dataclass(frozen=True)
class ClipSegConfig:
    """Settings of ``ClipSegTeacher``.

    Attributes:
        weights: name on the hub or folder with network and tokenizer.
        prompt: the sentence that a text is asked for with.
        input_size: the image is squashed to a square of this side, pixels, a multiple of the patch; 352 in training.
        void_below: pixels whose best text is less probable are void.
        text_batch: texts decoded at once.
        half_precision: float16 on a GPU.
        device: auto, cpu, cuda or cuda:N.
    """

    weights: str = "CIDAS/clipseg-rd64-refined"
    prompt: str = "a photo of a {}."
    input_size: int = 352
    void_below: float = 0.3
    text_batch: int = 64
    half_precision: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        check_templates([self.prompt], "clipseg: prompt")
        if not 0.0 <= self.void_below <= 1.0:
            raise ConfigError(f"clipseg: void_below must be in 0..1, got {self.void_below}")
        for name in ("input_size", "text_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"clipseg: {name} must be at least 1, got {getattr(self, name)}")


class ClipSegTeacher:
    """Asks CLIPSeg for every text; a pixel goes to the text with the highest probability."""

    def __init__(self, config: ClipSegConfig, dictionary: ClassDictionary) -> None:
        """Loads the network and encodes the texts: with ``config.prompt`` to ask, with all templates for features.

        Raises:
            MissingDependencyError: transformers or torch is not installed.
            ModelError: the checkpoint cannot be loaded or is another network's.
            ConfigError: a text is too long, the input size is not whole patches, or there is no such device.
        """
        self.config = config
        self.dictionary = dictionary
        self._device = choose_device(config.device)
        name = "CLIPSegForImageSegmentation"
        self._network = load_network(name, ("clipseg",), config.weights, self._device)
        patch = self._network.config.vision_config.patch_size
        if config.input_size % patch:
            raise ConfigError(f"clipseg: input_size must be a multiple of the patch {patch}, got {config.input_size}")
        self._tokenizer = load_tokenizer(config.weights)
        self._asked = self.encode([fill_template(config.prompt, text) for text in dictionary.texts])  # (T, D)
        self.text_features: NDArray[np.float32] = encode_texts(self, dictionary.texts, dictionary.templates)

    @property
    def label_space(self) -> LabelSpace:
        """Of the dictionary."""
        return self.dictionary.label_space

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) float32 text vectors of its CLIP, not normalised."""
        import torch

        ids, mask = tokenize(self._tokenizer, texts, self._network.config.text_config.max_position_embeddings)
        with torch.inference_mode():
            parts = [
                self._network.get_conditional_embeddings(
                    batch_size=len(i), input_ids=i.to(self._device), attention_mask=m.to(self._device)
                )
                for i, m in zip(ids.split(256), mask.split(256), strict=True)
            ]
        vectors: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
        return vectors

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image; features are means of dense CLIP features over the pixels of a segment.

        Raises:
            InputError: the network returned NaN for this image.
        """
        import torch

        size = (image.image.shape[0], image.image.shape[1])
        square = (self.config.input_size, self.config.input_size)
        half = self.config.half_precision and self._device.type == "cuda"
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=half):
            pixels = squash_image(image.image, square, MEAN, STD).to(self._device)
            hidden = self._network.clip.vision_model(
                pixel_values=pixels, output_hidden_states=True, interpolate_pos_encoding=True, return_dict=True
            ).hidden_states
            scores, features = self._decode(hidden), self._dense_features(hidden[-2])
        try:
            return segments_from_scores(
                scores, features, self.dictionary, size, "none", void_below=self.config.void_below
            )
        except InputError as error:
            raise InputError(f"sample {key}, camera {image.name!r}: {error}") from error

    def describe(self) -> dict[str, Any]:
        """What made the segments, in JSON types."""
        return {
            "teacher": "clipseg",
            "model": "transformers.CLIPSegForImageSegmentation",
            "weights": self.config.weights,
            "weights_sha256": fingerprint(self._network),
            "preprocessing": {
                "size": [self.config.input_size, self.config.input_size],
                "resampling": "bilinear",
                "mean": list(MEAN),
                "std": list(STD),
            },
            "settings": {
                k: v for k, v in asdict(self.config).items() if k in ("prompt", "void_below", "half_precision")
            },
            "templates": list(self.dictionary.templates),
            "logit_scale": None,
            "feature_dim": int(self._network.config.projection_dim),
            "dictionary": self.dictionary.hash,
        }

    def _decode(self, hidden: Sequence[Tensor]) -> Tensor:
        """(T, h, w) probability of each text per pixel."""
        import torch

        layers = [hidden[i + 1] for i in self._network.extract_layers]  # hidden[0] is the embedding
        parts = []
        for text in torch.from_numpy(self._asked).to(self._device).split(self.config.text_batch):
            repeated = [layer.expand(len(text), -1, -1) for layer in layers]
            parts.append(self._network.decoder(repeated, text).logits.float().sigmoid())
        return torch.cat(parts)

    def _dense_features(self, before_last: Tensor) -> Tensor:
        """(h, w, D) value path of CLIP's last block, from its input (1, 1 + h * w, K)."""
        clip = self._network.clip
        last = clip.vision_model.encoder.layers[-1]
        x = before_last + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(before_last)))
        x = x + last.mlp(last.layer_norm2(x))
        features: Tensor = clip.visual_projection(clip.vision_model.post_layernorm(x[0, 1:]))
        side = self.config.input_size // self._network.config.vision_config.patch_size
        return features.float().unflatten(0, (side, side))
