"""Learning rates: epoch by epoch as torch's own schedule, and at the very step an epoch begins."""

import math

import pytest
import torch

from training.student.minkunet import MinkUNet, NetworkConfig
from training.student.optimization import OptimizerConfig

TINY = NetworkConfig(8, (12,), (8,), (1,), (1,))
AFOV = OptimizerConfig(kind="sgd", schedule="cosine_per_epoch")


def test_the_rate_of_an_epoch_is_that_of_torch():
    """AFOV: CosineAnnealingLR over the epochs, stepped after each of them."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    for epoch in range(30):
        rates = [AFOV.factor(step, 30 * 7, 7.0) for step in range(7 * epoch, 7 * (epoch + 1))]
        assert rates == pytest.approx(reference.get_last_lr() * 7, abs=1e-12)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize(("scans", "batch"), [(7, 3), (14, 6), (22, 10), (29, 10), (28_130, 16)])
def test_an_epoch_begins_with_the_batch_that_begins_it(scans, batch):
    """Division rounds: 35 / (7 / 3) is 14.999999999999998."""
    steps = math.ceil(30 * scans / batch)
    for step in range(steps):
        begun = step * batch // scans
        expected = (1 + math.cos(math.pi * begun * scans / batch / steps)) / 2
        assert AFOV.factor(step, steps, scans / batch) == pytest.approx(expected, abs=1e-12)


def test_one_cycle_rises_and_falls():
    rates = [OptimizerConfig(warm_up=0.1).factor(step, 100, 10) for step in range(100)]
    assert max(rates) == rates[10] == 1
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01


def test_only_the_last_layer_has_the_rate_of_the_head_and_only_matrices_decay():
    network = MinkUNet(TINY, 3, 4)
    settings = OptimizerConfig(kind="sgd", learning_rate=0.02, head_learning_rate=2.0, weight_decay=1e-4)
    groups = settings.build(network).param_groups
    names = {id(value): name for name, value in network.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found == {
        name: (2.0 if name.startswith("head.") else 0.02, 1e-4 if value.ndim > 1 else 0.0)
        for name, value in network.named_parameters()
    }
