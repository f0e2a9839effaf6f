import torch

from training.student.losses import lovasz_softmax, weighted_cross_entropy


def one_hot(labels, num_classes):
    return torch.nn.functional.one_hot(torch.tensor(labels), num_classes).float()


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
