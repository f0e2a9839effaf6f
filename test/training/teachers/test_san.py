"""SAN: names and shapes of the released checkpoints, arithmetic against direct references, the teacher end to end."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from ov_seg_ros.core.camera import CameraModel  # noqa: E402
from ov_seg_ros.core.data_types import CameraImage  # noqa: E402
from ov_seg_ros.core.errors import ConfigError, ModelError  # noqa: E402
from ov_seg_ros.core.label_space import LabelSpace  # noqa: E402
from training.config import parse_settings  # noqa: E402
from training.dictionary import ClassDictionary  # noqa: E402
from training.teachers.open_clip_loading import build_open_clip  # noqa: E402
from training.teachers.san import SanConfig, SanTeacher  # noqa: E402
from training.teachers.san_checkpoint import load_san  # noqa: E402
from training.teachers.san_network import (  # noqa: E402
    SanArchitecture,
    SanNetwork,
    attend_with_bias,
)
from training.teachers.san_side_adapter import SideAdapter, SideAdapterConfig, _Block  # noqa: E402

LARGE = SanArchitecture()
BASE = SanArchitecture(clip_model="ViT-B-16", fusion_layers=(0, 3, 6, 9), clip_scale=0.5)

# The trained names and shapes are printed in the training logs of MendelXu/SAN (resources/san_vit_large_14.log,
# san_vit_b_16.log); those of the frozen CLIP follow from its module listing in the same logs.
TRAINED = {
    "side_adapter_network.query_embed": "1 100 240",
    "side_adapter_network.query_pos_embed": "1 100 240",
    "side_adapter_network.vit_model.pos_embed": "1 1600 240",
    "side_adapter_network.vit_model.patch_embed.proj.weight": "240 3 16 16",
    "side_adapter_network.vit_model.patch_embed.proj.bias": "240",
    "side_adapter_network.vit_model.blocks.{8}.norm1.weight": "240",
    "side_adapter_network.vit_model.blocks.{8}.norm1.bias": "240",
    "side_adapter_network.vit_model.blocks.{8}.attn.qkv.weight": "720 240",
    "side_adapter_network.vit_model.blocks.{8}.attn.qkv.bias": "720",
    "side_adapter_network.vit_model.blocks.{8}.attn.proj.weight": "240 240",
    "side_adapter_network.vit_model.blocks.{8}.attn.proj.bias": "240",
    "side_adapter_network.vit_model.blocks.{8}.norm2.weight": "240",
    "side_adapter_network.vit_model.blocks.{8}.norm2.bias": "240",
    "side_adapter_network.vit_model.blocks.{8}.mlp.fc1.weight": "960 240",
    "side_adapter_network.vit_model.blocks.{8}.mlp.fc1.bias": "960",
    "side_adapter_network.vit_model.blocks.{8}.mlp.fc2.weight": "240 960",
    "side_adapter_network.vit_model.blocks.{8}.mlp.fc2.bias": "240",
    "side_adapter_network.fusion_layers.layer_{4}.input_proj.0.weight": "C",
    "side_adapter_network.fusion_layers.layer_{4}.input_proj.0.bias": "C",
    "side_adapter_network.fusion_layers.layer_{4}.input_proj.1.weight": "240 C 1 1",
    "side_adapter_network.fusion_layers.layer_{4}.input_proj.1.bias": "240",
    "side_adapter_network.mask_decoder.query_mlp.layers.0.weight": "256 240",
    "side_adapter_network.mask_decoder.query_mlp.layers.0.bias": "256",
    "side_adapter_network.mask_decoder.query_mlp.layers.1.weight": "256 256",
    "side_adapter_network.mask_decoder.query_mlp.layers.1.bias": "256",
    "side_adapter_network.mask_decoder.query_mlp.layers.2.weight": "256 256",
    "side_adapter_network.mask_decoder.query_mlp.layers.2.bias": "256",
    "side_adapter_network.mask_decoder.pix_mlp.layers.0.weight": "256 240 1 1",
    "side_adapter_network.mask_decoder.pix_mlp.layers.0.bias": "256",
    "side_adapter_network.mask_decoder.pix_mlp.layers.1.weight": "256 256 1 1",
    "side_adapter_network.mask_decoder.pix_mlp.layers.1.bias": "256",
    "side_adapter_network.mask_decoder.pix_mlp.layers.2.weight": "256 256 1 1",
    "side_adapter_network.mask_decoder.pix_mlp.layers.2.bias": "256",
    "side_adapter_network.mask_decoder.attn_mlp.layers.0.weight": "256 240 1 1",
    "side_adapter_network.mask_decoder.attn_mlp.layers.0.bias": "256",
    "side_adapter_network.mask_decoder.attn_mlp.layers.1.weight": "256 256 1 1",
    "side_adapter_network.mask_decoder.attn_mlp.layers.1.bias": "256",
    "side_adapter_network.mask_decoder.attn_mlp.layers.2.weight": "BIAS 256 1 1",
    "side_adapter_network.mask_decoder.attn_mlp.layers.2.bias": "BIAS",
    "side_adapter_network.mask_decoder.bias_scaling.weight": "1 1",
    "side_adapter_network.mask_decoder.bias_scaling.bias": "1",
    "clip_visual_extractor.positional_embedding": "POSITIONS C",
    "ov_classifier.bg_embed": "1 D",
}
BLOCK = {
    "ln_1.weight": (1,),
    "ln_1.bias": (1,),
    "attn.in_proj_weight": (3, 1),
    "attn.in_proj_bias": (3,),
    "attn.out_proj.weight": (1, 1),
    "attn.out_proj.bias": (1,),
    "ln_2.weight": (1,),
    "ln_2.bias": (1,),
    "mlp.c_fc.weight": (4, 1),
    "mlp.c_fc.bias": (4,),
    "mlp.c_proj.weight": (1, 4),
    "mlp.c_proj.bias": (1,),
}
FROZEN = {
    "clip_visual_extractor.class_embedding": "C",
    "clip_visual_extractor.conv1.weight": "C 3 PATCH PATCH",
    "clip_visual_extractor.ln_pre.weight": "C",
    "clip_visual_extractor.ln_pre.bias": "C",
    "clip_rec_head.ln_post.weight": "C",
    "clip_rec_head.ln_post.bias": "C",
    "clip_rec_head.proj": "C D",
    "ov_classifier.positional_embedding": "77 D",
    "ov_classifier.text_projection": "D D",
    "ov_classifier.logit_scale": "",
    "ov_classifier.token_embedding.weight": "49408 D",
    "ov_classifier.ln_final.weight": "D",
    "ov_classifier.ln_final.bias": "D",
}
SIZES = {
    "large": (LARGE, {"C": 1024, "D": 768, "BIAS": 4096, "POSITIONS": 577, "PATCH": 14}, (18, 6)),
    "base": (BASE, {"C": 768, "D": 512, "BIAS": 3072, "POSITIONS": 197, "PATCH": 16}, (9, 3)),
}


def released_shapes(size: str) -> dict[str, tuple[int, ...]]:
    _, letters, (early, late) = SIZES[size]
    shapes = {}
    for name, shape in {**TRAINED, **FROZEN}.items():
        sizes = tuple(letters[n] if n in letters else int(n) for n in shape.split())
        repeats = next((n for n in (4, 8) if f"{{{n}}}" in name), 1)
        for index in range(repeats):
            shapes[name.replace(f"{{{repeats}}}", str(index))] = sizes
    for prefix, count, width in (
        ("clip_visual_extractor.resblocks", early, "C"),
        ("clip_rec_head.resblocks", late, "C"),
        ("ov_classifier.transformer.resblocks", 12, "D"),
    ):
        for index, (name, factors) in itertools.product(range(count), BLOCK.items()):
            shapes[f"{prefix}.{index}.{name}"] = tuple(f * letters[width] for f in factors)
    return shapes


@pytest.mark.parametrize("size", ["large", "base"])
def test_names_and_shapes_are_those_of_the_released_checkpoint(size: str) -> None:
    architecture = SIZES[size][0]
    with torch.device("meta"):
        network = SanNetwork(build_open_clip(architecture.clip_model, quick_gelu=True), architecture)
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == released_shapes(size)


def test_trained_parameters_are_as_many_as_the_log_says() -> None:
    names = {n for n in released_shapes("large") if n.startswith(("side_adapter", "ov_classifier.bg"))}
    names.add("clip_visual_extractor.positional_embedding")
    count = sum(int(np.prod(released_shapes("large")[name])) for name in names)
    assert f"{count / 1e6:.2f}M" == "9.32M"


# --- tiny networks ---------------------------------------------------------------------------------------------------

TINY = SanArchitecture(
    clip_model="tiny-for-san",
    fusion_layers=(0, 1),
    clip_scale=0.5,
    adapter=SideAdapterConfig(width=12, depth=2, heads=2, patch_size=8, image_size=32, queries=5, decoder_channels=6),
)
TINY_CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 3, "width": 16, "head_width": 8, "patch_size": 4},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module", autouse=True)
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("configs") / f"{TINY.clip_model}.json"
    path.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(path)
    return TINY.clip_model


@pytest.fixture(scope="module")
def network() -> SanNetwork:
    torch.manual_seed(0)
    tiny = SanNetwork(build_open_clip(TINY.clip_model, quick_gelu=True), TINY).eval().requires_grad_(False)
    for parameter in tiny.parameters():
        if parameter.ndim > 1:
            parameter.copy_(0.4 * torch.randn_like(parameter))  # lively masks, embeddings that differ
    tiny.side_adapter_network.mask_decoder.pix_mlp.layers[2].weight.mul_(0.2)
    return tiny


@pytest.fixture(scope="module")
def checkpoint(network: SanNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "san_tiny.pth"
    extra = {"criterion.empty_weight": torch.ones(172), "ov_classifier.attn_mask": torch.zeros(77, 77)}
    torch.save({"model": {**network.state_dict(), **extra}, "iteration": 59999}, path)
    return path


@pytest.fixture(scope="module")
def dictionary() -> ClassDictionary:
    space = LabelSpace("three", ("car", "road", "tree"), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    return ClassDictionary.from_label_space(space)


def camera_image(height: int, width: int) -> CameraImage:
    """Four colours, so that masks have something to tell apart."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:], pixels[height // 2 :] = (255, 40, 0), (20, 200, 40)
    pixels[: height // 2, width // 2 :], pixels[height // 2 :, width // 2 :] = (0, 30, 220), (250, 250, 250)
    camera = CameraModel(width, height, fx=50.0, fy=50.0, cx=width / 2, cy=height / 2)
    return CameraImage("front", pixels, camera, np.eye(4))


def test_biased_attention_is_the_published_one_sequence_formulation() -> None:
    torch.manual_seed(1)
    block = build_open_clip(TINY.clip_model, quick_gelu=True).visual.transformer.resblocks[0].eval()
    heads, queries, pixels = 2, 5, 6
    copies, x = torch.randn(1, queries, 16), torch.randn(1, 1 + pixels, 16)  # x: class token, then pixels
    bias = 3 * torch.randn(1, heads, queries, pixels)
    mask = torch.zeros(queries + 1 + pixels, queries + 1 + pixels)
    mask[:, :queries] = -100.0  # nobody sees a copy
    mask[range(queries), range(queries)] = 0.0  # but itself
    mask[:queries, queries] = -100.0  # copies do not see the class token
    mask = mask.expand(heads, -1, -1).clone()
    mask[:, :queries, queries + 1 :] = bias[0]
    together = torch.cat([copies, x], dim=1)
    with torch.no_grad():
        expected = block(together, attn_mask=mask)
        ours = copies + attend_with_bias(block, copies, x[:, 1:], bias)
        ours = ours + block.mlp(block.ln_2(ours))
        torch.testing.assert_close(ours, expected[:, :queries], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(block(x), expected[:, queries:], atol=1e-5, rtol=1e-5)


def test_transformer_block_is_that_of_timm() -> None:
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(2)
    ours = _Block(12, 2)
    theirs = vision_transformer.Block(12, 2, qkv_bias=True, norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=1e-5)


def test_mask_decoder_is_a_dot_product_per_pixel_and_head() -> None:
    torch.manual_seed(3)
    decoder = SideAdapter(TINY.adapter, clip_width=16, clip_heads=2, fusions=2).mask_decoder
    query, pixels = torch.randn(1, 5, 12), torch.randn(1, 12, 3, 4)
    with torch.no_grad():
        decoder.bias_scaling.weight.fill_(2.0)
        decoder.bias_scaling.bias.fill_(-1.0)
        masks, biases = decoder(query, pixels)
        for q, v, u in itertools.product(range(5), range(3), range(4)):
            at = pixels[:, :, v : v + 1, u : u + 1]
            embedding = decoder.query_mlp(query)[0, q]
            assert masks[0, q, v, u] == pytest.approx(float(embedding @ decoder.pix_mlp(at).flatten()), abs=1e-5)
            for head in range(2):
                key = decoder.attn_mlp(at).flatten()[6 * head : 6 * head + 6]
                assert biases[0, head, q, v, u] == pytest.approx(2 * float(embedding @ key) - 1, abs=1e-5)


def test_fusion_happens_after_as_many_blocks_as_its_number_says() -> None:
    torch.manual_seed(4)
    adapter = SideAdapter(TINY.adapter, clip_width=16, clip_heads=2, fusions=2).eval()
    image, maps = torch.randn(1, 3, 32, 24), [torch.randn(1, 16, 2, 3) for _ in range(2)]
    vit, resize = adapter.vit_model, torch.nn.functional.interpolate
    with torch.no_grad():
        masks, _ = adapter(image, maps)
        x = vit.patch_embed.proj(image)
        square = vit.pos_embed.reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
        position = resize(square, (4, 3), mode="bicubic", align_corners=False)
        added = []
        for k, clip_map in enumerate(maps):
            norm, conv = adapter.fusion_layers[f"layer_{k}"].input_proj
            mean = clip_map.mean(1, keepdim=True)
            normal = (clip_map - mean) / (clip_map.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
            normal = normal * norm.weight[:, None, None] + norm.bias[:, None, None]
            added.append(resize(conv(normal), (4, 3), mode="bilinear", align_corners=False))
        query, pixels = adapter.query_embed + adapter.query_pos_embed, x + position + added[0]

        def block(index: int, query: Any, pixels: Any) -> tuple[Any, Any]:
            out = vit.blocks[index](torch.cat([query, pixels.flatten(2).transpose(1, 2)], 1))
            return out[:, :5], out[:, 5:].transpose(1, 2).reshape(1, 12, 4, 3)

        query, pixels = block(0, query, pixels)
        query, pixels = query + adapter.query_pos_embed, pixels + added[1] + position
        query, pixels = block(1, query, pixels)
        torch.testing.assert_close(masks, adapter.mask_decoder(query, pixels)[0], atol=1e-5, rtol=1e-4)


def test_early_clip_is_the_clip_itself(network: SanNetwork) -> None:
    clip = build_open_clip(TINY.clip_model, quick_gelu=True).eval()
    tiny = SanNetwork(clip, TINY).eval()
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        class_token, maps = tiny.clip_visual_extractor(image, (0, 1))
        expected = clip.visual.transformer.resblocks[0](clip.visual._embeds(image))
    torch.testing.assert_close(maps[1].flatten(2).transpose(1, 2), expected[:, 1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(class_token, expected[:, :1], atol=1e-5, rtol=1e-5)


def test_unbiased_masks_embed_alike_and_biases_tell_them_apart(network: SanNetwork) -> None:
    """A bias that admits one pixel only makes a copy look at it; equal biases give equal embeddings."""
    class_token, pixels = torch.randn(1, 1, 16), torch.randn(1, 16, 2, 2)
    biases = torch.full((1, 2, 3, 2, 2), -1e4)
    biases[:, :, 0, 0, 0] = biases[:, :, 1, 0, 0] = biases[:, :, 2, 1, 1] = 0.0
    embeddings = network.clip_rec_head(class_token, pixels, biases)[0]
    torch.testing.assert_close(embeddings[0], embeddings[1])
    assert float(embeddings[0] @ embeddings[2]) < 0.999
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))


# --- the teacher -----------------------------------------------------------------------------------------------------


def teacher_config(checkpoint: Path, **changes: Any) -> SanConfig:
    return SanConfig(str(checkpoint), short_side=32, device="cpu", architecture=TINY, **changes)


@pytest.mark.parametrize(("height", "width"), [(27, 48), (70, 40)])
def test_segments_are_those_of_a_pixel_by_pixel_reference(
    checkpoint: Path, dictionary: ClassDictionary, height: int, width: int
) -> None:
    teacher = SanTeacher(teacher_config(checkpoint), dictionary)
    image = camera_image(height, width)

    # The published chain, with everything at full size.
    from PIL import Image

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


def test_background_takes_part_in_the_softmax(network: SanNetwork) -> None:
    texts = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1)
    embedding = torch.nn.functional.normalize(network.ov_classifier.bg_embed, dim=-1)[None]
    logits = network.ov_classifier(embedding, texts)
    assert logits.shape == (1, 1, 4)
    assert float(logits[0, 0, 3]) == pytest.approx(float(network.ov_classifier.logit_scale.exp()), rel=1e-5)
    assert logits[0, 0].argmax() == 3


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
        SanConfig("a.pth", architecture=dataclasses.replace(BASE, fusion_layers=(3, 0)))
    with pytest.raises(ConfigError, match="short_side"):
        SanConfig("a.pth", short_side=0)


# --- bad checkpoints -------------------------------------------------------------------------------------------------


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_checkpoint_without_the_frozen_clip_takes_it_from_its_own_file(
    checkpoint: Path, network: SanNetwork, tmp_path: Path
) -> None:
    clip = build_open_clip(TINY.clip_model, quick_gelu=True)
    SanNetwork(clip, TINY).load_state_dict(network.state_dict())
    weights = save(tmp_path / "clip.pt", clip.state_dict())
    kept = ("side_adapter", "clip_visual_extractor.positional_embedding", "ov_classifier.bg_embed")
    small = save(tmp_path / "small.pth", {k: v for k, v in network.state_dict().items() if k.startswith(kept)})
    loaded, _ = load_san(small, str(weights), TINY)
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_missing_file_says_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.pth does not exist; download san_vit_large_14\.pth"):
        load_san(tmp_path / "nothing.pth", "openai", TINY)


def test_truncated_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "half.pth").write_bytes(checkpoint.read_bytes()[:100_000])
    with pytest.raises(ModelError, match="cannot be read, is the download complete"):
        load_san(tmp_path / "half.pth", "openai", TINY)


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected"):
        load_san(save(tmp_path / "a.pth", {"model": {"epoch": 3}}), "openai", TINY)


def test_missing_and_unknown_names_are_listed(network: SanNetwork, tmp_path: Path) -> None:
    weights = dict(network.state_dict())
    weights["head.weight"] = weights.pop("ov_classifier.bg_embed")
    with pytest.raises(ModelError, match=r"missing: ov_classifier\.bg_embed; 1 names unexpected: head\.weight"):
        load_san(save(tmp_path / "a.pth", {"model": weights}), "openai", TINY)


def test_checkpoint_of_another_size_is_refused(checkpoint: Path) -> None:
    adapter = dataclasses.replace(TINY.adapter, queries=7)
    with pytest.raises(ModelError, match=r"query_embed \(file \(1, 5, 12\), network \(1, 7, 12\)\).*clip_model"):
        load_san(checkpoint, "openai", dataclasses.replace(TINY, adapter=adapter))


def test_unknown_clip_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'ViT-Q'"):
        load_san(checkpoint, "openai", dataclasses.replace(TINY, clip_model="ViT-Q"))
