"""Released FC-CLIP checkpoints: names and shapes pinned, strict loading."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch

from ov_seg_ros.core.errors import ConfigError, ModelError
from training.teachers.detectron2_checkpoint import fill, read_detectron2
from training.teachers.fc_clip_network import ClipBackbone, FcClipArchitecture, FcClipNetwork
from training.teachers.open_clip_loading import build_open_clip

TABLE = Path(__file__).with_name("fc_clip_released_parameters.txt")

RELEASE = "fcclip_cocopan.pth from bytedance/fc-clip"


def released_parameters() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for line in TABLE.read_text().splitlines():
        if not line.startswith("#"):
            _, pattern, shape = line.split()
            for name in expand(pattern):
                assert name not in found, name
                found[name] = () if shape == "scalar" else tuple(map(int, shape.split("x")))
    return found


def expand(pattern: str) -> Iterator[str]:
    """a.0-2.weight,bias -> a.0.weight, a.0.bias, a.1.weight, ..."""
    choices = []
    for part in pattern.split("."):
        first, dash, last = part.partition("-")
        span = dash and first.isdigit() and last.isdigit()
        choices.append([str(i) for i in range(int(first), int(last) + 1)] if span else part.split(","))
    yield from (".".join(parts) for parts in product(*choices))


@pytest.fixture(scope="module")
def released() -> FcClipNetwork:
    """The network of the release, without memory for its weights."""
    pytest.importorskip("open_clip")
    with torch.device("meta"):
        return FcClipNetwork(build_open_clip("convnext_large_d_320"), FcClipArchitecture())


def test_the_network_has_exactly_the_parameters_of_the_release(released: FcClipNetwork) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in released.state_dict().items()}
    pinned = released_parameters()
    assert sorted(set(own) - set(pinned)) == []
    assert sorted(set(pinned) - set(own)) == []
    assert {name: shape for name, shape in own.items() if pinned[name] != shape} == {}


def test_the_backbone_is_as_large_as_published(released: FcClipNetwork) -> None:
    count = {part: sum(p.numel() for p in module.parameters()) for part, module in released.named_children()}
    assert count["backbone"] == 351_772_609  # 351.77 M, the figure open_clip publishes for convnext_large_d_320
    assert released.backbone.channels == [192, 384, 768, 1536]
    assert released.backbone.dim == 768


def small() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))


def test_reads_the_layout_of_detectron2_and_leaves_out_the_loss(tmp_path: Path) -> None:
    state = {**small().state_dict(), "criterion.empty_weight": torch.ones(134)}
    torch.save({"model": state, "iteration": 368749, "optimizer": {"state": {}}}, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        assert sorted(read_detectron2(tmp_path / name, RELEASE, ("criterion.",))) == [
            "0.bias",
            "0.weight",
            "1.bias",
            "1.weight",
        ]


def test_filling_copies_every_tensor() -> None:
    source, target = small(), small()
    fill(target, source.state_dict(), "x")
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_every_mismatch_is_named_and_nothing_is_copied() -> None:
    target = small()
    before = target[1].weight.clone()
    state = {**small().state_dict(), "2.weight": torch.ones(1), "0.weight": torch.ones(4, 2)}
    del state["1.bias"]
    with pytest.raises(ModelError) as error:
        fill(target, state, "some.pth")
    message = str(error.value)
    assert "some.pth does not fit the network" in message
    assert "1 names missing: 1.bias" in message
    assert "1 names unexpected: 2.weight" in message
    assert "0.weight (file (4, 2), network (3, 2))" in message
    assert torch.equal(target[1].weight, before)


def test_long_lists_are_cut_after_three() -> None:
    with pytest.raises(ModelError, match=r"4 names missing: 0.weight, 0.bias, 1.weight and 1 more"):
        fill(small(), {}, "x")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pth does not exist; download fcclip_cocopan"):
        read_detectron2(tmp_path / "none.pth", RELEASE, ("criterion.",))
    torch.save({"model": small().state_dict()}, tmp_path / "whole.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes((tmp_path / "whole.pth").read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"cut\.pth cannot be read, is the download complete"):
        read_detectron2(cut, RELEASE, ("criterion.",))
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=r"empty\.pth cannot be read"):
        read_detectron2(tmp_path / "empty.pth", RELEASE, ("criterion.",))
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pth")
    with pytest.raises(ModelError, match="expected"):
        read_detectron2(tmp_path / "numbers.pth", RELEASE, ("criterion.",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(ModelError, match=r"evil\.pth cannot be read"):
        read_detectron2(tmp_path / "evil.pth", RELEASE, ("criterion.",))


def test_other_clip_models_are_refused() -> None:
    pytest.importorskip("open_clip")
    with pytest.raises(ConfigError, match="no model 'convnext_huge'"):
        build_open_clip("convnext_huge")
    with torch.device("meta"), pytest.raises(ConfigError, match="ConvNeXt of timm as image tower, got"):
        ClipBackbone(build_open_clip("ViT-B-32"))


def test_architectures_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(ConfigError, match="dim must be a multiple of 32"):
        FcClipArchitecture(dim=48)
    with pytest.raises(ConfigError, match="queries must be at least 1"):
        FcClipArchitecture(queries=0)
