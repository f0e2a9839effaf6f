"""S3DIS and prepared indoor scenes: rooms, areas, annotations, damaged lines, binary layouts, the real samples."""

import os
from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.errors import InputError
from training.sources.indoor_bins import IndoorBins, is_indoor_bins
from training.sources.s3dis import S3dis, is_s3dis, load_annotation

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
REAL = SHARED / "data" / "scannet" / "tiny_labelled"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="needs shared/data/scannet")

POINTS = np.array([[10, 20, 1, 255, 0, 9], [14, 22, 3, 0, 128, 9], [12, 21, 1, 1, 2, 3]], "<f4")


def write_room(area, name="office_1", files=None):
    folder = area / name / "Annotations"
    folder.mkdir(parents=True)
    files = files or {
        "ceiling_1": "14.0 22.0 3.0 0 128 9\n",
        "chair_10": "12.0 21.0 1.0 1 2 3\n10.0 20.0 1.0 255 0 9\n",
        "stairs_1": "11 21 1 4 5 6\n",
    }
    for stem, text in files.items():
        (folder / f"{stem}.txt").write_text(text)
    (folder / "Icon").write_text("")
    (area / name / f"{name}.txt").write_text("".join(files.values()))
    return folder.parent


def test_a_room(tmp_path):
    room = write_room(tmp_path / "Area_1")
    source = S3dis(room)
    assert (len(source), source.name, source.label_space.name) == (1, "s3dis", "s3dis13")
    sample = source.load_sample(0)
    assert sample.key == "s3dis/Area_1_office_1"
    names = [source.label_space.class_names[i] for i in sample.class_id]
    assert names == ["ceiling", "chair", "chair", "clutter"]  # stairs are clutter
    np.testing.assert_allclose(sample.cloud.points, [[2, 1, 2], [0, 0, 0], [-2, -1, 0], [-1, 0, 0]])
    np.testing.assert_allclose(sample.world_from_lidar[:3, 3], [12, 21, 1])
    assert sample.images == ()
    fields = source.load_scan_fields(0)
    assert fields["instance_id"].tolist() == [1, 2, 2, 3]
    assert fields["green"].tolist() == [128, 2, 0, 5]


def test_the_data_set_its_areas_and_its_rooms_are_recognised(tmp_path):
    for area, name in (("Area_1", "office_1"), ("Area_1", "hallway_2"), ("Area_5", "office_1")):
        write_room(tmp_path / area, name)
    assert all(is_s3dis(p) for p in (tmp_path, tmp_path / "Area_1", tmp_path / "Area_1" / "office_1"))
    assert not is_s3dis(tmp_path.parent)
    assert [len(S3dis(p)) for p in (tmp_path, tmp_path / "Area_1", tmp_path / "Area_1" / "office_1")] == [3, 2, 1]
    source = S3dis(tmp_path, areas=(5,))
    assert [source.load_sample(i).key for i in range(len(source))] == ["s3dis/Area_5_office_1"]
    with pytest.raises(InputError, match="no rooms of areas 2, 3; it holds Area_1, Area_5"):
        S3dis(tmp_path, areas=(2, 3))
    with pytest.raises(InputError, match="holds no S3DIS room"):
        S3dis(tmp_path / "nothing")


def test_damaged_lines_are_named(tmp_path):
    path = tmp_path / "ceiling_1.txt"
    path.write_bytes(b"1 2 3 4 5 6\n1 2 3 185\x10187 182\n")  # as in the original archive
    with pytest.raises(InputError, match=r"ceiling_1.txt, line 2: expected six numbers x y z r g b, got '1 2 3 185"):
        load_annotation(path)
    path.write_text("1 2 3 4 5 6\n1 2 3 4 5 6 7 8\n1 2 3 4\n")  # 18 numbers, but not 6 a line
    with pytest.raises(InputError, match=r"line 2: expected six numbers"):
        load_annotation(path)
    room = write_room(tmp_path / "Area_2", files={"plant_1": "1 2 3 4 5 6\n"})
    with pytest.raises(InputError, match="'plant' is no class of S3DIS, expected one of ceiling, floor"):
        S3dis(room).load_sample(0)


def test_copies_of_annotations_are_refused(tmp_path):
    """The original archive has such a file in Area_5/office_36."""
    room = write_room(tmp_path / "Area_5", "office_36", {"wall_3": "1 2 3 4 5 6\n", "wall_3 (1)": "1 2 3 4 5 6\n"})
    with pytest.raises(InputError, match=r"wall_3 \(1\).txt: annotations are called CLASS_NUMBER.txt; take"):
        S3dis(room).load_sample(0)


