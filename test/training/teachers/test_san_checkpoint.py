"""Released SAN checkpoints: names and shapes pinned, strict loading."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from tiny_san import TINY, build_network, save, save_released  # noqa: E402

from ov_seg_ros.core.errors import ConfigError, ModelError  # noqa: E402
from training.teachers.open_clip_loading import build_open_clip  # noqa: E402
from training.teachers.san_checkpoint import load_san  # noqa: E402
from training.teachers.san_network import SanArchitecture, SanNetwork  # noqa: E402

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


@pytest.fixture(scope="module")
def network() -> SanNetwork:
    return build_network()


@pytest.fixture(scope="module")
def checkpoint(network: SanNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_released(tmp_path_factory.mktemp("weights") / "san_tiny.pth", network)


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
