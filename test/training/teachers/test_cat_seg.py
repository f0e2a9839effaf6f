"""The teacher CAT-Seg end to end, on a tiny network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from four_colors import camera_image  # noqa: E402
from tiny_cat_seg import TINY, WINDOW, build_network, save, to_released  # noqa: E402

from ov_seg_ros.core.errors import ConfigError  # noqa: E402
from ov_seg_ros.core.label_space import LabelSpace  # noqa: E402
from training.config import parse_settings  # noqa: E402
from training.dictionary import ClassDictionary  # noqa: E402
from training.teachers.cat_seg import CatSegConfig, CatSegTeacher  # noqa: E402
from training.teachers.cat_seg_network import CatSegArchitecture  # noqa: E402
from training.teachers.cat_seg_windows import SlidingWindow, predict_in_windows  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("weights") / "cat_seg_tiny.pth", {"model": to_released(build_network())})


@pytest.fixture(scope="module")
def dictionary() -> ClassDictionary:
    space = LabelSpace("three", ("car", "road", "tree"), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    return ClassDictionary.from_label_space(space)


def teacher_config(checkpoint: Path, **changes: Any) -> CatSegConfig:
    return CatSegConfig(str(checkpoint), short_side=40, window=WINDOW, device="cpu", architecture=TINY, **changes)


@pytest.mark.parametrize("sliding", [True, False])
def test_segments_are_those_of_a_full_size_reference(
    checkpoint: Path, dictionary: ClassDictionary, sliding: bool
) -> None:
    teacher = CatSegTeacher(teacher_config(checkpoint, sliding_window=sliding), dictionary)
    image = camera_image(54, 96)
    found = teacher.segment(image, "drive/000000")

    pixels = np.asarray(Image.fromarray(image.image).resize((71, 40), Image.Resampling.BILINEAR), np.float32) / 255
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    tensor = torch.from_numpy((pixels - mean) / std).permute(2, 0, 1).float()
    texts = torch.from_numpy(teacher.text_features)
    resize = torch.nn.functional.interpolate
    with torch.no_grad():
        if sliding:
            scores, features = predict_in_windows(tensor, lambda tile: teacher.network(tile, texts), WINDOW)
        else:
            logits, features = teacher.network(tensor, texts)
            scores = logits.sigmoid()
        full = resize(scores[None], (54, 96), mode="bilinear", align_corners=False)[0]
        dense = resize(features[None], (54, 96), mode="bilinear", align_corners=False)[0]
    text = full.argmax(0).numpy()
    assert len(np.unique(text)) > 1, "a test that cannot fail"
    assert (np.concatenate([[-1], found.text_id])[found.segment_id] == text).mean() > 0.995  # ties of rounding
    for index, text_id in enumerate(found.text_id):
        inside = torch.from_numpy(text == text_id)
        expected = torch.nn.functional.normalize(dense[:, inside].mean(1), dim=0)
        assert float(expected @ torch.from_numpy(found.features[index])) == pytest.approx(1, abs=1e-3)
        assert found.confidence[index] == pytest.approx(float(full[text_id][inside].mean()), abs=1e-3)
    assert np.array_equal(found.class_id, dictionary.text_class[found.text_id])


def test_texts_are_encoded_by_the_fine_tuned_tower_with_its_own_template(
    checkpoint: Path, dictionary: ClassDictionary
) -> None:
    teacher = CatSegTeacher(teacher_config(checkpoint), dictionary)
    tokens = open_clip.get_tokenizer(TINY.clip_model)(["A photo of a road in the scene"])
    with torch.no_grad():
        expected = torch.nn.functional.normalize(teacher.network.clip.encode_text(tokens), dim=-1)[0]
    np.testing.assert_allclose(teacher.text_features[1], expected.numpy(), atol=1e-5)
    own = CatSegTeacher(teacher_config(checkpoint, templates="dictionary"), dictionary)
    assert own.describe()["templates"] == ["{}"]


def test_description_is_json_and_knows_weights_texts_and_windows(checkpoint: Path, dictionary: ClassDictionary) -> None:
    described = CatSegTeacher(teacher_config(checkpoint), dictionary).describe()
    assert json.loads(json.dumps(described))["window"] == {"canvas": 40, "tile": 24, "stride": 16}
    assert described["templates"] == ["A photo of a {} in the scene"]
    assert described["dictionary"] == dictionary.hash
    assert len(described["weights"]["sha256"]) == 64
    whole = CatSegTeacher(teacher_config(checkpoint, sliding_window=False), dictionary).describe()
    assert whole["window"] is None


def test_config_is_read_from_yaml() -> None:
    base = {"clip_model": "ViT-B-16", "clip_resolution": 384, "guidance_layers": [3, 7]}
    config = parse_settings(CatSegConfig, {"checkpoint": "model_base.pth", "architecture": base}, "recipe")
    assert config.architecture == CatSegArchitecture("ViT-B-16", 384, (3, 7))
    assert config.window == SlidingWindow(640, 384, 256)
    with pytest.raises(ConfigError, match="short_side"):
        CatSegConfig("a.pth", short_side=0)
