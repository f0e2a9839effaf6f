"""MaskCLIP on a small, randomly initialised CLIP; the arithmetic after the network on numbers made by hand."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.config import parse_settings
from training.dictionary import ClassDictionary

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from training.teachers.maskclip import MaskClipConfig, MaskClipTeacher  # noqa: E402
from training.teachers.maskclip_refinement import confident_texts, smooth_by_keys  # noqa: E402

SPACE = LabelSpace("two", ("car", "road"), ((1, 2, 3), (4, 5, 6)))
DICTIONARY = ClassDictionary.from_dict(
    {
        "name": "tiny",
        "label_space": "two",
        "templates": ["a photo of a {}.", "the {}."],
        "groups": [
            {"name": "car", "class": "car", "texts": ["car", "sedan"]},
            {"name": "road", "class": "road", "texts": ["road"]},
            {"name": "sky", "class": None, "texts": ["sky"]},
        ],
    },
    SPACE,
)
CONFIG = MaskClipConfig(short_side=0, device="cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_tokenizer() -> Iterator[None]:
    """Building open_clip's tokenizer takes half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_tokenizer", functools.cache(open_clip.get_tokenizer))
        yield


@pytest.fixture(scope="module")
def clip() -> Any:
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text).eval()
    for parameter in model.visual.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def photo(height: int = 50, width: int = 70, seed: int = 0) -> CameraImage:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return CameraImage("front", pixels, CameraModel(width, height, 50.0, 50.0, 35.0, 25.0), np.eye(4))


def segment(clip: Any, **changes: Any) -> TeacherSegments:
    return MaskClipTeacher(replace(CONFIG, **changes), DICTIONARY, clip).segment(photo(), "drive/0")


def test_segments_are_the_winning_texts_of_the_dense_features(clip: Any) -> None:
    """All at full resolution, from the teacher's own dense features and text vectors."""
    teacher = MaskClipTeacher(CONFIG, DICTIONARY, clip)
    found = teacher.segment(photo(), "drive/0")
    dense = teacher._encode(photo().image).features  # (1, 3, 4, 8): 50 x 70 becomes 48 x 64
    assert dense.shape == (1, 3, 4, 8)
    full = torch.nn.functional.interpolate(dense.permute(0, 3, 1, 2), (50, 70), mode="bilinear")[0].double().numpy()
    cosine = np.einsum("td,dhw->thw", teacher.text_features, full)
    text = found.text_id[found.segment_id.astype(int) - 1]
    two = np.sort(cosine, axis=0)
    clear = two[-1] - two[-2] > 1e-6
    assert clear.mean() > 0.99
    assert len(found.text_id) > 1
    np.testing.assert_array_equal(text[clear], cosine.argmax(0)[clear])
    assert (found.class_id == DICTIONARY.text_class[found.text_id]).all()
    assert found.features is not None
    for number, feature in enumerate(found.features, start=1):
        mean = full[:, found.segment_id == number].mean(1)
        np.testing.assert_allclose(feature, mean / np.linalg.norm(mean), atol=1e-5)


def test_text_features_are_the_mean_over_the_templates(clip: Any) -> None:
    teacher = MaskClipTeacher(CONFIG, DICTIONARY, clip)
    tokens = open_clip.get_tokenizer("ViT-B-16")(["a photo of a sedan.", "the sedan."])
    with torch.inference_mode():
        vectors = torch.nn.functional.normalize(clip.encode_text(tokens), dim=-1)
    expected = torch.nn.functional.normalize(vectors.mean(0), dim=0)
    np.testing.assert_allclose(teacher.text_features[1], expected.numpy(), atol=1e-5)
    assert teacher.text_features.shape == (4, 8)


def test_a_segment_can_be_pooled_for_any_other_teacher(clip: Any) -> None:
    teacher = MaskClipTeacher(CONFIG, DICTIONARY, clip)
    found = teacher.segment(photo(), "drive/0")
    again = teacher.pool(photo().image, found.segment_id, len(found.text_id))
    np.testing.assert_allclose(again, found.features, atol=1e-6)


def test_the_same_image_gives_the_same_segments_in_windows_of_its_size(clip: Any) -> None:
    whole, windows = segment(clip), segment(clip, window=64, window_stride=32)
    assert (whole.segment_id == windows.segment_id).mean() > 0.99
    small = segment(clip, window=32, window_stride=16)
    assert small.segment_id.shape == (50, 70)


