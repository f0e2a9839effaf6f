"""The losses of TMP against numbers worked out by hand and against plain loops over the printed formulas."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from ov_seg_ros.core.errors import ConfigError
from training.student.contrast import (
    ContrastConfig,
    ContrastLoss,
    image_contrast,
    pool_superpoints,
    soft_text_labels,
    text_contrast_printed,
    text_contrast_released,
)

CONFIG = ContrastConfig()


def unit_rows(count, width, seed):
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_superpoints_are_means_over_their_pairs():
    voxels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    pair_voxel, pair_segment = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 0, 2])
    pooled = pool_superpoints(voxels, pair_voxel, pair_segment, 3)
    torch.testing.assert_close(pooled, torch.tensor([[1 / 3, 2 / 3], [0.0, 0.0], [-1.0, 0.0]]))


def test_gradients_of_superpoints_are_those_of_differences():
    voxels = unit_rows(4, 3, 0).double().requires_grad_()
    pair_voxel, pair_segment = torch.tensor([0, 1, 1, 3, 0]), torch.tensor([0, 0, 0, 2, 2])
    assert torch.autograd.gradcheck(lambda x: pool_superpoints(x, pair_voxel, pair_segment, 4), (voxels,))


def test_image_contrast_by_hand():
    """Two superpoints; similarities 1 and 0 to their own and the other's segment, and 0.6 and 0.8."""
    points, images = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    tau = 0.5
    by_point = [-math.log(math.exp(2) / (math.exp(2) + 1)), -math.log(math.exp(1.6) / (math.exp(1.2) + math.exp(1.6)))]
    by_image = [
        -math.log(math.exp(2) / (math.exp(2) + math.exp(1.2))),
        -math.log(math.exp(1.6) / (1 + math.exp(1.6))),
    ]
    config = replace(CONFIG, temperature=tau)
    assert float(image_contrast(points, images, config)) == pytest.approx(sum(by_point) / 2, rel=1e-5)
    config = replace(config, anchor="image")
    assert float(image_contrast(points, images, config)) == pytest.approx(sum(by_image) / 2, rel=1e-5)


def test_soft_labels_by_hand():
    """Texts 0 and 1 share a group with cosine 0.6; text 2 is alone."""
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
    label = soft_text_labels(texts, torch.tensor([0, 0, 1]), 0.2)
    own, other = 1.0 / 1.48, 0.48 / 1.48  # 0.2 + 0.8 * 1, and 0.8 * 0.6
    torch.testing.assert_close(label, torch.tensor([[own, other, 0], [other, own, 0], [0, 0, 1.0]]))


def test_the_released_text_loss_is_least_at_its_label():
    texts = torch.eye(3)
    label = torch.tensor([[0.7, 0.3, 0.0]])
    tau = 0.07
    # Similarities whose softmax is the label: the loss is then the label's entropy.
    points = (torch.log(label.clamp(min=1e-12)) * tau) @ torch.linalg.inv(texts.T)
    entropy = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3))
    assert float(text_contrast_released(points, texts, label, tau)) == pytest.approx(entropy, rel=1e-4)
    assert float(text_contrast_released(texts[:1], texts, label, tau)) > entropy


def released_by_loops(points, texts, text_id, group, tau, own):
    total = 0.0
    for point, y in zip(points, text_id.tolist(), strict=True):
        target = [
            own * (j == y) + (1 - own) * max(float(texts[y] @ texts[j]), 0) * bool(group[j] == group[y])
            for j in range(len(texts))
        ]
        logits = [float(text @ point) / tau for text in texts]
        normalizer = math.log(sum(map(math.exp, logits)))
        total -= sum(t / sum(target) * (value - normalizer) for t, value in zip(target, logits, strict=True))
    return total / len(points)


def image_by_loops(points, images, tau, anchor):
    total = 0.0
    for i in range(len(points)):
        asked = images @ points[i] if anchor == "point" else points @ images[i]
        others = asked.tolist()
        total -= math.log(math.exp(others[i] / tau) / sum(math.exp(value / tau) for value in others))
    return total / len(points)


