"""The value path against NumPy, against open_clip's own forward pass, and over windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.errors import ConfigError, InputError, ModelError

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from scipy.special import erf  # noqa: E402

from training.teachers import clip_image  # noqa: E402
from training.teachers.dense_clip import DenseClip, resize_positions  # noqa: E402

WIDTH, HEADS, PATCH, SIDE, DIM = 24, 2, 8, 32, 10


def tiny_tower(**options: Any) -> Any:
    torch.manual_seed(0)
    tower = open_clip.transformer.VisionTransformer(
        image_size=SIDE, patch_size=PATCH, width=WIDTH, layers=3, heads=HEADS, mlp_ratio=2.0, output_dim=DIM, **options
    ).eval()
    for parameter in tower.parameters():  # biases and norms are born as zeros and ones and would hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return tower.requires_grad_(False)


def pixels(height: int = SIDE, width: int = SIDE, seed: int = 1) -> Any:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def weights(module: Any, *names: str) -> list[np.ndarray]:
    return [module.get_parameter(name).detach().double().numpy() for name in names]


def numpy_value_path(tower: Any, x: np.ndarray) -> np.ndarray:
    """(L, K) tokens before the last block to (L, D), from the weights alone."""

    def norm(values: np.ndarray, name: str) -> np.ndarray:
        scale, shift = weights(tower, f"{name}.weight", f"{name}.bias")
        centred = values - values.mean(1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * scale + shift

    last = f"transformer.resblocks.{len(tower.transformer.resblocks) - 1}"
    packed, packed_bias = weights(tower, f"{last}.attn.in_proj_weight", f"{last}.attn.in_proj_bias")
    out, out_bias = weights(tower, f"{last}.attn.out_proj.weight", f"{last}.attn.out_proj.bias")
    first, first_bias = weights(tower, f"{last}.mlp.c_fc.weight", f"{last}.mlp.c_fc.bias")
    second, second_bias = weights(tower, f"{last}.mlp.c_proj.weight", f"{last}.mlp.c_proj.bias")
    value = norm(x, f"{last}.ln_1") @ packed[2 * WIDTH :].T + packed_bias[2 * WIDTH :]
    x = x + value @ out.T + out_bias
    hidden = norm(x, f"{last}.ln_2") @ first.T + first_bias
    hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
    x = x + hidden @ second.T + second_bias
    return norm(x, "ln_post") @ weights(tower, "proj")[0]


def test_the_value_path_follows_from_the_weights() -> None:
    tower = tiny_tower()
    with torch.inference_mode():
        image = pixels()
        before = tower.forward_intermediates(
            image, indices=[len(tower.transformer.resblocks) - 2], output_fmt="NLC", intermediates_only=True
        )["image_intermediates"][0][0]
        dense = DenseClip.wrap(tower).encode(image)
    expected = numpy_value_path(tower, before.double().numpy()).reshape(SIDE // PATCH, SIDE // PATCH, DIM)
    np.testing.assert_allclose(dense.features[0].numpy(), expected, atol=2e-5)
    assert dense.keys.shape == (1, SIDE // PATCH, SIDE // PATCH, WIDTH)


@pytest.mark.parametrize("options", [{}, {"ls_init_value": 0.3}, {"no_ln_pre": True}, {"final_ln_after_pool": True}])
def test_if_every_token_attends_to_itself_alone_it_is_the_normal_path(options: dict[str, Any]) -> None:
    tower = tiny_tower(**options)
    image = pixels(40, 56)
    tokens = 1 + 5 * 7
    alone = torch.full((tokens, tokens), -torch.inf).fill_diagonal_(0.0)
    with torch.inference_mode():
        x = tower.ln_pre(DenseClip.wrap(tower)._embed(image))
        *blocks, last = tower.transformer.resblocks
        for block in blocks:
            x = block(x)
        normal = tower.ln_post(last(x, attn_mask=alone)) @ tower.proj
        dense = DenseClip.wrap(tower).encode(image)
    np.testing.assert_allclose(dense.features.flatten(1, 2).numpy(), normal[:, 1:].numpy(), atol=1e-5)


def test_with_identical_tokens_the_dense_path_is_the_global_embedding() -> None:
    """Attention over equal tokens returns their common value, so CLIP's own output must come out everywhere."""
    tower = tiny_tower()
    tower.conv1.weight.data.zero_()
    tower.positional_embedding.data[:] = tower.positional_embedding.data[:1]
    tower.class_embedding.data.zero_()
    with torch.inference_mode():
        dense = DenseClip.wrap(tower).encode(pixels())
        whole = tower(pixels())
    np.testing.assert_allclose(dense.features[0].flatten(0, 1).numpy(), whole.repeat(16, 1).numpy(), atol=1e-5)


def test_a_cell_does_not_see_the_others_in_the_last_block() -> None:
    tower = tiny_tower()
    tower.transformer.resblocks = tower.transformer.resblocks[-1:]
    image, other = pixels(), pixels()
    other[:, :, :PATCH, :PATCH] += 1.0
    clip = DenseClip.wrap(tower)
    with torch.inference_mode():
        difference = (clip.encode(image).features - clip.encode(other).features).abs().amax(-1)[0]
    assert difference[0, 0] > 1e-3
    assert difference.flatten()[1:].max() == 0