def write_bins(folder, name, ids):
    for part in ("points", "semantic_mask", "instance_mask"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    POINTS.tofile(folder / "points" / f"{name}.bin")
    np.array(ids, "<i8").tofile(folder / "semantic_mask" / f"{name}.bin")
    np.array([3, 3, 0], "<i8").tofile(folder / "instance_mask" / f"{name}.bin")
    return folder


def write_npy(folder, name, points_suffix, ids):
    folder.mkdir()
    np.save(folder / f"{name}_{points_suffix}.npy", POINTS)
    np.save(folder / f"{name}_sem_label.npy", np.array(ids))
    np.save(folder / f"{name}_ins_label.npy", np.array([3, 3, 0]))
    return folder


@pytest.mark.parametrize("layout", ["bin", "npy"])
def test_prepared_rooms_and_scenes(tmp_path, layout):
    if layout == "bin":
        room = write_bins(tmp_path / "a", "Area_5_hallway_6", [0, 8, 12])
        scene = write_bins(tmp_path / "b", "scene0123_01", [5, 0, 40])
    else:
        room = write_npy(tmp_path / "a", "Area_5_hallway_6", "point", [0, 8, 12])
        scene = write_npy(tmp_path / "b", "scene0123_01", "vert", [5, 0, 40])
    assert is_indoor_bins(room)
    source = IndoorBins(room)
    assert (len(source), source.name, source.label_space.name) == (1, "s3dis", "s3dis13")
    sample = source.load_sample(0)
    assert sample.key == "s3dis/Area_5_hallway_6"
    assert [source.label_space.class_names[i] for i in sample.class_id] == ["ceiling", "chair", "clutter"]
    np.testing.assert_allclose(sample.cloud.points, [[-2, -1, 0], [2, 1, 2], [0, 0, 0]])
    fields = source.load_scan_fields(0)
    assert (fields["red"].tolist(), fields["instance_id"].tolist()) == ([255, 0, 1], [3, 3, 0])
    source = IndoorBins(scene)
    assert source.load_sample(0).key == "scannet/scene0123_01"
    assert source.load_sample(0).class_id.tolist() == [source.label_space.class_names.index("chair"), 255, 255]


def test_prepared_scenes_without_labels(tmp_path):
    folder = write_bins(tmp_path, "scene0707_00", [0, 0, 0])
    (folder / "semantic_mask" / "scene0707_00.bin").unlink()
    (folder / "instance_mask" / "scene0707_00.bin").unlink()
    source = IndoorBins(folder)
    assert (source.label_space, source.load_sample(0).class_id) == (None, None)
    assert "instance_id" not in source.load_scan_fields(0)


def test_damaged_prepared_scenes(tmp_path):
    folder = write_bins(tmp_path / "a", "scene0000_00", [1, 2, 3])
    mask = folder / "semantic_mask" / "scene0000_00.bin"
    mask.write_bytes(mask.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"holds 23 bytes, 3 points need 24"):
        IndoorBins(folder).load_sample(0)
    np.array([1, 2, -1], "<i8").tofile(mask)
    with pytest.raises(InputError, match="must hold 3 ids >= 0"):
        IndoorBins(folder).load_sample(0)
    np.array([1, 2, 77], "<i8").tofile(mask)
    with pytest.raises(InputError, match="ids 77 are none of nyu40"):
        IndoorBins(folder).load_sample(0)
    write_bins(tmp_path / "a", "Area_1_office_1", [1, 2, 3])
    with pytest.raises(InputError, match="of one data set"):
        IndoorBins(folder)
    with pytest.raises(InputError, match="found none"):
        IndoorBins(tmp_path / "b")
    assert not is_indoor_bins(tmp_path)
    room = write_npy(tmp_path / "c", "Area_1_office_1", "point", [1, 2])
    with pytest.raises(InputError, match="must hold 3 ids >= 0, got 2"):
        IndoorBins(room).load_sample(0)
    (room / "Area_1_office_1_point.npy").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"point.npy cannot be read"):
        IndoorBins(room).load_sample(0)
    np.save(room / "Area_1_office_1_point.npy", POINTS[:, :3])
    with pytest.raises(InputError, match=r"must be \(N, 6\) x, y, z, r, g, b, got \(3, 3\)"):
        IndoorBins(room).load_sample(0)


@needs_real
@pytest.mark.parametrize(("name", "key"), [("scannet", "scannet/scene0000_00"), ("s3dis", "s3dis/Area_1_office_2")])
def test_the_real_samples(name, key):
    source = IndoorBins(REAL / name)
    sample = source.load_sample(0)
    assert (source.name, sample.key, len(sample.cloud)) == (name, key, 100)
    assert sample.cloud.points[:, 2].min() == 0
    height = {n: np.median(sample.cloud.points[sample.class_id == i, 2])
              for i, n in enumerate(source.label_space.class_names) if (sample.class_id == i).any()}  # fmt: skip
    assert height["floor"] < 0.2
    assert height["floor"] < height["table" if name == "scannet" else "chair"] < height["wall"]
    assert height.get("ceiling", 9) > 2.5
    assert source.load_scan_fields(0)["red"].max() == 255