@pytest.mark.parametrize("text_loss", ["released", "printed"])
@pytest.mark.parametrize(("anchor", "normalized"), [("point", False), ("image", True)])
@pytest.mark.parametrize("count", [1, 9])
def test_the_loss_equals_plain_loops_with_its_gradient(text_loss, anchor, normalized, count):
    texts, group = unit_rows(6, 5, 1).double(), torch.tensor([0, 0, 0, 1, 1, 2])
    points, images = 0.7 * unit_rows(count, 5, 2).double(), 3 * unit_rows(count, 5, 3).double()
    text_id = torch.tensor([0, 0, 1, 2, 3, 3, 5, 4, 1])[:count]
    config = ContrastConfig(0.3, 0.4, 0.6, anchor, text_loss, 0.2, normalized)
    loss = ContrastLoss(config, texts, group)
    used = normalize(points, dim=1) if normalized else points
    expected = 0.4 * image_by_loops(used, normalize(images, dim=1), 0.3, anchor)
    if text_loss == "released":
        expected += 0.6 * released_by_loops(used, texts, text_id, group, 0.3, 0.2)
    else:
        expected += 0.6 * printed_by_loops(used, texts, text_id, group, 0.3)
    assert float(loss(points, images, text_id)[0]) == pytest.approx(float(expected), rel=1e-9)
    assert torch.autograd.gradcheck(lambda x: loss(x, images, text_id)[0], (points.requires_grad_(),))


def printed_by_loops(points, texts, text_id, group, tau):
    total = 0.0
    for i in range(len(points)):
        t = texts[text_id[i]]
        positive = math.exp(float(t @ points[i]) / tau)
        negatives = 0.0
        for j in range(len(points)):
            if text_id[j] == text_id[i]:
                continue
            similarity = float(t @ points[j])
            alpha = similarity if group[text_id[j]] == group[text_id[i]] else 0.0
            negatives += math.exp((1 - alpha) * similarity / tau)
        total -= math.log(positive / (positive + negatives))
    return total / len(points)


def test_the_printed_text_loss_is_equation_2():
    points, texts = unit_rows(7, 5, 0), unit_rows(4, 5, 1)
    text_id, group = torch.tensor([0, 0, 1, 2, 3, 3, 1]), torch.tensor([0, 0, 1, 1])
    expected = printed_by_loops(points, texts, text_id, group, 0.3)
    assert float(text_contrast_printed(points, texts, text_id, group, 0.3)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("text_loss", ["released", "printed"])
def test_the_terms_are_weighted(text_loss):
    points, images, texts = unit_rows(6, 8, 2), unit_rows(6, 8, 3), unit_rows(5, 8, 4)
    text_id, group = torch.tensor([0, 1, 2, 3, 4, 4]), torch.tensor([0, 0, 1, 1, 2])
    config = replace(CONFIG, image_weight=0.25, text_weight=2.0, text_loss=text_loss)
    loss, terms = ContrastLoss(config, texts, group)(points, images, text_id)
    assert float(loss) == pytest.approx(0.25 * float(terms["image_contrast"]) + 2 * float(terms["text_contrast"]))
    alone, only = ContrastLoss(replace(config, text_weight=0.0), texts, group)(points, images, text_id)
    assert set(only) == {"image_contrast"}
    assert float(alone) == pytest.approx(0.25 * float(terms["image_contrast"]))


def test_superpoints_of_the_released_code_keep_their_length():
    points, images, texts = 0.5 * unit_rows(3, 4, 5), unit_rows(3, 4, 6), unit_rows(2, 4, 7)
    text_id, group = torch.tensor([0, 1, 0]), torch.tensor([0, 1])
    kept, _ = ContrastLoss(replace(CONFIG, normalize_superpoints=False), texts, group)(points, images, text_id)
    unit, _ = ContrastLoss(CONFIG, texts, group)(points, images, text_id)
    warmer, _ = ContrastLoss(replace(CONFIG, temperature=0.14), texts, group)(2 * points, images, text_id)
    assert float(kept) == pytest.approx(float(warmer), rel=1e-5)  # half the length is twice the temperature
    assert float(kept) != pytest.approx(float(unit), rel=1e-3)


def test_a_scan_without_superpoints_teaches_nothing():
    loss, terms = ContrastLoss(CONFIG, unit_rows(2, 4, 8), torch.tensor([0, 1]))(
        torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    )
    loss.backward()
    assert (float(loss.detach()), terms) == (0.0, {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_loss": "paper"}, "text_loss must be one of released, printed, got 'paper'"),
        ({"anchor": "text"}, "anchor must be one of point, image, got 'text'"),
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"image_weight": 0.0, "text_weight": 0.0}, "nothing to learn"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ContrastConfig(**settings)
