"""CAT-Seg: its CLIP, attentions and aggregation against slow references."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from tiny_cat_seg import TINY, build_network, shake  # noqa: E402

from training.teachers.cat_seg_aggregator import EXCLUDED, Aggregator  # noqa: E402
from training.teachers.cat_seg_attention import ClassAttention, SwinPair  # noqa: E402
from training.teachers.cat_seg_network import CatSegNetwork  # noqa: E402


@pytest.fixture(scope="module")
def network() -> CatSegNetwork:
    return build_network()


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
