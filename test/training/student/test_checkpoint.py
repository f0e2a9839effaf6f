"""Checkpoints: what was written comes back, and what is none is refused by name."""

import os
from pathlib import Path

import pytest
import torch

from ov_seg_ros.core.errors import InputError
from training.atomic_files import StorageFullError
from training.student.checkpoint import KEYS, load_checkpoint, save_checkpoint

STATE = {"network": {"w": torch.arange(3.0)}, "average": {}, "shape": {}, "config": {"steps": 3}, "step": 2}


def test_round_trip(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", STATE)
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert found["step"] == 2
    assert found["config"] == {"steps": 3}
    assert found["network"]["w"].tolist() == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(InputError, match="does not exist: run the training it comes from first"):
        load_checkpoint(path)
    save_checkpoint(path, STATE)
    whole = path.read_bytes()
    for content in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.pt is no checkpoint of a training .*delete it"):
            load_checkpoint(path)
    for key in KEYS:
        save_checkpoint(path, {k: v for k, v in STATE.items() if k != key})
        with pytest.raises(InputError, match=f"it lacks {key}"):
            load_checkpoint(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named_and_the_old_checkpoint_stays(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    os.symlink("/dev/full", tmp_path / "checkpoint.pt.part")
    with pytest.raises(StorageFullError, match=r"checkpoint\.pt"):
        save_checkpoint(path, {**STATE, "step": 3})
    assert load_checkpoint(path)["step"] == 2
