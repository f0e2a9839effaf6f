"""SAM 3 and CLIPSeg, tiny and randomly initialised, through the real loading code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.errors import ConfigError, InputError, MissingDependencyError, ModelError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import ClassDictionary

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5")

from training.teachers import hf_loading  # noqa: E402
from training.teachers.hf_clipseg import MEAN, STD, ClipSegConfig, ClipSegTeacher  # noqa: E402
from training.teachers.hf_sam3 import Sam3Config, Sam3Teacher  # noqa: E402

SPACE = LabelSpace("two", ("car", "road"), ((1, 2, 3), (4, 5, 6)))
TEXTS = ["car", "sedan", "road", "sky"]
DICTIONARY = ClassDictionary.from_dict(
    {
        "name": "tiny",
        "label_space": "two",
        "templates": ["a photo of a {}.", "a {}."],
        "groups": [
            {"name": "car", "class": "car", "texts": TEXTS[:2]},
            {"name": "road", "class": "road", "texts": TEXTS[2:3]},
            {"name": "sky", "class": None, "texts": TEXTS[3:]},
        ],
    },
    SPACE,
)
CHARACTERS = sorted(set("".join(TEXTS) + "aphotof."))
VOCABULARY = {
    token: number
    for number, token in enumerate([*CHARACTERS, *(c + "</w>" for c in CHARACTERS), "<|startoftext|>", "<|endoftext|>"])
}
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "intermediate_size": 24,
    "projection_dim": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
    "bos_token_id": VOCABULARY["<|startoftext|>"],
    "eos_token_id": VOCABULARY["<|endoftext|>"],
}


def save(network: Any, folder: Path) -> str:
    for parameter in network.parameters():  # far from the small initial values, so that outputs differ
        parameter.data += 0.2 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    transformers.CLIPTokenizer(vocab=VOCABULARY, merges=[]).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }  # fmt: skip
    detr = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_layers": 1}
    config = transformers.Sam3Config(
        vision_config={"backbone_config": backbone, "fpn_hidden_size": 16},
        text_config={"model_type": "clip_text_model", **TEXT},
        geometry_encoder_config=detr,
        detr_encoder_config=detr,
        detr_decoder_config={**detr, "num_queries": 5},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )
    return save(transformers.Sam3Model(config), tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(1)
    vision = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    config = transformers.CLIPSegConfig(
        text_config=TEXT, vision_config=vision, projection_dim=8, extract_layers=[0, 2], reduce_dim=8,
        decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    return save(transformers.CLIPSegForImageSegmentation(config), tmp_path_factory.mktemp("clipseg"))


def photo() -> CameraImage:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    return CameraImage("front", pixels, CameraModel(70, 50, 50.0, 50.0, 35.0, 25.0), np.eye(4))


def sam3_teacher(folder: str, **changes: Any) -> Sam3Teacher:
    return Sam3Teacher(Sam3Config(weights=folder, device="cpu", **changes), DICTIONARY)


def clipseg_teacher(folder: str, **changes: Any) -> ClipSegTeacher:
    settings = {"input_size": 40, "void_below": 0.0, **changes}
    return ClipSegTeacher(ClipSegConfig(weights=folder, device="cpu", **settings), DICTIONARY)


# SAM 3


def sam3_answer(folder: str) -> Any:
    """The network's output for all texts at once, by its own public call."""
    network = transformers.Sam3Model.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(TEXTS, padding="max_length", max_length=24, return_tensors="pt")
    pixels = hf_loading.squash_image(photo().image, (56, 56), (0.5,) * 3, (0.5,) * 3)
    with torch.inference_mode():
        return network(pixel_values=pixels.expand(4, -1, -1, -1), **tokens)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_sam3_in_batches_of_texts_is_sam3_on_every_text(sam3: str, batch: int) -> None:
    expected = sam3_answer(sam3)
    teacher = sam3_teacher(sam3, text_batch=batch)
    with torch.inference_mode():
        answers = list(teacher._ask(photo().image, "drive/0"))
    assert [first for first, _ in answers] == list(range(0, 4, batch))
    for name in ("pred_masks", "pred_logits", "presence_logits", "semantic_seg"):
        found = torch.cat([getattr(answer, name) for _, answer in answers])
        torch.testing.assert_close(found, getattr(expected, name), atol=1e-4, rtol=1e-4)