def test_texts_that_are_confident_nowhere_are_dropped(clip: Any) -> None:
    teacher = MaskClipTeacher(replace(CONFIG, logit_scale=30.0), DICTIONARY, clip)
    highest = teacher._score(teacher._encode(photo().image)).softmax(0).flatten(1).amax(1)
    threshold = float(highest.max()) - 1e-3
    assert len(teacher.segment(photo(), "drive/0").text_id) > 1
    found = segment(clip, logit_scale=30.0, prompt_denoising=threshold)
    assert found.text_id.tolist() == [int(highest.argmax())]


def test_without_any_confident_text_the_image_is_void(clip: Any) -> None:
    found = segment(clip, logit_scale=0.01, prompt_denoising=0.9)
    assert not found.segment_id.any()
    assert found.text_id.shape == (0,)
    assert found.features is not None
    assert found.features.shape == (0, 8)


def test_key_smoothing_keeps_probabilities(clip: Any) -> None:
    found = segment(clip, key_smoothing=1.0)
    assert found.segment_id.min() == 1
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()


def test_denoising_by_hand() -> None:
    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.1]]])
    # softmax at the first cell: e^2 / (e^2 + 2) = 0.787; the third text has e^0.1 / (e^0.1 + 2) = 0.356 at the second
    assert confident_texts(logits, 0.5).tolist() == [True, False, False]
    assert confident_texts(logits, 0.355).tolist() == [True, False, True]


def test_smoothing_by_hand() -> None:
    """Cells 0 and 1 have equal keys, 2 looks the other way: 0 and 1 share, 2 stays alone."""
    probabilities = torch.tensor([[[0.9, 0.3, 0.2]], [[0.1, 0.7, 0.8]]])
    keys = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [-1.0, 0.1]]])
    smoothed = smooth_by_keys(probabilities, keys, 1.0)
    torch.testing.assert_close(smoothed, torch.tensor([[[0.6, 0.6, 0.2]], [[0.4, 0.4, 0.8]]]))
    kept = smooth_by_keys(probabilities, keys, 0.85)
    torch.testing.assert_close(kept, torch.tensor([[[0.9, 0.6, 0.2]], [[0.1, 0.4, 0.8]]]))


def test_the_description_tells_teachers_apart(clip: Any) -> None:
    first = MaskClipTeacher(CONFIG, DICTIONARY, clip).describe()
    assert json.loads(json.dumps(first)) == first
    for name in ("model", "weights", "preprocessing", "templates", "logit_scale", "dictionary"):
        assert name in first
    other = MaskClipTeacher(replace(CONFIG, key_smoothing=1.0), DICTIONARY, clip).describe()
    assert other != first
    assert MaskClipTeacher(replace(CONFIG, device="auto"), DICTIONARY, clip).describe() == first


def test_nan_weights_are_reported_with_the_image(clip: Any) -> None:
    teacher = MaskClipTeacher(CONFIG, DICTIONARY, clip)
    projection = clip.visual.proj.data.clone()
    try:
        clip.visual.proj.data[0, 0] = torch.nan
        with pytest.raises(InputError, match=r"sample drive/0, camera 'front': .*NaN"):
            teacher.segment(photo(), "drive/0")
    finally:
        clip.visual.proj.data[:] = projection


def test_weights_come_from_a_checkpoint_file(clip: Any, tmp_path: Path) -> None:
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-maskclip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-maskclip.json")
    torch.save(clip.state_dict(), tmp_path / "weights.pt")
    loaded = MaskClipConfig(model="tiny-maskclip", weights=str(tmp_path / "weights.pt"), short_side=0, device="cpu")
    found = MaskClipTeacher(loaded, DICTIONARY).segment(photo(), "drive/0")
    np.testing.assert_array_equal(found.segment_id, segment(clip).segment_id)


def test_settings_come_from_yaml() -> None:
    config = parse_settings(MaskClipConfig, {"model": "RN50", "key_smoothing": 1, "short_side": 256}, "recipe")
    assert config == MaskClipConfig(model="RN50", key_smoothing=1.0, short_side=256)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"short_side": -1}, "short_side must be >= 0"),
        ({"key_smoothing": 1.5}, "key_smoothing must be in 0..1"),
        ({"logit_scale": 0.0}, "logit_scale must be > 0"),
        ({"window": 40, "window_stride": 16}, "multiples of the 16 pixels"),
        ({"device": "tpu"}, "device must be"),
        ({"model": "ViT-B-61"}, "did you mean"),
    ],
)
def test_wrong_settings_are_refused(clip: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskClipTeacher(replace(CONFIG, **changes), DICTIONARY, None if "model" in changes else clip)
