"""The layers of FC-CLIP against a slow reference and against transformers' Mask2Former."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from training.teachers.fc_clip_deformable_attention import DeformableAttention, token_centers
from training.teachers.fc_clip_pixel_decoder import PixelDecoder, sine_positions
from training.teachers.fc_clip_query_decoder import QueryDecoder

DIM, HEADS = 32, 4
CHANNELS = (8, 12, 16, 20)
SIZES = [(1, 2), (2, 3), (3, 5)]
MODELING = "transformers.models.mask2former.modeling_mask2former"


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval().requires_grad_(False)


def random_maps(channels: tuple[int, ...], sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(1, c, *size, generator=generator) for c, size in zip(channels, sizes, strict=True)]


def bilinear(level_map: np.ndarray, x: float, y: float) -> np.ndarray:
    """(h, w, d) at pixel coordinates, centres at whole numbers; what lies outside counts as 0."""
    result = np.zeros(level_map.shape[2])
    left, top = math.floor(x), math.floor(y)
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < level_map.shape[0] and 0 <= column < level_map.shape[1]:
                result += (1 - abs(y - row)) * (1 - abs(x - column)) * level_map[row, column]
    return result


def slow_attention(layer: DeformableAttention, query: np.ndarray, reference: np.ndarray, source: np.ndarray) -> Any:
    """Deformable DETR, Eq. 3, one token, head, level and point at a time."""

    def linear(module: nn.Linear, x: np.ndarray) -> np.ndarray:
        return x @ module.weight.double().numpy().T + module.bias.double().numpy()

    value = linear(layer.value_proj, source).reshape(len(source), layer.heads, -1)
    result = np.zeros((len(query), layer.heads, value.shape[2]))
    for n, token in enumerate(query):
        offset = linear(layer.sampling_offsets, token).reshape(layer.heads, layer.levels, layer.points, 2)
        score = np.exp(linear(layer.attention_weights, token).reshape(layer.heads, -1))
        weight = (score / score.sum(1, keepdims=True)).reshape(layer.heads, layer.levels, layer.points)
        for head in range(layer.heads):
            start = 0
            for level, (height, width) in enumerate(SIZES):
                level_map = value[start : start + height * width, head].reshape(height, width, -1)
                start += height * width
                for point in range(layer.points):
                    x = reference[n, 0] * width + offset[head, level, point, 0] - 0.5
                    y = reference[n, 1] * height + offset[head, level, point, 1] - 0.5
                    result[n, head] += weight[head, level, point] * bilinear(level_map, x, y)
    return linear(layer.output_proj, result.reshape(len(query), -1))


def test_deformable_attention_agrees_with_its_definition() -> None:
    layer = randomize(DeformableAttention(DIM, HEADS))
    assert isinstance(layer, DeformableAttention)
    count = sum(height * width for height, width in SIZES)
    generator = torch.Generator().manual_seed(1)
    query, source = (torch.randn(count, DIM, generator=generator) for _ in range(2))
    reference = token_centers(SIZES, torch.device("cpu"))
    offsets = layer.sampling_offsets(query)
    assert offsets.abs().max() > 2.0  # some places lie outside of the maps
    expected = slow_attention(layer, query.double().numpy(), reference.double().numpy(), source.double().numpy())
    np.testing.assert_allclose(layer(query, reference, source, SIZES), expected, rtol=1e-4, atol=1e-5)


def test_token_centers_by_hand() -> None:
    centers = token_centers([(1, 2), (2, 1)], torch.device("cpu"))
    assert centers.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


def test_sine_positions_by_hand() -> None:
    """dim 4: row sine, row cosine, column sine, column cosine, wavelength 1; pixel i of n is at 2 pi (i + 1) / n."""
    positions = sine_positions((2, 4), 4, torch.device("cpu"))
    assert positions.shape == (4, 2, 4)
    np.testing.assert_allclose(positions[0, :, 0], [0.0, 0.0], atol=1e-5)  # sin(pi), sin(2 pi)
    np.testing.assert_allclose(positions[1, :, 3], [-1.0, 1.0], atol=1e-5)  # cos(pi), cos(2 pi)
    np.testing.assert_allclose(positions[2, 1], [1.0, 0.0, -1.0, 0.0], atol=1e-5)  # sin of quarters
    np.testing.assert_allclose(positions[3, 0], [0.0, -1.0, 0.0, 1.0], atol=1e-5)


def rename(state: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Our names, which are the released ones, to those of transformers; split attention projections included."""
    result = {}
    for name, tensor in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if "self_attn.in_proj_" in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                result[name.replace("in_proj_", f"{part}_proj.")] = piece
        else:
            result[name] = tensor
    return result


def reference_config() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.Mask2FormerConfig(
        feature_size=DIM,
        mask_feature_size=DIM,
        hidden_dim=DIM,
        encoder_feedforward_dim=48,
        dim_feedforward=40,
        encoder_layers=2,
        decoder_layers=5,  # one is counted for the predictions before the first layer
        num_attention_heads=HEADS,
        num_queries=6,
    )


