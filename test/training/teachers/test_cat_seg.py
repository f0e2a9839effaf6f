"""CAT-Seg: names and shapes of the released checkpoints, arithmetic against slow references, the teacher end to end."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from ov_seg_ros.core.camera import CameraModel  # noqa: E402
from ov_seg_ros.core.data_types import CameraImage  # noqa: E402
from ov_seg_ros.core.errors import ConfigError, ModelError  # noqa: E402
from ov_seg_ros.core.label_space import LabelSpace  # noqa: E402
from training.config import parse_settings  # noqa: E402
from training.dictionary import ClassDictionary  # noqa: E402
from training.teachers.cat_seg import CatSegConfig, CatSegTeacher  # noqa: E402
from training.teachers.cat_seg_aggregator import EXCLUDED, Aggregator, AggregatorConfig  # noqa: E402
from training.teachers.cat_seg_attention import ClassAttention, SwinPair  # noqa: E402
from training.teachers.cat_seg_checkpoint import load_cat_seg, rename  # noqa: E402
from training.teachers.cat_seg_network import CatSegArchitecture, CatSegNetwork  # noqa: E402
from training.teachers.cat_seg_windows import SlidingWindow, predict_in_windows  # noqa: E402
from training.teachers.open_clip_loading import build_open_clip  # noqa: E402

CLIP, AGGREGATOR = "sem_seg_head.predictor.clip_model.", "sem_seg_head.predictor.transformer."
LARGE = CatSegArchitecture()
BASE = CatSegArchitecture(clip_model="ViT-B-16", clip_resolution=384, guidance_layers=(3, 7))

# From the modules of cvlab-kaist/CAT-Seg (cat_seg_model.py, modeling/transformer/model.py, third_party/model_vpt.py)
# and its configurations vitl_336.yaml, vitb_384.yaml. C: width of the image tower, D: of the text space.
RELEASED = {
    "upsample1.weight": "C 256 2 2",
    "upsample1.bias": "256",
    "upsample2.weight": "C 128 4 4",
    "upsample2.bias": "128",
    f"{AGGREGATOR}conv1.weight": "128 1 7 7",
    f"{AGGREGATOR}conv1.bias": "128",
    f"{AGGREGATOR}guidance_projection.0.weight": "128 D 3 3",
    f"{AGGREGATOR}guidance_projection.0.bias": "128",
    f"{AGGREGATOR}text_guidance_projection.0.weight": "128 D",
    f"{AGGREGATOR}text_guidance_projection.0.bias": "128",
    f"{AGGREGATOR}decoder_guidance_projection.0.0.weight": "32 256 3 3",
    f"{AGGREGATOR}decoder_guidance_projection.0.0.bias": "32",
    f"{AGGREGATOR}decoder_guidance_projection.1.0.weight": "16 128 3 3",
    f"{AGGREGATOR}decoder_guidance_projection.1.0.bias": "16",
    f"{AGGREGATOR}decoder1.up.weight": "128 96 2 2",
    f"{AGGREGATOR}decoder1.up.bias": "96",
    f"{AGGREGATOR}decoder1.conv.double_conv.0.weight": "64 128 3 3",
    f"{AGGREGATOR}decoder1.conv.double_conv.1.weight": "64",
    f"{AGGREGATOR}decoder1.conv.double_conv.1.bias": "64",
    f"{AGGREGATOR}decoder1.conv.double_conv.3.weight": "64 64 3 3",
    f"{AGGREGATOR}decoder1.conv.double_conv.4.weight": "64",
    f"{AGGREGATOR}decoder1.conv.double_conv.4.bias": "64",
    f"{AGGREGATOR}decoder2.up.weight": "64 48 2 2",
    f"{AGGREGATOR}decoder2.up.bias": "48",
    f"{AGGREGATOR}decoder2.conv.double_conv.0.weight": "32 64 3 3",
    f"{AGGREGATOR}decoder2.conv.double_conv.1.weight": "32",
    f"{AGGREGATOR}decoder2.conv.double_conv.1.bias": "32",
    f"{AGGREGATOR}decoder2.conv.double_conv.3.weight": "32 32 3 3",
    f"{AGGREGATOR}decoder2.conv.double_conv.4.weight": "32",
    f"{AGGREGATOR}decoder2.conv.double_conv.4.bias": "32",
    f"{AGGREGATOR}head.weight": "1 32 3 3",
    f"{AGGREGATOR}head.bias": "1",
    f"{CLIP}visual.class_embedding": "C",
    f"{CLIP}visual.positional_embedding": "POSITIONS C",
    f"{CLIP}visual.proj": "C D",
    f"{CLIP}visual.conv1.weight": "C 3 PATCH PATCH",
    f"{CLIP}visual.ln_pre.weight": "C",
    f"{CLIP}visual.ln_pre.bias": "C",
    f"{CLIP}visual.ln_post.weight": "C",
    f"{CLIP}visual.ln_post.bias": "C",
    f"{CLIP}positional_embedding": "77 D",
    f"{CLIP}text_projection": "D D",
    f"{CLIP}logit_scale": "",
    f"{CLIP}token_embedding.weight": "49408 D",
    f"{CLIP}ln_final.weight": "D",
    f"{CLIP}ln_final.bias": "D",
}
SWIN = {
    "norm1.weight": "128",
    "norm1.bias": "128",
    "attn.q.weight": "128 256",
    "attn.q.bias": "128",
    "attn.k.weight": "128 256",
    "attn.k.bias": "128",
    "attn.v.weight": "128 128",
    "attn.v.bias": "128",
    "attn.proj.weight": "128 128",
    "attn.proj.bias": "128",
    "norm2.weight": "128",
    "norm2.bias": "128",
    "mlp.fc1.weight": "512 128",
    "mlp.fc1.bias": "512",
    "mlp.fc2.weight": "128 512",
    "mlp.fc2.bias": "128",
}
LAYER = {
    **{f"swin_block.block_{n}.{name}": shape for n in (1, 2) for name, shape in SWIN.items()},
    "swin_block.block_2.attn_mask": "4 144 144",
    "swin_block.guidance_norm.weight": "128",
    "swin_block.guidance_norm.bias": "128",
    "attention.attention.q.weight": "128 256",
    "attention.attention.q.bias": "128",
    "attention.attention.k.weight": "128 256",
    "attention.attention.k.bias": "128",
    "attention.attention.v.weight": "128 128",
    "attention.attention.v.bias": "128",
    "attention.MLP.0.weight": "512 128",
    "attention.MLP.0.bias": "512",
    "attention.MLP.2.weight": "128 512",
    "attention.MLP.2.bias": "128",
    "attention.norm1.weight": "128",
    "attention.norm1.bias": "128",
    "attention.norm2.weight": "128",
    "attention.norm2.bias": "128",
    "attention.padding_tokens": "1 1 128",
    "attention.padding_guidance": "1 1 128",
}
BLOCK = {
    "ln_1.weight": (1,),
    "ln_1.bias": (1,),
    "attn.q_proj_weight": (1, 1),
    "attn.k_proj_weight": (1, 1),
    "attn.v_proj_weight": (1, 1),
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
SIZES = {
    "large": (LARGE, {"C": 1024, "D": 768, "POSITIONS": 577, "PATCH": 14}, 24),
    "base": (BASE, {"C": 768, "D": 512, "POSITIONS": 197, "PATCH": 16}, 12),
}


def released_shapes(size: str) -> dict[str, tuple[int, ...]]:
    _, letters, depth = SIZES[size]
    layers = {f"{AGGREGATOR}layers.{i}.{name}": shape for i in range(2) for name, shape in LAYER.items()}
    shapes = {
        name: tuple(letters[n] if n in letters else int(n) for n in shape.split())
        for name, shape in {**RELEASED, **layers}.items()
    }
    for tower, count, width in (("visual.transformer", depth, "C"), ("transformer", 12, "D")):
        for index, (name, factors) in itertools.product(range(count), BLOCK.items()):
            shapes[f"{CLIP}{tower}.resblocks.{index}.{name}"] = tuple(f * letters[width] for f in factors)
    return shapes


@pytest.mark.parametrize("size", ["large", "base"])
def test_names_and_shapes_are_those_of_the_released_checkpoint(size: str) -> None:
    architecture = SIZES[size][0]
    with torch.device("meta"):
        network = CatSegNetwork(build_open_clip(architecture.clip_model, quick_gelu=True), architecture)
        weights = rename({name: torch.empty(shape) for name, shape in released_shapes(size).items()})
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == expected


# --- tiny networks ---------------------------------------------------------------------------------------------------

TINY = CatSegArchitecture(
    clip_model="tiny-for-cat-seg",
    clip_resolution=16,
    guidance_layers=(0, 1),
    aggregator=AggregatorConfig(
        side=4,
        layers=2,
        width=24,
        guidance_width=8,
        heads=2,
        window=2,
        slots=7,
        decoder_widths=(32, 16),
        decoder_guidance_widths=(6, 5),
        decoder_guidance_projections=(4, 3),
    ),
)
TINY_CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 12, "layers": 3, "width": 16, "head_width": 8, "patch_size": 4},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
WINDOW = SlidingWindow(canvas=40, tile=24, stride=16)


@pytest.fixture(scope="module", autouse=True)
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("configs") / f"{TINY.clip_model}.json"
    path.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(path)
    return TINY.clip_model


def shake(module: Any, scale: float = 0.3) -> Any:
    """Random weights that no zero initialisation can hide behind."""
    for parameter in module.requires_grad_(False).eval().parameters():
        parameter.add_(scale * torch.randn_like(parameter))
    return module


@pytest.fixture(scope="module")
def network() -> CatSegNetwork:
    torch.manual_seed(0)
    tiny: CatSegNetwork = shake(CatSegNetwork(build_open_clip(TINY.clip_model, quick_gelu=True), TINY))
    return tiny


def to_released(network: CatSegNetwork) -> dict[str, Any]:
    """The state of a network under the names of a released file."""
    found = {}
    for name, tensor in network.state_dict().items():
        name = re.sub("^clip\\.", CLIP, re.sub("^aggregator\\.", AGGREGATOR, name))
        if name.endswith("in_proj_weight"):
            for part, matrix in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace("in_proj_weight", f"{part}_proj_weight")] = matrix.clone()
        else:
            found[name] = tensor
    for index in range(2):
        found[f"{AGGREGATOR}layers.{index}.swin_block.block_2.attn_mask"] = torch.zeros(4, 4, 4)
    return found


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(network: CatSegNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("weights") / "cat_seg_tiny.pth", {"model": to_released(network)})


@pytest.fixture(scope="module")
def dictionary() -> ClassDictionary:
    space = LabelSpace("three", ("car", "road", "tree"), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    return ClassDictionary.from_label_space(space)


# --- the last block of CLIP ------------------------------------------------------------------------------------------


def test_dense_clip_takes_own_values_and_the_residual_of_the_class_token(network: CatSegNetwork) -> None:
    visual = network.clip.visual
    image = torch.randn(1, 3, 12, 12)  # the size of its position embedding
    with torch.no_grad():
        features, first, second = network.encode(image)
        x0 = visual.transformer.resblocks[0](visual._embeds(image))
        x1 = visual.transformer.resblocks[1](x0)
        torch.testing.assert_close(first[0, :, 1, 2], x0[0, 1 + 1 * 3 + 2], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(second[0, :, 2, 0], x1[0, 1 + 2 * 3 + 0], atol=1e-5, rtol=1e-4)
        last = visual.transformer.resblocks[2]
        for v, u in itertools.product(range(3), range(3)):
            token = last.ln_1(x1[0, 1 + 3 * v + u])
            # Attention over a single token is its value, whatever queries and keys are.
            alone = last.attn(token[None, None], token[None, None], token[None, None])[0][0, 0]
            y = x1[0, 0] + alone
            y = y + last.mlp(last.ln_2(y))
            torch.testing.assert_close(features[0, :, v, u], visual.ln_post(y) @ visual.proj, atol=1e-4, rtol=1e-3)


# --- attention against slow references -------------------------------------------------------------------------------


def softmax_attention(module: Any, x: Any, guidance: Any, allowed: Any) -> Any:
    """(L, C) and (L, G) to (L, C), token by token; ``allowed[i]`` are the tokens that token i sees."""
    both = torch.cat([x, guidance], dim=1)
    query, key, value = module.q(both), module.k(both), module.v(x)
    size = x.shape[1] // module.heads
    out = torch.zeros_like(x)
    for i, head in itertools.product(range(len(x)), range(module.heads)):
        part = slice(head * size, (head + 1) * size)
        logits = torch.stack([query[i, part] @ key[j, part] for j in allowed[i]]) / size**0.5
        out[i, part] = sum(w * value[j, part] for w, j in zip(logits.softmax(0), allowed[i], strict=True))
    return module.proj(out)


def swin_reference(block: Any, x: Any, guidance: Any, shift: int, side: int, window: int) -> Any:
    """One map (h, w, C): cells see those of their own window of the shifted grid; windows do not wrap around."""

    def bucket(v: int, u: int) -> tuple[int, int]:
        return (v + window - shift) // window, (u + window - shift) // window

    cells = list(itertools.product(range(side), range(side)))
    allowed = [[j for j, other in enumerate(cells) if bucket(*other) == bucket(*cell)] for cell in cells]
    flat = x.reshape(side * side, -1)
    flat = flat + softmax_attention(block.attn, block.norm1(flat), guidance.reshape(side * side, -1), allowed)
    hidden = torch.nn.functional.gelu(block.mlp["fc1"](block.norm2(flat)))
    return (flat + block.mlp["fc2"](hidden)).reshape(x.shape)


@pytest.mark.parametrize(("side", "window"), [(4, 2), (6, 3), (4, 8)])
def test_swin_blocks_attend_within_shifted_windows_that_do_not_wrap(side: int, window: int) -> None:
    torch.manual_seed(1)
    pair = shake(SwinPair(8, 6, side, heads=2, window=window))
    x, guidance = torch.randn(3, side, side, 8), torch.randn(side, side, 6)
    found = pair(x, guidance)
    shift = window // 2 if side > window else 0
    guide = pair.guidance_norm(guidance)
    for text in range(3):
        expected = swin_reference(pair.block_1, x[text], guide, 0, side, min(side, window))
        expected = swin_reference(pair.block_2, expected, guide, shift, side, min(side, window))
        torch.testing.assert_close(found[text], expected, atol=1e-4, rtol=1e-4)


def class_reference(module: ClassAttention, x: Any, guidance: Any) -> Any:
    """Linear attention with every filler written out: weights (elu q + 1) . (elu k + 1), divided by their sum."""
    texts, height, width, channels = x.shape
    pool = module.pooling
    small = torch.zeros(texts, height // pool, width // pool, channels)
    for v, u in itertools.product(range(height // pool), range(width // pool)):
        small[:, v, u] = x[:, v * pool : (v + 1) * pool, u * pool : (u + 1) * pool].mean(dim=(1, 2))
    fillers = max(0, module.slots - texts)
    guides = torch.cat([guidance, module.padding_guidance[0].expand(fillers, -1)])
    size = channels // module.attention.heads
    for v, u in itertools.product(range(small.shape[1]), range(small.shape[2])):
        tokens = torch.cat([small[:, v, u], module.padding_tokens[0].expand(fillers, -1)])
        normal = module.norm1(tokens)
        both = torch.cat([normal, guides], dim=1)
        query = torch.nn.functional.elu(module.attention.q(both)) + 1
        key = torch.nn.functional.elu(module.attention.k(both)) + 1
        value, out = module.attention.v(normal), torch.zeros_like(tokens)
        for i, head in itertools.product(range(len(tokens)), range(module.attention.heads)):
            part = slice(head * size, (head + 1) * size)
            weight = key[:, part] @ query[i, part]
            out[i, part] = (weight[:, None] * value[:, part]).sum(0) / weight.sum()
        tokens = tokens + out
        small[:, v, u] = (tokens + module.MLP(module.norm2(tokens)))[:texts]
    resized = torch.nn.functional.interpolate(
        small.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=True
    )
    return x + resized.permute(0, 2, 3, 1)


@pytest.mark.parametrize(("texts", "slots", "pooling"), [(3, 7, 1), (5, 5, 1), (3, 6, 2)])
def test_fillers_count_as_if_written_out(texts: int, slots: int, pooling: int) -> None:
    torch.manual_seed(2)
    module = shake(ClassAttention(8, 6, heads=2, slots=slots, pooling=pooling))
    x, guidance = torch.randn(texts, 4, 4, 8), torch.randn(texts, 6)
    torch.testing.assert_close(module(x, guidance), class_reference(module, x, guidance), atol=1e-4, rtol=1e-4)


def test_cost_is_the_cosine_and_stays_blind_to_lengths() -> None:
    torch.manual_seed(3)
    aggregator = shake(Aggregator(TINY.aggregator, text_width=8))
    texts, guidance = torch.randn(3, 8), (torch.randn(6, 8, 8), torch.randn(5, 16, 16))
    seen = []
    aggregator.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image_map = torch.randn(8, 4, 4)
    logits = aggregator(image_map, texts, guidance)
    assert logits.shape == (3, 16, 16)
    a, b = image_map[:, 1, 2].numpy(), texts[2].numpy()
    assert float(seen[0][2, 0, 1, 2]) == pytest.approx(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-5)
    torch.testing.assert_close(aggregator(image_map, 5 * texts, guidance), logits, atol=1e-4, rtol=1e-4)


def test_texts_beyond_the_slots_are_excluded_by_their_best_cosine() -> None:
    torch.manual_seed(4)
    few = dataclasses.replace(TINY.aggregator, slots=2)
    aggregator = shake(Aggregator(few, text_width=8))
    image_map, guidance = torch.randn(8, 4, 4), (torch.randn(6, 8, 8), torch.randn(5, 16, 16))
    direction = torch.nn.functional.normalize(image_map[:, 0, 0], dim=0)
    texts = torch.stack([-image_map.mean(dim=(1, 2)), direction, direction + 0.1])
    best = torch.einsum(
        "dhw,td->thw", *(torch.nn.functional.normalize(m, dim=d) for m, d in ((image_map, 0), (texts, 1)))
    )
    assert best.flatten(1).amax(1).argmin() == 0
    logits = aggregator(image_map, texts, guidance)
    assert (logits[0] == EXCLUDED).all()
    both = aggregator(image_map, texts[1:], guidance)
    torch.testing.assert_close(logits[1:], both, atol=1e-4, rtol=1e-4)


# --- sliding window --------------------------------------------------------------------------------------------------


def test_windows_are_averaged_as_unfold_and_fold_do() -> None:
    torch.manual_seed(5)
    image = torch.randn(3, 20, 30)
    kernel = torch.randn(4, 3)
    resize = torch.nn.functional.interpolate

    def predict(tile: Any) -> tuple[Any, Any]:
        logits = torch.einsum("td,dhw->thw", kernel, resize(tile[None], (12, 12), mode="bilinear")[0])
        return logits, tile[:, :2, :2]

    found, features = predict_in_windows(image, predict, WINDOW)
    canvas = resize(image[None], (40, 40), mode="bilinear")
    tiles = torch.nn.functional.unfold(canvas, 24, stride=16)[0].T.reshape(-1, 3, 24, 24)
    whole = resize(image[None], (24, 24), mode="bilinear")
    judged = torch.stack([predict(tile)[0] for tile in torch.cat([tiles, whole])])
    judged = resize(judged, (24, 24), mode="bilinear").sigmoid()
    columns = judged[:-1].flatten(1).T[None]  # (1, T 24 24, tiles)
    ones = torch.nn.functional.unfold(torch.ones(1, 1, 40, 40), 24, stride=16)
    average = torch.nn.functional.fold(columns, (40, 40), 24, stride=16) / torch.nn.functional.fold(
        ones, (40, 40), 24, stride=16
    )
    expected = (average[0] + resize(judged[-1:], (40, 40), mode="bilinear")[0]) / 2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features, whole[0, :, :2, :2])


def test_published_windows_are_four_tiles_with_a_third_of_overlap() -> None:
    window = SlidingWindow()
    assert window.stride == int(384 * (1 - 0.333))
    visits: list[Any] = []

    def predict(tile: Any) -> tuple[Any, Any]:
        visits.append(tuple(tile.shape))
        return torch.zeros(1, 2, 2), tile

    found, _ = predict_in_windows(torch.zeros(3, 4, 4), predict, window)
    assert visits == [(3, 384, 384)] * 5
    assert torch.equal(found, torch.full((1, 640, 640), 0.5))


def test_windows_with_gaps_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of stride; got canvas 640, tile 384, stride 300"):
        SlidingWindow(stride=300)


# --- the teacher -----------------------------------------------------------------------------------------------------


def teacher_config(checkpoint: Path, **changes: Any) -> CatSegConfig:
    return CatSegConfig(str(checkpoint), short_side=40, window=WINDOW, device="cpu", architecture=TINY, **changes)


def camera_image(height: int, width: int) -> CameraImage:
    """Four colours, so that maps have something to tell apart."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:], pixels[height // 2 :] = (255, 40, 0), (20, 200, 40)
    pixels[: height // 2, width // 2 :], pixels[height // 2 :, width // 2 :] = (0, 30, 220), (250, 250, 250)
    camera = CameraModel(width, height, fx=50.0, fy=50.0, cx=width / 2, cy=height / 2)
    return CameraImage("front", pixels, camera, np.eye(4))


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
    assert config.architecture == BASE
    assert config.window == SlidingWindow(640, 384, 256)
    with pytest.raises(ConfigError, match="short_side"):
        CatSegConfig("a.pth", short_side=0)


# --- bad checkpoints -------------------------------------------------------------------------------------------------


def test_released_names_load_into_the_same_network(checkpoint: Path, network: CatSegNetwork) -> None:
    loaded = load_cat_seg(checkpoint, TINY).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_first_version_with_its_swin_backbone_is_recognised(network: CatSegNetwork, tmp_path: Path) -> None:
    weights = {**to_released(network), "backbone.layers.0.blocks.0.norm1.weight": torch.ones(3)}
    with pytest.raises(ModelError, match=r"first CAT-Seg \(2023, with a Swin backbone\).*teacher precomputed"):
        load_cat_seg(save(tmp_path / "model_final.pth", {"model": weights}), TINY)


def test_attention_without_its_values_is_refused(network: CatSegNetwork, tmp_path: Path) -> None:
    weights = to_released(network)
    weights.pop(f"{CLIP}transformer.resblocks.0.attn.v_proj_weight")
    with pytest.raises(ModelError, match=r"not sem_seg_head.*resblocks\.0\.attn\.v_proj_weight"):
        load_cat_seg(save(tmp_path / "a.pth", weights), TINY)


def test_missing_file_and_other_sizes_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not exist; download model_large\.pth"):
        load_cat_seg(tmp_path / "nothing.pth", TINY)
    three = dataclasses.replace(TINY, aggregator=dataclasses.replace(TINY.aggregator, layers=3))
    with pytest.raises(ModelError, match=r"names missing: aggregator\.layers\.2.*clip_model"):
        load_cat_seg(checkpoint, three)
