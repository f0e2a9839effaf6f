"""The teacher SAN end to end, on a tiny network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from four_colors import camera_image  # noqa: E402
from tiny_san import TINY, build_network, save_released  # noqa: E402

from ov_seg_ros.core.errors import ConfigError  # noqa: E402
from ov_seg_ros.core.label_space import LabelSpace  # noqa: E402
from training.config import parse_settings  # noqa: E402
from training.dictionary import ClassDictionary  # noqa: E402
from training.teachers.san import SanConfig, SanTeacher  # noqa: E402
from training.teachers.san_network import SanArchitecture  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_released(tmp_path_factory.mktemp("weights") / "san_tiny.pth", build_network())


@pytest.fixture(scope="module")
def dictionary() -> ClassDictionary:
    space = LabelSpace("three", ("car", "road", "tree"), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    return ClassDictionary.from_label_space(space)


def teacher_config(checkpoint: Path, **changes: Any) -> SanConfig:
    return SanConfig(str(checkpoint), short_side=32, device="cpu", architecture=TINY, **changes)


@pytest.mark.parametrize(("height", "width"), [(27, 48), (70, 40)])
def test_segments_are_those_of_a_pixel_by_pixel_reference(
    checkpoint: Path, dictionary: ClassDictionary, height: int, width: int
) -> None:
    teacher = SanTeacher(teacher_config(checkpoint), dictionary)
    image = camera_image(height, width)

    # The published chain, with everything at full size.
    resize = torch.nn.functional.interpolate
    short = min(height, width)
    size = (int(height * 32 / short + 0.5), int(width * 32 / short + 0.5))
    pixels = np.asarray(Image.fromarray(image.image).resize(size[::-1], Image.Resampling.BILINEAR), np.float32) / 255
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    padded = tuple(-(-n // 32) * 32 for n in size)
    tensor = torch.zeros(1, 3, *padded)
    tensor[0, :, : size[0], : size[1]] = torch.from_numpy((pixels - mean) / std).permute(2, 0, 1)
    with torch.no_grad():
        # Texts that tell the masks of this random network apart.
        embeddings = teacher.network(tensor, torch.from_numpy(teacher.text_features))[2][0]
        texts = torch.nn.functional.normalize((embeddings - embeddings.mean(0))[:3], dim=-1)
        teacher.text_features = texts.numpy()
        found = teacher.segment(image, "drive/000000")

        logits, masks, embeddings = teacher.network(tensor, texts)
        masks = resize(masks, padded, mode="bilinear", align_corners=False)[:, :, : size[0], : size[1]]
        masks = resize(masks, (height, width), mode="bilinear", align_corners=False)[0].sigmoid()
        semantic = torch.einsum("qc,qhw->chw", logits[0].softmax(-1)[:, :-1], masks)
        pixel_embedding = torch.einsum("qd,qhw->hwd", embeddings[0], masks)
    text = semantic.argmax(0).numpy()
    assert len(np.unique(text)) > 1, "a test that cannot fail"
    best = np.concatenate([[-1], found.text_id])[found.segment_id]
    assert (best == text).mean() > 0.995  # ties of rounding
    for index, text_id in enumerate(found.text_id):
        total = pixel_embedding[torch.from_numpy(text == text_id)].sum(0)
        expected = total / total.norm()
        assert float(expected @ torch.from_numpy(found.features[index])) == pytest.approx(1, abs=1e-3)
    assert np.array_equal(found.class_id, dictionary.text_class[found.text_id])


def test_description_is_json_and_knows_weights_and_texts(checkpoint: Path, dictionary: ClassDictionary) -> None:
    teacher = SanTeacher(teacher_config(checkpoint), dictionary)
    described = teacher.describe()
    assert json.loads(json.dumps(described)) is not None
    assert described["templates"] == ["{}"]
    assert described["logit_scale"] == pytest.approx(1 / 0.07, rel=1e-4)
    assert described["dictionary"] == dictionary.hash
    assert len(described["weights"]["sha256"]) == 64
    assert teacher.text_features.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(teacher.text_features, axis=1), 1, atol=1e-5)


def test_config_is_read_from_yaml() -> None:
    content = {"checkpoint": "a.pth", "architecture": {"clip_model": "ViT-B-16", "fusion_layers": [0, 3, 6, 9]}}
    config = parse_settings(SanConfig, {**content}, "recipe")
    assert config.architecture.fusion_layers == (0, 3, 6, 9)
    assert config.short_side == 640
    with pytest.raises(ConfigError, match="fusion_layers"):
        SanConfig("a.pth", architecture=dataclasses.replace(SanArchitecture(), fusion_layers=(3, 0)))
    with pytest.raises(ConfigError, match="short_side"):
        SanConfig("a.pth", short_side=0)
