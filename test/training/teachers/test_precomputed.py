"""The precomputed teacher: stores, exports, label maps; the shared samples as they are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.config import parse_settings
from training.dictionary import DICTIONARIES, ClassDictionary
from training.sources.kitti_raw import KittiRaw
from training.sources.label_mapping import LABEL_SPACES
from training.sources.nuscenes_keyframe import NuScenesKeyframe
from training.teachers.label_maps import LabelMapFolder
from training.teachers.precomputed import PrecomputedConfig, PrecomputedTeacher
from training.teachers.segment_store import SegmentStore

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data"
needs_real = pytest.mark.skipif(not (SHARED / "afov_semantic").is_dir(), reason="needs shared/data/afov_semantic")

SPACE = LabelSpace("two", ("car", "road"), ((1, 2, 3), (4, 5, 6)))
WORDS = ClassDictionary.from_dict(
    {
        "name": "words",
        "label_space": "two",
        "templates": ["{}"],
        "groups": [
            {"name": "car", "class": "car", "texts": ["car", "van"]},
            {"name": "road", "class": "road", "texts": ["road"]},
            {"name": "sky", "class": None, "texts": ["sky"]},
        ],
    },
    SPACE,
)
# sky everywhere above, a road below it with two vans, a corner without label
MAP = np.array([[3, 3, 3, 3, 3], [1, 2, 2, 2, 1], [1, 2, 2, 2, 255]], np.uint8)


def view(width=5, height=3, name="front", stamp_ns=0):
    blank = np.zeros((height, width, 3), np.uint8)
    return CameraImage(name, blank, CameraModel(width, height, 5, 5, 2, 1), np.eye(4), stamp_ns)


def write_maps(folder, label_map=MAP, confidence=None, classes=None, stem="000012"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label_map).save(folder / f"{stem}.png")
    if confidence is not None:
        Image.fromarray(np.asarray(confidence, np.uint8)).save(folder / f"{stem}_conf.png")
    if classes is not None:
        (folder / "classes.json").write_text(json.dumps(classes))
    return folder


def ask(folder, image=None, key="drive/000012", **settings):
    return PrecomputedTeacher(PrecomputedConfig(str(folder), **settings), WORDS).segment(image or view(), key)


def test_a_label_map_without_a_file_of_classes(tmp_path):
    found = ask(write_maps(tmp_path))
    assert found.segment_id.tolist() == [[3] * 5, [1, 2, 2, 2, 1], [1, 2, 2, 2, 0]]
    assert found.text_id.tolist() == [1, 2, 3]
    assert found.class_id.tolist() == [0, 1, 255]
    assert found.confidence.tolist() == [1, 1, 1]
    assert found.features is None


def test_connected_regions_become_segments(tmp_path):
    found = ask(write_maps(tmp_path), components=True)
    assert found.segment_id.tolist() == [[4] * 5, [1, 3, 3, 3, 2], [1, 3, 3, 3, 0]]
    assert found.text_id.tolist() == [1, 1, 2, 3]


def test_regions_that_touch_at_a_corner_are_one(tmp_path):
    diagonal = np.where(np.eye(4, dtype=bool), 0, 2).astype(np.uint8)
    found = ask(write_maps(tmp_path, diagonal), view(4, 4), components=True)
    assert found.text_id.tolist() == [0, 2]


def test_a_confidence_map_of_a_quarter(tmp_path):
    """5 x 3 pixels are 2 x 1 cells of 4 x 4: column 4 reads the second cell."""
    folder = write_maps(tmp_path, confidence=[[255, 51]])
    found = ask(folder)
    vans, road, sky = found.confidence
    assert vans == pytest.approx((1 + 1 + 0.2) / 3)
    assert (road, sky) == (1, pytest.approx((4 + 0.2) / 5))
    sure = ask(folder, min_confidence=0.5)
    assert sure.segment_id[:, 4].tolist() == [0, 0, 0]
    assert sure.segment_id[:, :4].tolist() == found.segment_id[:, :4].tolist()
    assert sure.confidence.tolist() == [1, 1, 1]


def test_no_pixel_is_sure_enough(tmp_path):
    found = ask(write_maps(tmp_path, confidence=[[9, 9]]), min_confidence=0.5)
    assert (found.segment_id.max(), len(found.class_id)) == (0, 0)


def test_numbers_get_their_meaning_from_classes_json(tmp_path):
    classes = {"0": "sky", "1": "Road", "2": "sky", "3": "van", "255": "none"}
    write_maps(tmp_path / "maps", classes=None)
    (tmp_path / "classes.json").write_text(json.dumps(classes))  # one folder higher
    found = ask(tmp_path / "maps")
    assert found.text_id.tolist() == [1, 2, 3]
    assert found.segment_id.tolist() == [[1] * 5, [2, 3, 3, 3, 2], [2, 3, 3, 3, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classes": {"0": "car", "1": "boat"}}, r"classes.json: 1 of 2 texts are not in dictionary words.*'boat'"),
        ({"classes": ["car", "van"]}, r"000012.png: label 3 is none of the 2 texts"),
        ({"classes": {"a": "car"}}, r'classes.json must be a list of texts, or \{"0": "road", ...\}, got'),
        ({"classes": []}, r"classes.json lists no texts"),
        ({"confidence": [[1, 2, 3]]}, r"000012_conf.png has 3 x 1 pixels, its label map 5 x 3: expected the same"),
        ({"label_map": np.zeros((3, 5, 3), np.uint8)}, r"one channel of 8 or 16 bit ids, got mode RGB"),
        ({"label_map": np.zeros((4, 5), np.uint8)}, r"the stored map has 5 x 4 pixels, the image 5 x 3"),
        ({"stem": "000013"}, r"000012.png does not exist"),
    ],
)
def test_label_maps_that_do_not_fit(tmp_path, content, message):
    write_maps(tmp_path, **content)
    with pytest.raises(InputError, match=message):
        ask(tmp_path)


def test_folders_without_results(tmp_path):
    with pytest.raises(InputError, match=r"folder of precomputed results .*/none does not exist"):
        ask(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no .png, so no results of a teacher"):
        ask(tmp_path)
    with pytest.raises(InputError, match=r"folder of label maps .*/none does not exist"):
        LabelMapFolder(tmp_path / "none", WORDS)


def test_a_store_of_ours_needs_no_pattern(tmp_path):
    store = SegmentStore.create(tmp_path, WORDS, np.ones((4, 2), np.float32), {"model": "m", "templates": ["{}"]})
    ids = np.ones((3, 5), np.uint16)
    one = np.ones(1, np.float32)
    said = TeacherSegments(ids, np.array([1], np.uint8), one, np.array([2], np.int32), np.array([[0, 1]], np.float32))
    store.write("drive/000012", "front", said)
    teacher = PrecomputedTeacher(PrecomputedConfig(str(tmp_path)), WORDS)
    found = teacher.segment(view(), "drive/000012")
    assert (found.class_id.tolist(), found.features.tolist()) == ([1], [[0, 1]])
    assert teacher.text_features.shape == (4, 2)
    assert teacher.label_space is SPACE
    said_of_itself = teacher.describe()
    assert json.loads(json.dumps(said_of_itself)) == said_of_itself
    assert (said_of_itself["teacher"], said_of_itself["model"]) == ("precomputed", "m")
    assert said_of_itself["dictionary"] == WORDS.hash
    with pytest.raises(InputError, match=r"the stored map has 5 x 3 pixels, the image 6 x 3; segments must be stored"):
        teacher.segment(view(width=6), "drive/000012")


def test_tokens_find_an_export_of_nuscenes(tmp_path):
    Image.fromarray(np.ones((3, 5), np.uint8)).save(tmp_path / "ab12.png")
    (tmp_path / "ab12.json").write_text('[{"id": 1, "category_id": 2, "area": 15}]')
    tokens = tmp_path / "tables" / "sample_data.json"
    tokens.parent.mkdir()
    row = {"token": "ab12", "filename": "samples/CAM_BACK/x.jpg", "timestamp": 77, "is_key_frame": True}
    tokens.write_text(json.dumps([row]))
    image = view(name="CAM_BACK", stamp_ns=77_000)
    assert ask(tmp_path, image, stem="{token}", tokens=str(tokens)).text_id.tolist() == [2]


def test_settings_from_yaml():
    config = parse_settings(PrecomputedConfig, {"folder": "a", "min_confidence": 0, "components": True}, "r.yaml")
    assert config == PrecomputedConfig("a", min_confidence=0.0, components=True)
    with pytest.raises(ConfigError, match=r"layout must be one of auto, segments, label_maps, got 'masks'"):
        PrecomputedConfig("a", layout="masks")
    with pytest.raises(ConfigError, match="features must be one of in_vocab, out_vocab, got 'out'"):
        PrecomputedConfig("a", features="out")
    with pytest.raises(ConfigError, match=r"min_confidence must be in \[0, 1\], got 2"):
        PrecomputedConfig("a", min_confidence=2)
    with pytest.raises(ConfigError, match="unknown key 'stems'; did you mean stem"):
        parse_settings(PrecomputedConfig, {"folder": "a", "stems": "b"}, "r.yaml")


def cityscapes():
    space = LabelSpace.load(LABEL_SPACES / "nuscenes16.yaml")
    return ClassDictionary.load(DICTIONARIES / "kitti_cityscapes.yaml", space)


@needs_real
def test_the_real_export_of_kitti_and_its_label_maps_agree():
    """Two layouts of the same predictions, on a frame of the drive that they were made for."""
    source, words = KittiRaw(SHARED / "kitti_raw" / "2011_09_26"), cityscapes()
    export = PrecomputedTeacher(PrecomputedConfig(str(SHARED / "afov_semantic" / "kitti_raw")), words)
    maps = PrecomputedTeacher(PrecomputedConfig(str(SHARED / "masks_2d" / "kitti_raw")), words)
    listing = json.loads((SHARED / "afov_semantic/kitti_raw/segments/0000000007.json").read_text())
    sample = source.load_sample(7)
    (image,) = sample.images
    one, two = (teacher.segment(image, sample.key) for teacher in (export, maps))
    np.testing.assert_array_equal(one.segment_id, two.segment_id)
    np.testing.assert_array_equal(one.text_id, two.text_id)
    np.testing.assert_array_equal(one.class_id, two.class_id)
    assert np.bincount(one.segment_id.ravel())[1:].tolist() == [row["area"] for row in listing]
    assert one.text_id.tolist() == [row["category_id"] for row in listing]
    assert set(one.confidence) == {1.0}
    assert 0.2 < two.confidence.min() < two.confidence.max() <= 1
    assert words.label_space.class_names[one.class_id[0]] == "driveable_surface"


@needs_real
def test_the_real_exports_are_whole():
    words = cityscapes()
    for name, images in (("kitti_raw", 16), ("nuscenes/scene-0061_first", 6)):
        store = SegmentStore.open(SHARED / "afov_semantic" / name, words, stem="{key}")
        stems = list(store.stems())
        assert len(stems) == images
        for stem in stems:
            assert len(store.read(stem, "").class_id) > 5


@needs_real
def test_the_real_keyframe_is_found_by_camera_and_stamp():
    sample = NuScenesKeyframe(SHARED / "nuscenes" / "scene-0061_first").load_sample(0)
    for folder in ("afov_semantic", "masks_2d"):
        config = PrecomputedConfig(
            str(SHARED / folder / "nuscenes" / "scene-0061_first"), stem="*__{camera}__{stamp_us}"
        )
        teacher = PrecomputedTeacher(config, cityscapes())
        assert [teacher.segment(image, sample.key).segment_id.shape for image in sample.images] == [(900, 1600)] * 6


def test_what_it_says_of_itself_depends_on_the_results_and_not_on_where_they_lie(tmp_path):
    def said_of(folder):
        return PrecomputedTeacher(PrecomputedConfig(str(folder)), WORDS).describe()

    here = write_maps(tmp_path / "here", classes=["car", "van", "road", "sky"])
    there = write_maps(tmp_path / "there", classes=["car", "van", "road", "sky"])
    assert said_of(here) == said_of(there)
    write_maps(there, np.where(MAP == 3, 1, MAP).astype(np.uint8))
    assert said_of(here)["content"] != said_of(there)["content"]


def test_changed_results_are_not_taken_for_those_that_were_read(tmp_path):
    store = SegmentStore.create(tmp_path, WORDS, np.ones((4, 2), np.float32), {"model": "m"})
    said = TeacherSegments(np.ones((3, 5), np.uint16), *(np.zeros(1, t) for t in (np.uint8, np.float32, np.int32)))
    store.write("drive/000012", "front", said)
    before = PrecomputedTeacher(PrecomputedConfig(str(tmp_path)), WORDS).describe()
    (records,) = tmp_path.rglob("segments/**/*.json")
    records.write_text(records.read_text().replace('"category_id": 0', '"category_id": 2'))
    after = PrecomputedTeacher(PrecomputedConfig(str(tmp_path)), WORDS).describe()
    assert {name for name in after if before[name] != after[name]} == {"content"}


@pytest.mark.parametrize("content", ["[1]", '{"stem": 5}'])
def test_a_store_that_says_nonsense_of_itself(tmp_path, content):
    SegmentStore.create(tmp_path, WORDS, None, {})
    (tmp_path / "teacher.json").write_text(content)
    with pytest.raises(InputError, match=r"teacher.json must be an object whose stem is a text"):
        SegmentStore.open(tmp_path, WORDS)
