import numpy as np
import pytest
import torch

from training.student.losses import lovasz_softmax, weighted_cross_entropy


def one_hot(labels, num_classes):
    return torch.nn.functional.one_hot(torch.tensor(labels), num_classes).float()


def lovasz_by_definition(probabilities, target):
    """The Lovász extension of the Jaccard loss: its mean over all thresholds of the error."""
    losses = []
    for c in np.unique(target):
        foreground = target == c
        error = np.abs(foreground - probabilities[:, c])
        steps = np.unique(np.append(error, 0))
        wrong = error >= steps[1:, None]
        hits, union = (foreground & ~wrong).sum(axis=1), (foreground | wrong).sum(axis=1)
        losses.append(np.sum(np.diff(steps) * (1 - hits / union)))
    return np.mean(losses)


@pytest.mark.parametrize("seed", range(20))
def test_lovasz_is_its_definition(seed):
    """Random scans, one class alone, classes that are absent, and equal errors."""
    rng = np.random.default_rng(seed)
    count, classes = int(rng.integers(1, 40)), int(rng.integers(1, 7))
    logits = np.round(rng.normal(size=(count, classes)) * 3, 0 if seed % 2 else 9)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = rng.integers(0, classes, count) if seed % 3 else np.full(count, classes - 1)
    loss = lovasz_softmax(torch.from_numpy(probabilities), torch.from_numpy(target))
    assert float(loss) == pytest.approx(lovasz_by_definition(probabilities, target), abs=1e-6)


def test_gradients_are_those_of_differences():
    torch.manual_seed(0)
    logits = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    target, weight = torch.randint(0, 3, (12,)), torch.rand(12, dtype=torch.float64)
    class_weight = torch.rand(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: weighted_cross_entropy(x, target, weight, class_weight), (logits,))
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x.softmax(1), target), (logits,), eps=1e-7, atol=1e-5)


def test_cross_entropy_with_class_weights_is_that_of_torch():
    torch.manual_seed(1)
    logits, target, class_weight = torch.randn(50, 5), torch.randint(0, 5, (50,)), torch.rand(5)
    expected = torch.nn.functional.cross_entropy(logits, target, class_weight)
    torch.testing.assert_close(weighted_cross_entropy(logits, target, torch.ones(50), class_weight), expected)


def test_lovasz_of_hard_predictions_is_one_minus_the_mean_iou():
    target = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted = one_hot([0, 0, 1, 1, 1, 0], 4)
    # class 0: 2 of 4, class 1: 2 of 3, class 2: 0 of 1; class 3 is absent and does not count
    expected = 1 - (2 / 4 + 2 / 3 + 0) / 3
    torch.testing.assert_close(lovasz_softmax(predicted, target), torch.tensor(expected))


def test_lovasz_of_a_perfect_or_empty_prediction_is_zero():
    assert lovasz_softmax(one_hot([0, 1], 2), torch.tensor([0, 1])) == 0
    assert lovasz_softmax(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)) == 0


def test_lovasz_pushes_towards_the_target():
    logits = torch.zeros(4, 3, requires_grad=True)
    lovasz_softmax(logits.softmax(1), torch.tensor([0, 1, 2, 2])).backward()
    assert (logits.grad[[0, 1, 2, 3], [0, 1, 2, 2]] < 0).all()


def test_cross_entropy_counts_weights():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, -5.0]])
    target = torch.tensor([0, 0, 1])
    per_voxel = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    weight, class_weight = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([2.0, 3.0])
    expected = (per_voxel[0] * 2 + per_voxel[1]) / 3
    torch.testing.assert_close(weighted_cross_entropy(logits, target, weight, class_weight), expected)