def test_sam3_instances_have_the_score_of_the_released_post_processing(sam3: str) -> None:
    answer = sam3_answer(sam3)
    scores = answer.pred_logits.sigmoid() * answer.presence_logits.sigmoid()
    threshold = float(scores.flatten().sort().values[-8:-6].mean())  # 7 of 20 stay
    teacher = sam3_teacher(sam3, score_threshold=threshold)
    with torch.inference_mode():
        _, batch = next(teacher._ask(photo().image, "drive/0"))
        found = teacher._instances(batch, 0)
    expected = [(text, query) for text in range(4) for query in range(5) if float(scores[text, query]) > threshold]
    assert len(expected) == 7
    assert found.text_id.tolist() == [text for text, _ in expected]
    torch.testing.assert_close(found.scores, torch.stack([scores[t, q] for t, q in expected]), atol=1e-4, rtol=1e-4)
    masks = torch.stack([answer.pred_masks[t, q] for t, q in expected]).sigmoid()
    torch.testing.assert_close(found.probabilities, masks, atol=1e-3, rtol=1e-3)


def test_sam3_makes_segments(sam3: str) -> None:
    threshold = float((lambda a: a.pred_logits.sigmoid() * a.presence_logits.sigmoid())(sam3_answer(sam3)).median())
    segments = sam3_teacher(sam3, score_threshold=threshold).segment(photo(), "drive/0")
    assert segments.segment_id.shape == (50, 70)
    assert segments.segment_id.max() == len(segments.text_id) > 0
    assert (segments.class_id == DICTIONARY.text_class[segments.text_id]).all()
    assert (segments.confidence <= 1).all()
    assert segments.features is None
    nothing = sam3_teacher(sam3, score_threshold=1.0).segment(photo(), "drive/0")
    assert not nothing.segment_id.any()


def test_the_semantic_head_of_sam3(sam3: str) -> None:
    answer = sam3_answer(sam3)
    scores = answer.semantic_seg[:, 0].sigmoid() * answer.presence_logits.sigmoid()[:, :, None]
    full = torch.nn.functional.interpolate(scores[None], (50, 70), mode="bilinear")[0].numpy()
    void = float(np.median(full.max(0)))
    segments = sam3_teacher(sam3, output="semantic", score_threshold=void).segment(photo(), "drive/0")
    text = np.append(segments.text_id, -1)[segments.segment_id.astype(int) - 1]
    expected = np.where(full.max(0) < void, -1, full.argmax(0))
    assert (text == expected).mean() > 0.99
    assert {-1} < set(text.ravel().tolist())


def test_sam3_with_nan_weights_names_the_sample(sam3: str) -> None:
    teacher = sam3_teacher(sam3)
    teacher._text[0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"sample drive/0: SAM 3 returned NaN"):
        teacher.segment(photo(), "drive/0")


# CLIPSeg


def clipseg_logits(folder: str) -> Any:
    network = transformers.CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompts = [f"a photo of a {text}." for text in TEXTS]
    tokens = tokenizer(prompts, padding="max_length", max_length=24, return_tensors="pt")
    pixels = hf_loading.squash_image(photo().image, (40, 40), MEAN, STD)
    with torch.inference_mode():
        return network(pixel_values=pixels.expand(4, -1, -1, -1), **tokens).logits


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_clipseg_in_batches_of_texts_is_clipseg_on_every_text(clipseg: str, batch: int) -> None:
    full = torch.nn.functional.interpolate(clipseg_logits(clipseg).sigmoid()[None], (50, 70), mode="bilinear")[0]
    segments = clipseg_teacher(clipseg, text_batch=batch).segment(photo(), "drive/0")
    text = segments.text_id[segments.segment_id.astype(int) - 1]
    assert (text == full.argmax(0).numpy()).mean() > 0.99
    assert len(segments.text_id) > 1
    best = full.amax(0).numpy()
    means = [best[segments.segment_id == r + 1].mean() for r in range(len(segments.text_id))]
    np.testing.assert_allclose(segments.confidence, means, atol=1e-3)


def test_clipseg_leaves_unsure_pixels_void(clipseg: str) -> None:
    best = torch.nn.functional.interpolate(clipseg_logits(clipseg).sigmoid()[None], (50, 70), mode="bilinear")[0].amax(
        0
    )
    threshold = float(best.median())
    segments = clipseg_teacher(clipseg, void_below=threshold).segment(photo(), "drive/0")
    assert ((segments.segment_id == 0) == (best < threshold).numpy()).mean() > 0.99


