"""Training continues from earlier weights; a checkpoint that does not fit says why."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from ov_seg_ros.core.errors import InputError
from training.student.minkunet import MinkUNet, NetworkConfig
from training.student.start_weights import start_from, text_head

SHAPE = NetworkConfig(8, (12,), (10,), (1,), (1,))
INPUTS, WIDTH = 3, 6


def make_network(seed, outputs, shape=SHAPE, inputs=INPUTS):
    torch.manual_seed(seed)
    network = MinkUNet(shape, inputs, outputs)
    for name, buffer in network.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    return network


def write_checkpoint(path, seed=1, outputs=WIDTH):
    """As the trainer writes it, as far as weights are concerned."""
    network, average = make_network(seed, outputs), make_network(seed + 1, outputs)
    torch.save(as_state(network, average), path)
    return network, average


def as_state(network, average):
    weights = {"network": network.state_dict(), "average": average.state_dict()}
    return {**weights, "shape": asdict(SHAPE), "config": {}, "step": 1}


@pytest.mark.parametrize("averaged", [True, False])
def test_the_trunk_is_copied_and_the_head_is_fresh(tmp_path, averaged):
    network, average = write_checkpoint(tmp_path / "checkpoint.pt")
    source = (average if averaged else network).state_dict()
    student = make_network(5, 4)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    report = start_from(student, tmp_path / "checkpoint.pt", averaged)
    assert report.fresh == ("head.weight", "head.bias")
    assert set(report.copied) | set(report.fresh) == set(before)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, before[name] if name in report.fresh else source[name])
    assert "stem.norm.running_mean" in report.copied


def test_a_head_of_the_same_shape_is_copied_as_well(tmp_path):
    write_checkpoint(tmp_path / "checkpoint.pt", outputs=4)
    assert start_from(make_network(5, 4), tmp_path / "checkpoint.pt").fresh == ()


@pytest.mark.parametrize(
    ("shape", "inputs", "message"),
    [
        (SHAPE, 5, r"stem\.conv\.weight is \(27, 3, 8\) there and \(27, 5, 8\)"),
        (replace(SHAPE, decoder=(11,)), 3, r"up\.0\.conv\.weight is \(8, 12, 10\) there and \(8, 12, 11\)"),
        (
            replace(SHAPE, encoder_blocks=(2,)),
            3,
            r"encoder\.0\.1\.first\.conv\.weight is missing there and \(27, 12, 12\)",
        ),
    ],
)
def test_another_architecture_is_refused(tmp_path, shape, inputs, message):
    write_checkpoint(tmp_path / "checkpoint.pt")
    student = make_network(5, 4, shape, inputs)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(
        InputError, match=rf"checkpoint\.pt is of another network.*{message} here; use the network and point_f"
    ):
        start_from(student, tmp_path / "checkpoint.pt")
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_a_training_that_diverged_is_no_start(tmp_path):
    network, average = make_network(1, WIDTH), make_network(2, WIDTH)
    next(average.parameters()).data[0] = torch.nan
    torch.save(as_state(network, average), tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint.pt holds weights that are NaN or infinite: that training div"):
        start_from(make_network(3, WIDTH), tmp_path / "checkpoint.pt")


def test_a_deeper_checkpoint_is_refused(tmp_path):
    deeper = make_network(1, WIDTH, replace(SHAPE, encoder_blocks=(2,)))
    torch.save(as_state(deeper, deeper), tmp_path / "checkpoint.pt")
    with pytest.raises(
        InputError, match=r"encoder\.0\.1\.first\.conv\.weight is \(27, 12, 12\) there and missing here"
    ):
        start_from(make_network(5, 4), tmp_path / "checkpoint.pt")


def test_what_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(InputError, match=r"checkpoint\.pt does not exist: run the training"):
        start_from(make_network(5, 4), path)
    write_checkpoint(path)
    whole = path.read_bytes()
    for content in (b"", b"no weights", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.pt is no checkpoint of a training"):
            start_from(make_network(5, 4), path)
    torch.save({"weights": {}}, path)
    with pytest.raises(InputError, match="is no checkpoint of a training \\(it lacks network"):
        start_from(make_network(5, 4), path)


TEXTS = normalize(torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(3)), dim=1)
TEXT_CLASS = np.array([0, 1, 255, 1, 2], np.uint8)


def test_the_head_of_texts_is_the_zero_shot_classifier(tmp_path):
    _, average = write_checkpoint(tmp_path / "checkpoint.pt")
    student = make_network(5, 3)
    start_from(student, tmp_path / "checkpoint.pt")
    text_head(student, tmp_path / "checkpoint.pt", TEXTS.numpy(), TEXT_CLASS)
    trunk = torch.randn(200, 10)
    classes = torch.stack([TEXTS[0], normalize(TEXTS[1] + TEXTS[3], dim=0), TEXTS[4]])
    embedded = average.head(trunk)
    cosine = cosine_similarity(embedded[:, None], classes[None], dim=2)  # (200, 3)
    logits = student.head(trunk)
    assert torch.equal(logits.argmax(dim=1), cosine.argmax(dim=1))
    length = (average.head.weight.square().sum() + average.head.bias.square().sum()).sqrt()
    expected = cosine * embedded.norm(dim=1, keepdim=True) / length / 0.07
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    # Trunk outputs with a mean square of 1 have logits like cosines over the temperature.
    assert float((embedded.norm(dim=1).square().mean().sqrt() / length).detach()) == pytest.approx(1, abs=0.1)


def test_heads_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path)
    with pytest.raises(InputError, match=r"head of shape \(6, 10\), expected 5 outputs"):
        text_head(make_network(5, 3), path, TEXTS[:, :5].numpy(), TEXT_CLASS)
    with pytest.raises(InputError, match="classes 3, 4 of 5 have no text"):
        text_head(make_network(5, 5), path, TEXTS.numpy(), TEXT_CLASS)
    stem = {"stem": torch.ones(1)}
    torch.save({"network": stem, "average": stem, "shape": {}, "config": {}, "step": 1}, path)
    with pytest.raises(InputError, match=r"has no 'head\.weight'"):
        text_head(make_network(5, 3), path, TEXTS.numpy(), TEXT_CLASS)
