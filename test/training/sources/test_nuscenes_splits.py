"""Splits of nuScenes: their exact scenes, and the subsets that SLidR and AFOV train on."""

import hashlib
import json

import pytest

from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.nuscenes_splits import NuScenesSelection, scenes_of_split, version_of_split

# sha256 of the sorted scene names, one per line, of create_splits_scenes() of nuscenes-devkit d9de17a and of
# CUSTOM_SPLIT of SLidR 14729d0
OFFICIAL = {
    "train": ("v1.0-trainval", 700, "182d90e54953d7b067e5488298daef0c46fcb51c8aecddd40f8e3f64934fbdd5"),
    "val": ("v1.0-trainval", 150, "9c6d87239035bbd37818497915c95f6df980f62ffdb7dbcf1e527b997b74dc65"),
    "test": ("v1.0-test", 150, "9e0f5aba17a92e175ff0ff233494b1bba57077627d07d64c94c8983a6b6cf9b1"),
    "mini_train": ("v1.0-mini", 8, "c849f160715c4c6f417e8595bd97978dda65bbacb6da8fbf8a0a3233e676c2c8"),
    "mini_val": ("v1.0-mini", 2, "12657200a28a6a68f33613640947e7d1a2804e4e54c2ffc53c43d6bcbd8ddd75"),
    "verifying": ("v1.0-trainval", 100, "f51e524c7ee388b318be6ce48d5494f4dcec0b93ccb55bb5e882479a41177fe4"),
}


@pytest.mark.parametrize("split", OFFICIAL)
def test_the_scenes_are_the_official_ones(split, tmp_path):
    version, count, digest = OFFICIAL[split]
    names = scenes_of_split(split, tmp_path / version)
    assert (version_of_split(split), len(names)) == (version, count)
    assert hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest() == digest


def test_the_splits_fit_together(tmp_path):
    trainval = tmp_path / "v1.0-trainval"
    train, val, verifying, parametrizing = (
        scenes_of_split(s, trainval) for s in ("train", "val", "verifying", "parametrizing")
    )
    test = scenes_of_split("test", tmp_path / "v1.0-test")
    assert len(train | val | test) == 1000
    assert verifying < train
    assert parametrizing == train - verifying
    assert len(parametrizing) == 600
    assert version_of_split("parametrizing") == "v1.0-trainval"
    mini = scenes_of_split("mini_train", tmp_path / "v1.0-mini") | scenes_of_split("mini_val", tmp_path / "v1.0-mini")
    assert len(mini) == 10
    assert mini < train | val


def test_one_percent_is_every_hundredth_scene_in_the_order_of_the_table(tmp_path):
    """SLidR counts the scenes of the split from 1 and keeps those whose count 100 divides: 7 of 700."""
    version = tmp_path / "v1.0-trainval"
    train = sorted(scenes_of_split("train", version), reverse=True)  # the order of the table, not of the names
    val = sorted(scenes_of_split("val", version))
    table = [name for pair in zip(train[:150], val, strict=True) for name in pair] + train[150:]
    chosen = [table[i] for i in NuScenesSelection("train", skip=100).choose(table, version)]
    assert chosen == [train[i] for i in (99, 199, 299, 399, 499, 599, 699)]
    assert len(NuScenesSelection("train", skip=10).choose(table, version)) == 70
    assert len(NuScenesSelection("val").choose(table, version)) == 150


def test_scenes_can_be_named(tmp_path):
    table = ["scene-0003", "scene-0001", "scene-0002"]
    mini = tmp_path / "v1.0-mini"
    assert NuScenesSelection().choose(table, mini) == [0, 1, 2]
    assert NuScenesSelection(scenes=("scene-0002", "scene-0003")).choose(table, mini) == [0, 2]
    trainval = tmp_path / "v1.0-trainval"
    assert NuScenesSelection("train", ("scene-0002",)).choose(table, trainval) == [2]
    with pytest.raises(InputError, match=r"scene-0003 is no scene of split train of v1.0-trainval"):
        NuScenesSelection("train", ("scene-0003",)).choose(table, trainval)
    with pytest.raises(InputError, match="none of 2 scenes is left with split train, skip 3"):
        NuScenesSelection("train", skip=3).choose(table, trainval)


def test_splits_of_ones_own(tmp_path):
    version = tmp_path / "v1.0-trainval"
    version.mkdir()
    (version / "splits.json").write_text(json.dumps({"rain": ["scene-0001"]}))
    assert scenes_of_split("rain", version) == {"scene-0001"}
    with pytest.raises(InputError, match=r"has no split 'snow'; known: train, val, .*parametrizing, rain"):
        scenes_of_split("snow", version)
    (version / "splits.json").write_text("{")
    with pytest.raises(InputError, match=r"splits.json: expected"):
        scenes_of_split("rain", version)


def test_names_differ_between_selections():
    selections = [
        NuScenesSelection(),
        NuScenesSelection("train"),
        NuScenesSelection("train", skip=100),
        NuScenesSelection("val"),
        NuScenesSelection("train", ("scene-0001",)),
        NuScenesSelection(scenes=("scene-0001",)),
        NuScenesSelection(scenes=("scene-0001", "scene-0002")),
        NuScenesSelection(scenes=("scene-0001", "scene-0003")),
    ]
    names = [s.name("v1.0-mini") for s in selections]
    assert len(set(names)) == len(names)
    assert names[:3] == ["nuscenes_v1.0-mini", "nuscenes_train", "nuscenes_train_skip100"]
    assert names[5] == "nuscenes_scene-0001"
    assert NuScenesSelection(scenes=("b", "a")).name("v") == NuScenesSelection(scenes=("a", "b")).name("v")


def test_wrong_selections(tmp_path):
    with pytest.raises(ConfigError, match="skip must be 1"):
        NuScenesSelection(skip=0)
    with pytest.raises(ConfigError, match="scenes must differ, got a a"):
        NuScenesSelection(scenes=("a", "a"))
    with pytest.raises(InputError, match=r"split train belongs to v1.0-trainval, got .*v1.0-mini"):
        NuScenesSelection("train").choose(["scene-0061"], tmp_path / "v1.0-mini")
