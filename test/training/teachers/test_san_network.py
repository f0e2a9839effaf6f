"""SAN: its CLIP, side adapter and classifier against direct references."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from tiny_san import TINY, build_network  # noqa: E402

from training.teachers.open_clip_loading import build_open_clip  # noqa: E402
from training.teachers.san_network import SanNetwork, attend_with_bias  # noqa: E402
from training.teachers.san_side_adapter import SideAdapter, _Block  # noqa: E402


@pytest.fixture(scope="module")
def network() -> SanNetwork:
    return build_network()


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


def test_background_takes_part_in_the_softmax(network: SanNetwork) -> None:
    texts = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1)
    embedding = torch.nn.functional.normalize(network.ov_classifier.bg_embed, dim=-1)[None]
    logits = network.ov_classifier(embedding, texts)
    assert logits.shape == (1, 1, 4)
    assert float(logits[0, 0, 3]) == pytest.approx(float(network.ov_classifier.logit_scale.exp()), rel=1e-5)
    assert logits[0, 0].argmax() == 3
