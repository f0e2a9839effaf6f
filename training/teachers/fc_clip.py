"""FC-CLIP as a teacher (Yu et al., NeurIPS 2023): panoptic segments of any vocabulary from one frozen ConvNeXt CLIP.

AFOV's recipe for nuScenes: images as they come, every text a class of its own, instances for whatever moves
(``NUSCENES_THINGS``), features of the frozen CLIP. The checkpoint is ``fcclip_cocopan.pth`` of bytedance/fc-clip.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import ClassDictionary
from training.teachers.device import choose_device
from training.teachers.fc_clip_checkpoint import load_network
from training.teachers.fc_clip_classification import load_training_names, seen_texts
from training.teachers.fc_clip_network import STRIDE, FcClipArchitecture, FcClipNetwork, Queries
from training.teachers.fc_clip_panoptic import PanopticRules, PanopticSegments, merge_panoptic
from training.teachers.fingerprint import fingerprint
from training.teachers.image_preparation import PIXEL_MEAN, PIXEL_STD, ImageSizes, prepare_image, restore_masks
from training.teachers.text_encoder import OpenClipTextEncoder, encode_texts

NUSCENES_THINGS = (
    "vehicle.[!e]*",
    "vehicle.emergency.*",
    "static_object.*",
    "human.*",
    "animal",
    "movable_object.*",
)
"""``things`` of AFOV: the first 23 groups of the dictionary ``nuscenes``."""

CHOICES = {
    "classes": ("texts", "groups"),
    "features": ("clip", "trained"),
    "stuff_features": ("mean", "first"),
}


@dataclass(frozen=True)
class FcClipConfig:
    """Everything that decides what FC-CLIP says.

    Attributes:
        checkpoint: path of the released file.
        device: "auto", "cpu", "cuda" or "cuda:N".
        clip_model: open_clip's name of the CLIP inside.
        clip_pretrained: open_clip's tag or file of its weights, which the release leaves out; a tag is downloaded once.
        short_side: of the image in the network, pixels; 0 = as it comes (AFOV); 1024 for Cityscapes in the release.
        max_long_side: bound on the other side where ``short_side`` is set, pixels.
        classes: "texts" (AFOV): every text competes alone; "groups" (as published): the texts of a group are synonyms,
            the best counts for all.
        things: patterns of group names ("vehicle.*") whose masks stay apart; all others are joined per class.
        features: "clip", pooled from the frozen CLIP (out-vocabulary, AFOV), or "trained", of the mask head.
        stuff_features: feature of a segment joined from several masks: "mean" weighted by pixels, or "first", that of
            the first mask as AFOV exported it.
        clip_share_seen: weight of CLIP against the trained head for names of COCO, the paper's alpha.
        clip_share_unseen: the same for all others, the paper's beta.
        rules: of the panoptic merge.
        architecture: sizes of the network.
    """

    checkpoint: str
    device: str = "auto"
    clip_model: str = "convnext_large_d_320"
    clip_pretrained: str = "laion2b_s29b_b131k_ft_soup"
    short_side: int = 0
    max_long_side: int = 2560
    classes: str = "texts"
    things: tuple[str, ...] = ()
    features: str = "clip"
    stuff_features: str = "mean"
    clip_share_seen: float = 0.4
    clip_share_unseen: float = 0.8
    rules: PanopticRules = field(default_factory=PanopticRules)
    architecture: FcClipArchitecture = field(default_factory=FcClipArchitecture)

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"FC-CLIP: {name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("clip_share_seen", "clip_share_unseen"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"FC-CLIP: {name} must be within [0, 1], got {getattr(self, name)}")
        if self.short_side < 0 or self.max_long_side < max(1, self.short_side):
            raise ConfigError(
                "FC-CLIP: short_side must be 0 (as it comes) or at most max_long_side, "
                f"got {self.short_side} and {self.max_long_side}"
            )


class FcClipTeacher:
    """Segments images with a released FC-CLIP checkpoint."""

    def __init__(self, config: FcClipConfig, dictionary: ClassDictionary) -> None:
        """Loads the network and encodes the texts with the CLIP inside it.

        Raises:
            ConfigError: a pattern of ``things`` matches no group, no such device, or no such CLIP.
            MissingDependencyError: open_clip is not installed.
            ModelError: the checkpoint is missing, unreadable or of another architecture.
        """
        self.config = config
        self.dictionary = dictionary
        things = find_things(config.things, dictionary.groups)
        self._device = choose_device(config.device)
        checkpoint = Path(config.checkpoint).expanduser()
        network = load_network(checkpoint, config.clip_model, config.clip_pretrained, config.architecture)
        self._network: FcClipNetwork = network.to(self._device)
        encoder = OpenClipTextEncoder(
            config.clip_model, config.checkpoint, str(self._device), clip=self._network.backbone.clip_model
        )
        self.text_features: NDArray[np.float32] = encode_texts(encoder, dictionary.texts, dictionary.templates)
        self._weights = {"file": checkpoint.name, "sha256": fingerprint(network)}
        self._texts = torch.from_numpy(self.text_features).to(self._device)
        self._assign_classes(things)

    @property
    def label_space(self) -> LabelSpace:
        """The classes its segments speak of."""
        return self.dictionary.label_space

    def _assign_classes(self, things: NDArray[np.bool_]) -> None:
        """Class of each text, and per class: is it a thing, how much does CLIP count."""
        group = torch.from_numpy(self.dictionary.text_group.astype(np.int64))
        seen = torch.tensor(seen_texts(self.dictionary.texts, load_training_names()))
        if self.config.classes == "texts":
            thing = torch.from_numpy(things)[group]
            group = torch.arange(len(group))
        else:
            thing = torch.from_numpy(things)
            seen = torch.zeros(len(thing), dtype=torch.int64).index_add(0, group, seen.long()) > 0
        share = torch.where(seen, self.config.clip_share_seen, self.config.clip_share_unseen)
        self._class_of_text, self._thing = group.to(self._device), thing.to(self._device)
        self._out_share = share.to(self._device)

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image, see ``Teacher.segment``.

        Raises:
            InputError: the network answers with NaN.
        """
        height, width = image.image.shape[:2]
        sizes = ImageSizes.of((height, width), self.config.short_side, self.config.max_long_side, STRIDE)
        with torch.inference_mode():
            queries = self._network(prepare_image(image.image, sizes).to(self._device))
            probabilities = self._network.classify(queries, self._texts, self._class_of_text, self._out_share)
            if not bool(torch.isfinite(probabilities).all()):
                where = f"camera {image.name!r} of {key}"
                raise InputError(f"FC-CLIP answers NaN for {where}; check the checkpoint {self.config.checkpoint}")
            merged = merge_panoptic(
                probabilities,
                queries.mask_logits,
                self._thing,
                lambda masks: restore_masks(masks, sizes),
                self.config.rules,
            )
            return self._to_segments(merged, queries, probabilities)

    def _to_segments(self, merged: PanopticSegments, queries: Queries, probabilities: Tensor) -> TeacherSegments:
        """Texts, confidences and features of merged masks, averaged over the pixels each mask gave."""
        weight = merged.pixels.float()
        weight = weight / weight.sum(dim=1, keepdim=True)  # (R, Q), no segment is empty
        confidence = (weight * probabilities[:, merged.label].T).sum(dim=1)
        opinion = weight @ self._network.clip_text_logits(queries, self._texts)  # (R, T)
        other = self._class_of_text[None] != merged.label[:, None]
        text_id = opinion.masked_fill(other, -torch.inf).argmax(dim=1).cpu().numpy().astype(np.int32)
        embeddings = queries.out_embeddings if self.config.features == "clip" else queries.in_embeddings
        if self.config.stuff_features == "first":
            first = (merged.pixels > 0).int().argmax(dim=1)
            features = embeddings[first]
        else:
            features = weight @ functional.normalize(embeddings, dim=-1)
        return TeacherSegments(
            segment_id=merged.segment_id.cpu().numpy().astype(np.uint16),
            class_id=self.dictionary.text_class[text_id].astype(np.uint8),
            confidence=confidence.clamp(0.0, 1.0).cpu().numpy().astype(np.float32),
            text_id=text_id,
            features=functional.normalize(features, dim=-1).cpu().numpy().astype(np.float32),
        )

    def describe(self) -> dict[str, Any]:
        """What made the segments, see ``Teacher.describe``."""
        settings = dataclasses.asdict(self.config)
        for name in ("checkpoint", "device"):
            settings.pop(name)
        settings["rules"].pop("masks_at_once")
        settings["things"] = list(self.config.things)
        return {
            "teacher": "fc_clip",
            "model": self.config.clip_model,
            "weights": self._weights,
            "preprocessing": {
                "short_side": self.config.short_side,
                "max_long_side": self.config.max_long_side,
                "stride": STRIDE,
                "mean": list(PIXEL_MEAN),
                "std": list(PIXEL_STD),
            },
            "templates": list(self.dictionary.templates),
            "logit_scale": float(self._network.backbone.logit_scale.exp()),
            "dictionary": self.dictionary.hash,
            "settings": settings,
        }


def find_things(patterns: tuple[str, ...], groups: tuple[str, ...]) -> NDArray[np.bool_]:
    """(G,) bool: the groups that match one of the patterns.

    Raises:
        ConfigError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(group, pattern) for group in groups):
            raise ConfigError(f"FC-CLIP: things: {pattern!r} matches no group; groups are {', '.join(groups)}")
    return np.array([any(fnmatchcase(group, pattern) for pattern in patterns) for group in groups], np.bool_)