def test_the_pixel_decoder_agrees_with_transformers() -> None:
    config = reference_config()
    theirs = importlib.import_module(MODELING).Mask2FormerPixelDecoder(config, feature_channels=CHANNELS).eval()
    ours = randomize(PixelDecoder(CHANNELS, DIM, HEADS, feedforward=48, layers=2))
    names = {
        "input_proj.": "input_projections.",
        "transformer.level_embed": "level_embed",
        "transformer.encoder.layers": "encoder.layers",
        "norm1": "self_attn_layer_norm",
        "norm2": "final_layer_norm",
        "linear1": "fc1",
        "linear2": "fc2",
        "mask_features": "mask_projection",
        "adapter_1.weight": "adapter_1.0.weight",
        "adapter_1.norm": "adapter_1.1",
        "layer_1.weight": "layer_1.0.weight",
        "layer_1.norm": "layer_1.1",
    }
    theirs.load_state_dict(rename(ours.state_dict(), names))
    maps = random_maps(CHANNELS, [(12, 20), (6, 10), (3, 5), (2, 3)])
    with torch.inference_mode():
        mask_features, scales = ours(maps)
        expected = theirs(maps, output_hidden_states=False, return_dict=True)
    np.testing.assert_allclose(mask_features, expected.mask_features[0], rtol=1e-4, atol=1e-4)
    for scale, other in zip(scales, expected.multi_scale_features, strict=True):
        np.testing.assert_allclose(scale, other[0], rtol=1e-4, atol=1e-4)


def query_inputs() -> tuple[list[torch.Tensor], torch.Tensor]:
    *scales, mask_features = random_maps((DIM,) * 4, [(2, 3), (4, 6), (8, 12), (16, 24)])
    return [scale[0] for scale in scales], mask_features[0]


def test_the_query_decoder_agrees_with_transformers() -> None:
    config = reference_config()
    theirs = importlib.import_module(MODELING).Mask2FormerTransformerModule(DIM, config).eval()
    ours = randomize(QueryDecoder(6, DIM, HEADS, feedforward=40, layers=4, clip_dim=10))
    names = {
        "transformer_self_attention_layers.": "decoder.layers.",
        "transformer_cross_attention_layers.": "decoder.layers.",
        "transformer_ffn_layers.": "decoder.layers.",
        "multihead_attn": "cross_attn",
        "linear1": "fc1",
        "linear2": "fc2",
        "decoder_norm": "decoder.layernorm",
        "query_feat": "queries_features",
        "query_embed": "queries_embedder",
    }
    state = {}
    for name, tensor in ours.state_dict().items():
        if name.startswith(("_mask_pooling_proj", "class_embed", "logit_scale")):
            continue
        for layer, norm in (("self", "self_attn_layer"), ("cross", "cross_attn_layer")):
            if name.startswith(f"transformer_{layer}_attention"):
                name = name.replace(".norm.", f".{norm}_norm.")
        if name.startswith("transformer_ffn"):
            name = name.replace(".norm.", ".final_layer_norm.")
        if name.startswith("mask_embed.layers."):
            _, _, index, kind = name.split(".")
            name = f"decoder.mask_predictor.mask_embedder.{index}.0.{kind}"
        state[name] = tensor
    theirs.load_state_dict(rename(state, names))
    scales, mask_features = query_inputs()
    with torch.inference_mode():
        masks, embeddings = ours(scales, mask_features)
        expected = theirs([s[None] for s in scales], mask_features[None])
        inside = (masks > 0).float()
        pooled = torch.einsum("dhw,qhw->qd", mask_features, inside) / (inside.sum((1, 2))[:, None] + 1e-8)
        queries = expected.intermediate_hidden_states[-1][:, 0]
        in_vocabulary = ours.class_embed(ours._mask_pooling_proj(pooled) + queries)
    np.testing.assert_allclose(masks, expected.masks_queries_logits[-1][0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(embeddings, in_vocabulary, rtol=1e-3, atol=1e-3)


def test_the_order_of_the_queries_means_nothing() -> None:
    decoder = randomize(QueryDecoder(6, DIM, HEADS, feedforward=40, layers=3, clip_dim=10))
    assert isinstance(decoder, QueryDecoder)
    scales, mask_features = query_inputs()
    masks, embeddings = decoder(scales, mask_features)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for table in (decoder.query_feat, decoder.query_embed):
        table.weight.copy_(table.weight[order].clone())
    moved_masks, moved_embeddings = decoder(scales, mask_features)
    np.testing.assert_allclose(moved_masks, masks[order], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moved_embeddings, embeddings[order], rtol=1e-4, atol=1e-4)


def test_a_query_with_an_empty_mask_sees_everything() -> None:
    """All masks empty: mask features are -1 where the mask embedding is positive."""
    decoder = randomize(QueryDecoder(2, DIM, HEADS, feedforward=40, layers=2, clip_dim=10))
    assert isinstance(decoder, QueryDecoder)
    for layer in decoder.mask_embed.layers:
        layer.weight.zero_()
        layer.bias.fill_(1.0)
    scales, mask_features = query_inputs()
    masks, embeddings = decoder(scales, -mask_features.abs())
    assert bool((masks < 0).all())
    assert bool(torch.isfinite(embeddings).all())
