"""The FC-CLIP teacher from a checkpoint file to segments, with a tiny random network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError, ModelError
from ov_seg_ros.core.label_space import LabelSpace
from training.config import LABEL_SPACES, parse_settings
from training.dictionary import DICTIONARIES, ClassDictionary
from training.teachers.fc_clip import NUSCENES_THINGS, FcClipConfig, FcClipTeacher, find_things
from training.teachers.fc_clip_classification import pool_by_mask
from training.teachers.fc_clip_network import FcClipArchitecture, FcClipNetwork, Queries
from training.teachers.fc_clip_panoptic import PanopticSegments
from training.teachers.image_preparation import (
    PIXEL_MEAN,
    PIXEL_STD,
    ImageSizes,
    prepare_image,
    restore_masks,
)
from training.teachers.open_clip_loading import build_open_clip

TINY_CLIP = "fc_clip_test_tiny"
TINY = FcClipArchitecture(
    queries=12, dim=64, heads=4, encoder_layers=1, encoder_feedforward=32, decoder_layers=3, decoder_feedforward=32
)
SPACE = LabelSpace("three", ("vehicle", "ground", "plant"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
DICTIONARY = ClassDictionary.from_dict(
    {
        "name": "tiny",
        "label_space": "three",
        "templates": ["a photo of a {}.", "the {}"],
        "groups": [
            {"name": "car", "class": "vehicle", "texts": ["car", "sedan"]},
            {"name": "road", "class": "ground", "texts": ["road"]},
            {"name": "tree", "class": "plant", "texts": ["tree", "bush"]},
            {"name": "sky", "class": None, "texts": ["sky"]},
        ],
    },
    SPACE,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("fc_clip")
    content = {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "mlp", "image_size": 64},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / f"{TINY_CLIP}.json").write_text(json.dumps(content))
    open_clip.add_model_config(folder / f"{TINY_CLIP}.json")
    torch.manual_seed(3)
    network = FcClipNetwork(build_open_clip(TINY_CLIP), TINY)
    with torch.no_grad():
        network.sem_seg_head.predictor.query_feat.weight.mul_(3.0)
        network.backbone.clip_model.logit_scale.fill_(4.0)
    state = {**network.state_dict(), "criterion.empty_weight": torch.ones(134)}
    torch.save({"model": state, "iteration": 1}, folder / "tiny.pth")
    return folder / "tiny.pth"


@pytest.fixture(scope="module")
def config(checkpoint: Path) -> FcClipConfig:
    return FcClipConfig(str(checkpoint), device="cpu", clip_model=TINY_CLIP, things=("car",), architecture=TINY)


@pytest.fixture(scope="module")
def teacher(config: FcClipConfig) -> FcClipTeacher:
    return FcClipTeacher(config, DICTIONARY)


def picture(height: int = 70, width: int = 101, seed: int = 0) -> CameraImage:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return CameraImage("front", pixels, CameraModel(width, height, 50.0, 50.0, width / 2, height / 2), np.eye(4))


def check(segments: TeacherSegments, shape: tuple[int, int], dim: int = 16) -> None:
    count = len(segments.class_id)
    assert segments.segment_id.shape == shape
    assert segments.segment_id.dtype == np.uint16
    assert set(np.unique(segments.segment_id)) - {0} == set(range(1, count + 1))
    assert segments.text_id.dtype == np.int32
    assert segments.confidence.dtype == np.float32
    np.testing.assert_array_equal(segments.class_id, DICTIONARY.text_class[segments.text_id])
    assert bool(((segments.confidence >= 0) & (segments.confidence <= 1)).all())
    assert segments.features is not None
    assert segments.features.shape == (count, dim)
    np.testing.assert_allclose(np.linalg.norm(segments.features, axis=1), 1.0, atol=1e-5)


def test_segments_an_image(teacher: FcClipTeacher) -> None:
    segments = teacher.segment(picture(), "a/0")
    check(segments, (70, 101))
    assert len(segments.class_id) >= 1
    stuff = segments.text_id[segments.text_id > 1]
    assert len(set(stuff)) == len(stuff)  # one segment per text, unless it is a thing


@pytest.mark.parametrize("shape", [(64, 96), (33, 31), (1, 1), (5, 200)])
def test_any_image_size_will_do(teacher: FcClipTeacher, shape: tuple[int, int]) -> None:
    check(teacher.segment(picture(*shape), "a/0"), shape)


def test_the_same_image_gives_the_same_segments(teacher: FcClipTeacher, config: FcClipConfig) -> None:
    first = teacher.segment(picture(), "a/0")
    again = FcClipTeacher(replace(config, rules=replace(config.rules, masks_at_once=1)), DICTIONARY)
    second = again.segment(picture(), "b/1")
    np.testing.assert_array_equal(first.segment_id, second.segment_id)
    np.testing.assert_array_equal(first.text_id, second.text_id)
    assert again.describe() == teacher.describe()


@pytest.mark.parametrize("change", [{"classes": "groups"}, {"features": "trained"}, {"stuff_features": "first"}])
def test_the_options_work_and_tell_themselves_apart(
    teacher: FcClipTeacher, config: FcClipConfig, change: dict[str, str]
) -> None:
    other = FcClipTeacher(replace(config, **change), DICTIONARY)
    check(other.segment(picture(), "a/0"), (70, 101))
    assert other.describe() != teacher.describe()


def test_resized_images_come_back_at_their_own_size(config: FcClipConfig) -> None:
    other = FcClipTeacher(replace(config, short_side=40, max_long_side=50), DICTIONARY)
    check(other.segment(picture(), "a/0"), (70, 101))


def test_text_features_are_unit_vectors_of_the_clip_inside(teacher: FcClipTeacher) -> None:
    assert teacher.text_features.shape == (6, 16)
    assert teacher.text_features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(teacher.text_features, axis=1), 1.0, atol=1e-5)
    assert teacher.label_space is SPACE


def test_names_of_coco_count_as_seen(teacher: FcClipTeacher) -> None:
    """car, sedan, road, tree, bush, sky: COCO knows all but sedan and bush ("bushes")."""
    np.testing.assert_allclose(teacher._out_share, [0.4, 0.8, 0.4, 0.4, 0.8, 0.4])
    assert teacher._thing.tolist() == [True, True, False, False, False, False]


def test_a_group_is_seen_if_one_of_its_texts_is(config: FcClipConfig) -> None:
    other = FcClipTeacher(replace(config, classes="groups"), DICTIONARY)
    np.testing.assert_allclose(other._out_share, [0.4, 0.4, 0.4, 0.4])
    assert other._thing.tolist() == [True, False, False, False]


def test_a_mask_of_the_whole_image_is_embedded_like_the_image(teacher: FcClipTeacher) -> None:
    backbone = teacher._network.backbone
    image = torch.randn(3, 64, 96, generator=torch.Generator().manual_seed(0))
    *maps, dense = backbone(image[None])
    assert [tuple(x.shape[1:]) for x in maps] == [(24, 16, 24), (32, 8, 12), (48, 4, 6), (64, 2, 3)]
    whole = backbone.embed_pooled(pool_by_mask(dense[0], torch.ones(1, 16, 24)))
    np.testing.assert_allclose(whole, backbone.clip_model.encode_image(image[None]), rtol=1e-4, atol=1e-5)


def test_classification_follows_the_published_formula(teacher: FcClipTeacher) -> None:
    network, texts = teacher._network, teacher.text_features.astype(np.float64)
    generator = torch.Generator().manual_seed(5)
    inner, outer = (torch.randn(3, 16, generator=generator) for _ in range(2))
    result = network.classify(
        Queries(torch.zeros(3, 1, 1), inner, outer), teacher._texts, teacher._class_of_text, teacher._out_share
    )

    def cosines(x: torch.Tensor, y: np.ndarray) -> np.ndarray:
        wide = x.double().numpy()
        return wide @ y.T / np.linalg.norm(wide, axis=1, keepdims=True) / np.linalg.norm(y, axis=1)

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)

    void = network.void_embedding.weight.double().numpy()
    trained = cosines(inner, np.concatenate([texts, void])) * np.exp(network.sem_seg_head.predictor.logit_scale.item())
    frozen = cosines(outer, texts) * np.exp(4.0)
    share = np.array([0.4, 0.8, 0.4, 0.4, 0.8, 0.4])
    mixed = softmax(trained[:, :-1]) ** (1 - share) * softmax(frozen) ** share
    p_void = softmax(trained)[:, -1:]
    expected = np.concatenate([mixed / mixed.sum(axis=1, keepdims=True) * (1 - p_void), p_void], axis=1)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-6)


def test_joined_segments_average_by_pixels(teacher: FcClipTeacher) -> None:
    """Masks 0 (3 pixels, 0.8) and 1 (1 pixel, 0.4) are one road: confidence 0.7, feature along (3, 1)."""
    merged = PanopticSegments(torch.tensor([[1, 1, 1, 1]]), torch.tensor([2]), torch.tensor([[3, 1]]))
    embeddings = torch.zeros(2, 16)
    embeddings[0, 0], embeddings[1, 1] = 5.0, 0.1  # lengths do not count
    queries = Queries(torch.zeros(2, 1, 1), embeddings, embeddings)
    probabilities = torch.full((2, 7), 0.01)
    probabilities[0, 2], probabilities[1, 2] = 0.8, 0.4
    segments = teacher._to_segments(merged, queries, probabilities)
    np.testing.assert_allclose(segments.confidence, [0.7], rtol=1e-6)
    assert segments.text_id.tolist() == [2]
    assert segments.class_id.tolist() == [1]
    assert segments.features is not None
    np.testing.assert_allclose(segments.features[0, :3], np.array([3.0, 1.0, 0.0]) / np.sqrt(10.0), rtol=1e-6)


def test_an_image_of_nothing_but_void(teacher: FcClipTeacher) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    merged = PanopticSegments(torch.zeros(4, 5, dtype=torch.int64), nothing, torch.zeros(0, 2, dtype=torch.int64))
    queries = Queries(torch.zeros(2, 1, 1), torch.zeros(2, 16), torch.zeros(2, 16))
    check(teacher._to_segments(merged, queries, torch.full((2, 7), 0.1)), (4, 5))


def test_broken_weights_are_noticed(teacher: FcClipTeacher, config: FcClipConfig) -> None:
    broken = FcClipTeacher(config, DICTIONARY)
    broken._network.void_embedding.weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"NaN for camera 'front' of a/0; check the checkpoint .*tiny\.pth"):
        broken.segment(picture(), "a/0")


def test_describe_is_json_and_names_the_weights(teacher: FcClipTeacher) -> None:
    content = json.loads(json.dumps(teacher.describe()))
    assert content == teacher.describe()
    assert content["teacher"] == "fc_clip"
    assert content["weights"]["file"] == "tiny.pth"
    assert len(content["weights"]["sha256"]) == 64
    assert content["logit_scale"] == pytest.approx(np.exp(4.0))
    assert content["templates"] == ["a photo of a {}.", "the {}"]
    assert content["dictionary"] == DICTIONARY.hash
    assert not {"teacher", "model", "weights", "preprocessing", "templates", "logit_scale", "dictionary"} - set(content)


def test_another_architecture_is_refused(config: FcClipConfig) -> None:
    with pytest.raises(
        ModelError, match=r"2 names of another shape: .*query_feat.weight .file .12, 64., network .13, 64"
    ):
        FcClipTeacher(replace(config, architecture=replace(TINY, queries=13)), DICTIONARY)


@pytest.mark.parametrize("kept", [(), ("logit_scale", "positional_embedding", "text_projection")])
def test_what_a_checkpoint_leaves_out_of_the_frozen_clip_is_asked_for(
    config: FcClipConfig, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    state = torch.load(config.checkpoint, weights_only=True)["model"]
    own = tuple(f"backbone.clip_model.{name}" for name in kept)
    head = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.") or name in own}
    torch.save({"model": head}, tmp_path / "head.pth")
    clip = {
        name.removeprefix("backbone.clip_model."): t
        for name, t in state.items()
        if name.startswith("backbone.clip_model.")
    }
    torch.save(clip, tmp_path / "clip.pt")
    changed = replace(config, checkpoint=str(tmp_path / "head.pth"), clip_pretrained=str(tmp_path / "clip.pt"))
    expected = FcClipTeacher(config, DICTIONARY).segment(picture(), "a/0")
    np.testing.assert_array_equal(
        FcClipTeacher(changed, DICTIONARY).segment(picture(), "a/0").segment_id, expected.segment_id
    )
    with pytest.raises(ConfigError, match="no weights 'laion'"):
        FcClipTeacher(replace(changed, clip_pretrained="laion"), DICTIONARY)


def test_settings_come_from_yaml() -> None:
    content = {"checkpoint": "a.pth", "short_side": 1024, "things": ["car"], "rules": {"overlap_threshold": 0.5}}
    parsed = parse_settings(FcClipConfig, content, "recipe")
    assert parsed.rules.overlap_threshold == 0.5
    assert parsed.things == ("car",)
    assert (parsed.clip_share_seen, parsed.clip_share_unseen) == (0.4, 0.8)
    with pytest.raises(ConfigError, match="did you mean short_side"):
        parse_settings(FcClipConfig, {"checkpoint": "a.pth", "shortside": 3}, "recipe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "words"}, "classes must be texts or groups, got 'words'"),
        ({"clip_share_seen": 1.2}, "clip_share_seen must be within"),
        ({"short_side": -1}, "short_side must be 0"),
        ({"short_side": 3000}, "short_side must be 0 .as it comes. or at most max_long_side, got 3000 and 2560"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FcClipConfig("a.pth", **change)  # type: ignore[arg-type]


def test_the_things_of_nuscenes_are_the_first_23_groups() -> None:
    space = LabelSpace.load(LABEL_SPACES / "nuscenes16.yaml")
    dictionary = ClassDictionary.load(DICTIONARIES / "nuscenes.yaml", space)
    things = find_things(NUSCENES_THINGS, dictionary.groups)
    np.testing.assert_array_equal(np.flatnonzero(things), np.arange(23))
    with pytest.raises(ConfigError, match=r"'vehicles\.\*' matches no group"):
        find_things(("vehicles.*",), dictionary.groups)
    assert not find_things((), dictionary.groups).any()


def test_sizes_of_the_release() -> None:
    """Native nuScenes; Cityscapes at short side 1024; a panorama whose long side is bounded."""
    assert ImageSizes.of((900, 1600), 0, 2560, 32) == ImageSizes((900, 1600), (900, 1600), (928, 1600))
    assert ImageSizes.of((1024, 2048), 1024, 2560, 32).padded == (1024, 2048)
    assert ImageSizes.of((375, 1242), 1024, 2560, 32) == ImageSizes((375, 1242), (773, 2560), (800, 2560))


def test_pixels_are_normalised_and_the_margin_is_the_mean_colour() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = (255, 0, 100)
    tensor = prepare_image(image, ImageSizes.of((2, 3), 0, 2560, 4))
    assert tensor.shape == (3, 4, 4)
    expected = [(v - m) / s for v, m, s in zip((255, 0, 100), PIXEL_MEAN, PIXEL_STD, strict=True)]
    np.testing.assert_allclose(tensor[:, 0, 0], expected, rtol=1e-6)
    assert not tensor[:, 2:].any()
    assert not tensor[:, :, 3:].any()


def test_the_constants_are_those_of_clip_times_255() -> None:
    clip = pytest.importorskip("open_clip").constants
    np.testing.assert_allclose(PIXEL_MEAN, np.array(clip.OPENAI_DATASET_MEAN) * 255, rtol=1e-8)
    np.testing.assert_allclose(PIXEL_STD, np.array(clip.OPENAI_DATASET_STD) * 255, rtol=1e-8)


def test_masks_come_back_without_the_margin() -> None:
    """A ramp over 8 columns of stride 4, of which the image has 30 pixels."""
    masks = torch.arange(8.0)[None, None].expand(1, 2, 8)
    sizes = ImageSizes((6, 30), (6, 30), (8, 32))
    restored = restore_masks(masks, sizes)
    assert restored.shape == (1, 6, 30)
    expected = np.clip((np.arange(30) + 0.5) / 4 - 0.5, 0, 7)
    np.testing.assert_allclose(restored[0, 0], expected, atol=1e-5)