def test_a_resnet_projects_values_without_pooling() -> None:
    torch.manual_seed(0)
    tower = open_clip.modified_resnet.ModifiedResNet(
        layers=(1, 1, 1, 1), output_dim=DIM, heads=4, image_size=64, width=4
    ).eval()
    clip = DenseClip.wrap(tower)
    with torch.inference_mode():
        dense = clip.encode(pixels(64, 96))
        trunk = tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(pixels(64, 96))))))[0]
    value, value_bias, out, out_bias = weights(
        tower.attnpool, "v_proj.weight", "v_proj.bias", "c_proj.weight", "c_proj.bias"
    )
    expected = (trunk.double().permute(1, 2, 0).numpy() @ value.T + value_bias) @ out.T + out_bias
    assert dense.features.shape == (1, 2, 3, DIM)
    assert clip.cell == 32
    assert dense.keys.shape[-1] == clip.key_dim
    np.testing.assert_allclose(dense.features[0].numpy(), expected, atol=1e-5)


def test_positions_are_kept_at_their_own_size_and_resized_smoothly_otherwise() -> None:
    row, column = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    positions = torch.cat([torch.tensor([[7.0, 9.0]]), torch.stack([row.flatten(), column.flatten()], 1)])
    assert resize_positions(positions, (6, 8), (6, 8)) is positions
    resized = resize_positions(positions, (6, 8), (12, 16))
    assert resized.shape == (1 + 12 * 16, 2)
    np.testing.assert_array_equal(resized[0], [7.0, 9.0])
    inner = resized[1:].view(12, 16, 2)[4, 4]  # at row and column 1.75, cubic convolution with a = -0.75
    near, far = 0.25, 0.75
    weight = [cubic(1 + far), cubic(far), cubic(near), cubic(1 + near)]
    assert sum(weight) == pytest.approx(1.0)
    np.testing.assert_allclose(inner, np.dot(weight, [0, 1, 2, 3]), atol=1e-5)


def cubic(x: float, a: float = -0.75) -> float:
    """Kernel of cubic convolution (Keys 1981)."""
    return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * (x**3 - 5 * x**2 + 8 * x - 4)


@pytest.mark.parametrize(
    ("tower", "reason"),
    [
        (torch.nn.Identity(), "VisionTransformer"),
        (tiny_tower(attentional_pool=True, attn_pooler_heads=2), "without attention pooling"),
        (tiny_tower(scale_attn_inner=True), "MultiheadAttention"),
    ],
)
def test_towers_without_a_value_path_are_refused(tower: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        DenseClip.wrap(tower)


def test_images_must_be_whole_cells() -> None:
    with pytest.raises(InputError, match="multiples of 8"):
        DenseClip.wrap(tiny_tower()).encode(pixels(32, 33))


# Windows and preparation


def test_one_window_over_everything_is_the_whole_image() -> None:
    clip = DenseClip.wrap(tiny_tower())
    with torch.inference_mode():
        whole = clip_image.encode_windows(clip, pixels(40, 48), 0, 0)
        window = clip_image.encode_windows(clip, pixels(40, 48), 64, 32)
    torch.testing.assert_close(window, whole)
    np.testing.assert_allclose(whole.features.norm(dim=-1), 1.0, atol=1e-5)


def test_overlapping_windows_are_averaged() -> None:
    clip = DenseClip.wrap(tiny_tower())
    image = pixels(16, 40)  # 2 x 5 cells; windows of 2 x 3 at columns 0 and 2
    with torch.inference_mode():
        found = clip_image.encode_windows(clip, image, 24, 24)
        left = clip_image.encode_windows(clip, image[..., :24], 0, 0)
        right = clip_image.encode_windows(clip, image[..., 16:], 0, 0)
    for name in ("features", "keys"):
        torch.testing.assert_close(getattr(found, name)[:, :, :2], getattr(left, name)[:, :, :2])
        torch.testing.assert_close(getattr(found, name)[:, :, 3:], getattr(right, name)[:, :, 1:])
        both = (getattr(left, name)[:, :, 2] + getattr(right, name)[:, :, 0]) / 2
        torch.testing.assert_close(getattr(found, name)[:, :, 2], both)


@pytest.mark.parametrize(("window", "stride"), [(20, 8), (24, 12), (24, 0), (16, 24)])
def test_windows_must_be_whole_cells_without_gaps(window: int, stride: int) -> None:
    with pytest.raises(ConfigError, match="multiples of the 8 pixels"):
        clip_image.check_windows(window, stride, 8)


@pytest.mark.parametrize(
    ("size", "short_side", "cell", "expected"),
    [((900, 1600), 512, 16, (512, 912)), ((1600, 900), 512, 16, (912, 512)), ((900, 1600), 0, 16, (896, 1600)),
     ((5, 5), 0, 16, (16, 16))],
)  # fmt: skip
def test_images_are_resized_to_whole_cells(
    size: tuple[int, int], short_side: int, cell: int, expected: tuple[int, int]
) -> None:
    assert clip_image.cell_size(size, short_side, cell) == expected


def test_pixels_are_normalised_channel_by_channel() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 1] = 255
    prepared = clip_image.prepare_image(image, (8, 8), (0.5, 0.25, 0.0), (1.0, 0.5, 2.0))
    assert prepared.shape == (3, 8, 8)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared[:, 3, 3], [-0.5, 1.5, 0.0])
