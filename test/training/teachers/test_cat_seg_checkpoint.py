"""Released CAT-Seg checkpoints: names and shapes pinned, strict loading."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from tiny_cat_seg import AGGREGATOR, CLIP, TINY, build_network, save, to_released  # noqa: E402

from ov_seg_ros.core.errors import ModelError  # noqa: E402
from training.teachers.cat_seg_checkpoint import load_cat_seg, rename  # noqa: E402
from training.teachers.cat_seg_network import CatSegArchitecture, CatSegNetwork  # noqa: E402
from training.teachers.open_clip_loading import build_open_clip  # noqa: E402

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


@pytest.fixture(scope="module")
def network() -> CatSegNetwork:
    return build_network()


@pytest.fixture(scope="module")
def checkpoint(network: CatSegNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("weights") / "cat_seg_tiny.pth", {"model": to_released(network)})


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