def test_clipseg_features_are_those_of_a_last_block_without_mixing(clipseg: str) -> None:
    """The same block run by transformers with an attention in which every token sees itself alone."""
    teacher = clipseg_teacher(clipseg)
    vision = teacher._network.clip.vision_model
    pixels = hf_loading.squash_image(photo().image, (40, 40), MEAN, STD)
    alone = torch.full((26, 26), -torch.inf).fill_diagonal_(0.0)[None, None]
    with torch.inference_mode():
        hidden = vision(pixel_values=pixels, output_hidden_states=True, return_dict=True).hidden_states
        last = vision.encoder.layers[-1](hidden[-2], attention_mask=alone)
        expected = teacher._network.clip.visual_projection(vision.post_layernorm(last[0, 1:])).view(5, 5, 8)
        found = teacher._dense_features(hidden[-2])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    features = teacher.segment(photo(), "drive/0").features
    assert features is not None
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)
    assert teacher.text_features.shape == (4, 8)


# Both


@pytest.mark.parametrize("name", ["sam3", "clipseg"])
def test_descriptions_are_json_and_tell_settings_apart(name: str, request: pytest.FixtureRequest) -> None:
    make: Any = {"sam3": sam3_teacher, "clipseg": clipseg_teacher}[name]
    folder = request.getfixturevalue(name)
    first = make(folder).describe()
    assert json.loads(json.dumps(first)) == first
    for key in ("teacher", "model", "weights", "preprocessing", "templates", "logit_scale", "dictionary"):
        assert key in first
    changed = {"sam3": {"visible_share": 0.3}, "clipseg": {"void_below": 0.1}}[name]
    assert make(folder, **changed).describe() != first
    assert make(folder, text_batch=2).describe() == first


def test_a_checkpoint_of_another_network_is_refused(sam3: str, clipseg: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a clipseg, Sam3Model needs a sam3"):
        sam3_teacher(clipseg)
    network = transformers.CLIPSegForImageSegmentation.from_pretrained(clipseg)
    weights = {k: v for k, v in network.state_dict().items() if not k.startswith("decoder.reduces")}
    network.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ModelError, match=r"4 parameters are missing .*decoder.reduces.0.bias"):
        hf_loading.load_network("CLIPSegForImageSegmentation", ("clipseg",), str(tmp_path), "cpu")


def test_missing_checkpoints_say_what_to_do(clipseg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"did you mean .*" + Path(clipseg).name):
        clipseg_teacher(clipseg + "x")
    with pytest.raises(ModelError, match=r"it holds \[\]"):
        clipseg_teacher(str(tmp_path))

    def no_network(source: str) -> Any:
        raise OSError(f"We couldn't connect to the hub to load {source}\nand more")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", no_network)
    with pytest.raises(
        ModelError, match=r"\(We couldn't connect to the hub to load nobody/nothing\); without a network"
    ):
        clipseg_teacher("nobody/nothing")


def test_an_old_transformers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDependencyError, match=r"Sam4Model, unknown to .* pip install 'transformers>=5'"):
        hf_loading.load_network("Sam4Model", ("sam4",), "x", "cpu")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match="pip install 'transformers>=5'"):
        hf_loading.load_network("Sam3Model", ("sam3",), "x", "cpu")


def test_texts_are_never_cut(clipseg: str) -> None:
    tokenizer = hf_loading.load_tokenizer(clipseg)
    ids, mask = hf_loading.tokenize(tokenizer, ["car", "a road"], 8)
    assert mask.sum(1).tolist() == [5, 7]  # one token per letter, start and end
    assert ids.shape == (2, 8)
    with pytest.raises(ConfigError, match=r"'a photo of a car' has 14 tokens, the network reads 8"):
        hf_loading.tokenize(tokenizer, ["car", "a photo of a car"], 8)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (Sam3Config(), {"output": "panoptic"}, "one of instances, instances_by_text, semantic"),
        (Sam3Config(), {"score_threshold": 2.0}, "score_threshold must be in 0..1"),
        (Sam3Config(), {"text_batch": 0}, "text_batch must be at least 1"),
        (ClipSegConfig(), {"prompt": "a photo"}, "prompt"),
        (ClipSegConfig(), {"void_below": -1.0}, "void_below must be in 0..1"),
        (ClipSegConfig(), {"input_size": 0}, "input_size must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(config: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, **changes)


def test_clipseg_wants_whole_patches(clipseg: str) -> None:
    with pytest.raises(ConfigError, match="multiple of the patch 8"):
        clipseg_teacher(clipseg, input_size=42)
