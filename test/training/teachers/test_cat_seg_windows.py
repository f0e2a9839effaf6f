"""CAT-Seg's sliding window against unfold and fold."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from tiny_cat_seg import WINDOW  # noqa: E402

from ov_seg_ros.core.errors import ConfigError  # noqa: E402
from training.teachers.cat_seg_windows import SlidingWindow, predict_in_windows  # noqa: E402


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
