"""The segment store: what was written is read, and exports of others are read as they are."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ov_seg_ros.core.data_types import TeacherSegments
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.atomic_files import StorageFullError
from training.dictionary import ClassDictionary
from training.teachers.segment_files import encode_ids, encode_segments, read_id_map
from training.teachers.segment_store import SegmentStore

SPACE = LabelSpace("two", ("car", "road"), ((1, 2, 3), (4, 5, 6)))


def dictionary(*groups):
    rows = [{"name": name, "class": target, "texts": list(texts)} for name, target, texts in groups]
    return ClassDictionary.from_dict({"name": "d", "label_space": "two", "templates": ["a {}."], "groups": rows}, SPACE)


CARS = dictionary(("car", "car", ("car", "sedan")), ("road", "road", ("road",)), ("sky", None, ("sky",)))
IDS = np.array([[1, 1, 0], [2, 3, 3]], np.uint16)
UNIT = np.array([[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]], np.float32)
SEGMENTS = TeacherSegments(
    IDS, np.array([0, 1, 255], np.uint8), np.array([0.5, 0.25, 1], np.float32), np.array([1, 2, 3], np.int32), UNIT
)


def write_export(folder, records, ids=IDS, table=None, suffix=".npy", stem="token"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint8)).save(folder / f"{stem}.png")
    (folder / f"{stem}.json").write_text(json.dumps(records))
    if table is not None and suffix == ".npy":
        np.save(folder / f"{stem}.npy", table)
    elif table is not None:
        import torch

        torch.save(table, folder / f"{stem}.pt")


def records(*categories):
    return [{"id": n, "category_id": c, "area": 9} for n, c in enumerate(categories, 1)]


def test_what_is_on_the_disk(tmp_path):
    store = SegmentStore.create(tmp_path, CARS, np.ones((4, 2), np.float32), {"model": "m"})
    count = store.write("drive/000003", "front", SEGMENTS)
    files = {p.relative_to(tmp_path).as_posix(): p for p in tmp_path.rglob("*.*")}
    stem = "segments/drive/000003_front"
    assert set(files) == {
        "texts.json",
        "text_embedding.npy",
        "teacher.json",
        *(stem + s for s in (".png", ".json", ".npy")),
    }
    assert count == sum(files[stem + s].stat().st_size for s in (".png", ".json", ".npy"))
    with Image.open(files[stem + ".png"]) as picture:
        assert picture.mode == "L"
        assert np.asarray(picture).tolist() == IDS.tolist()
    assert json.loads(files[stem + ".json"].read_text()) == [
        {"id": 1, "category_id": 1, "area": 2, "score": 0.5},
        {"id": 2, "category_id": 2, "area": 1, "score": 0.25},
        {"id": 3, "category_id": 3, "area": 2, "score": 1.0},
    ]
    table = np.load(files[stem + ".npy"])
    assert table.dtype == np.float16
    assert table[0].tolist() == [0, 0]
    np.testing.assert_allclose(table[1:], UNIT, atol=1e-3)
    assert json.loads(files["texts.json"].read_text()) == ["car", "sedan", "road", "sky"]
    assert json.loads(files["teacher.json"].read_text()) == {
        "format": 1,
        "stem": "{key}_{camera}",
        "dictionary": {"name": "d", "hash": CARS.hash},
        "teacher": {"model": "m"},
    }
    assert list(store.stems()) == ["drive/000003_front"]


@given(st.data())
def test_any_segments_come_back(tmp_path_factory, data):
    count = data.draw(st.sampled_from([0, 1, 7, 255, 256, 300]))
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    ids = np.zeros(400, np.uint16)
    ids[generator.permutation(400)[:count]] = np.arange(1, count + 1)
    text_id = generator.integers(0, 4, count).astype(np.int32)
    features = generator.standard_normal((count, 3)) if data.draw(st.booleans()) else None
    if features is not None:
        features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    confidence = generator.random(count).astype(np.float32)
    said = TeacherSegments(ids.reshape(20, 20), CARS.text_class[text_id], confidence, text_id, features)
    folder = tmp_path_factory.mktemp("store")
    SegmentStore.create(folder, CARS, None, {}).write("k", "c", said)
    store = SegmentStore.open(folder, CARS)
    assert store.has("k", "c")
    assert not store.has("k", "d")
    read = store.read("k", "c")
    for name in ("segment_id", "class_id", "confidence", "text_id"):
        np.testing.assert_array_equal(getattr(read, name), getattr(said, name))
        assert getattr(read, name).dtype == getattr(said, name).dtype
    if features is None:
        assert read.features is None
    else:
        np.testing.assert_allclose(read.features, features, atol=2e-3)
        np.testing.assert_allclose(np.linalg.norm(read.features, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("highest", "mode"), [(0, "L"), (255, "L"), (256, "I;16"), (65535, "I;16")])
def test_id_maps_of_8_and_16_bit(tmp_path, highest, mode):
    ids = np.array([[0, highest]], np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(encode_ids(ids))
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        assert picture.mode == mode
    read = read_id_map(path)
    assert (read.dtype, read.tolist()) == (np.uint16, ids.tolist())


def test_an_export_without_texts_indexes_the_dictionary(tmp_path):
    """As AFOV writes it: torch tables, nothing but the token in the name, no texts."""
    torch = pytest.importorskip("torch")
    table = torch.zeros(4, 2)
    table[1:] = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    write_export(tmp_path, records(1, 2, 3), table=table, suffix=".pt")
    torch.save(torch.eye(4, 2) + 1, tmp_path / "text_embedding.pt")
    store = SegmentStore.open(tmp_path, CARS)
    read = store.read("scene/token", "CAM_FRONT")
    assert read.text_id.tolist() == [1, 2, 3]
    assert read.class_id.tolist() == [0, 1, 255]
    assert read.confidence.tolist() == [1, 1, 1]
    np.testing.assert_allclose(read.features, [[0.6, 0.8], [0, 1], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(store.text_features[2], [0.5**0.5, 0.5**0.5], atol=1e-6)


def test_the_pair_of_tables_of_fc_clip(tmp_path):
    """In-vocabulary first, out-vocabulary second, which is the default; its text matrix has a void row at the end."""
    torch = pytest.importorskip("torch")
    rows = [{"id": 1, "category_id": 0, "isthing": True}, {"id": 2, "category_id": 2, "isthing": False}]
    pair = [torch.tensor([[0.0, 0], [1, 0], [1, 0]]), torch.tensor([[0.0, 0], [0, 1], [0, 1]])]
    write_export(tmp_path / "segments", rows, np.array([[1, 2]]), pair, ".pt")
    torch.save(torch.ones(5, 2), tmp_path / "text_embedding.pt")
    store = SegmentStore.open(tmp_path, CARS)
    assert store.text_features.shape == (4, 2)
    assert store.read("token", "c").features.tolist() == [[0, 1], [0, 1]]
    inside = SegmentStore.open(tmp_path, CARS, variant="in_vocab").read("token", "c")
    assert inside.features.tolist() == [[1, 0], [1, 0]]
    torch.save(pair + pair, tmp_path / "segments" / "token.pt")
    with pytest.raises(InputError, match=r"token.pt holds 4 tables, expected one, or a pair"):
        store.read("token", "c")


def test_texts_are_matched_by_name(tmp_path):
    write_export(tmp_path / "segments", records(0, 1, 2))
    (tmp_path / "texts.json").write_text('["Sky ", "road", "sedan", "car"]')
    np.save(tmp_path / "text_embedding.npy", np.diag([1.0, 2, 3, 4]))
    store = SegmentStore.open(tmp_path, CARS)
    assert store.read("token", "c").text_id.tolist() == [3, 2, 1]
    assert store.read("token", "c").class_id.tolist() == [255, 1, 0]
    np.testing.assert_array_equal(store.text_features, np.eye(4)[[3, 2, 1, 0]])
    assert SegmentStore.open(tmp_path / "segments", CARS).read("token", "c").text_id.tolist() == [3, 2, 1]


def test_texts_that_the_dictionary_lacks(tmp_path):
    write_export(tmp_path, records(0, 1, 2))
    (tmp_path / "texts.json").write_text('["road", "cars"]')
    with pytest.raises(
        InputError, match=r"texts.json: 1 of 2 texts are not in dictionary d, the first is 'cars' \(did"
    ):
        SegmentStore.open(tmp_path, CARS)
    (tmp_path / "texts.json").write_text('["road"]')
    np.save(tmp_path / "text_embedding.npy", np.ones((1, 2)))
    with pytest.raises(InputError, match=r"has no row for 3 texts of dictionary d, the first is 'car'"):
        SegmentStore.open(tmp_path, CARS)


def test_a_text_with_two_meanings(tmp_path):
    twice = dictionary(("car", "car", ("car", "van")), ("road", "road", ("road", "van")))
    write_export(tmp_path, records(0, 3, 1))
    (tmp_path / "texts.json").write_text(json.dumps(["car", "van", "road", "van"]))
    read = SegmentStore.open(tmp_path, twice).read("token", "c")  # the very list of the dictionary
    assert (read.text_id.tolist(), read.class_id.tolist()) == ([0, 3, 1], [0, 1, 0])
    (tmp_path / "texts.json").write_text(json.dumps(["van", "car", "road"]))
    with pytest.raises(InputError, match="'van' stands in dictionary d twice, for different classes"):
        SegmentStore.open(tmp_path, twice)


def test_another_dictionary_is_refused_with_both_hashes(tmp_path):
    SegmentStore.create(tmp_path, CARS, None, {})
    other = dictionary(("car", "car", ("car", "sedan")), ("road", "road", ("road",)), ("sky", "road", ("sky",)))
    with pytest.raises(InputError, match=rf"teacher.json: .* hash {CARS.hash}, dictionary d has {other.hash}; use"):
        SegmentStore.open(tmp_path, other)
    with pytest.raises(InputError, match="made with a dictionary of hash"):
        SegmentStore.create(tmp_path, other, None, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"records": records(0, 1)}, r"token.png has ids up to 3, but token.json lists 2 segments"),
        ({"records": records(0, 1, 2, 2)}, r"ids up to 3, but token.json lists 4"),
        ({"records": records(0, 1, 4)}, r"token.json: category_id 4 is none of the 4 texts"),
        ({"records": records(0, 1, -2)}, r"category_id -2 is none of the 4 texts"),
        ({"records": [{"id": 2, "category_id": 0}]}, r"ids must be 1, 2, ... 1 in this order, got \[2\]"),
        ({"records": [{"id": 1, "category_id": 2**40}]}, r"must be a list of \{id, category_id, ...\}: OverflowError"),
        ({"records": [{"id": 1}]}, r"must be a list of \{id, category_id, ...\}: KeyError"),
        ({"records": {"id": 1}}, r"must be a list"),
        ({"records": [{"id": 1, "category_id": 0, "score": 1.5}]}, r"scores must be in \[0, 1\], got 1.5"),
        ({"table": np.zeros((3, 2), "f4")}, r"token.npy has 3 rows, expected 4: void and the 3 segments"),
        ({"table": np.zeros((4, 3), "f4")}, r"features have 3 dimensions, the text matrix 2; they are of different"),
        ({"table": np.full((4, 2), np.nan, "f4")}, r"token.npy: row 0 holds NaN"),
        ({"table": np.zeros((4, 2), int)}, r"must hold floating point numbers of shape \(rows, D\), got int64"),
        ({"table": np.zeros(4)}, r"got float64 \(4,\)"),
    ],
)
def test_files_that_contradict_each_other(tmp_path, content, message):
    np.save(tmp_path / "text_embedding.npy", np.ones((4, 2)))
    write_export(tmp_path, **{"records": records(0, 1, 2), **content})
    with pytest.raises(InputError, match=message):
        SegmentStore.open(tmp_path, CARS).read("token", "c")


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(InputError, match=r"segment store .*/none does not exist; make it with the label stage"):
        SegmentStore.open(tmp_path / "none", CARS)
    store = SegmentStore.open(tmp_path, CARS)
    with pytest.raises(InputError, match=r"token.png does not exist"):
        store.read("token", "c")
    write_export(tmp_path, records(0, 1, 2), table=np.zeros((4, 2)))
    for suffix, message in ((".npy", "feature table .* cannot be read"), (".json", "is no JSON"), (".png", "be read")):
        path = tmp_path / f"token{suffix}"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=message):
            store.read("token", "c")
        path.write_bytes(whole)
    Image.new("RGB", (3, 2)).save(tmp_path / "token.png")
    with pytest.raises(InputError, match="one channel of 8 or 16 bit ids, got mode RGB"):
        store.read("token", "c")
    for damage in (b"", b"PK\x03\x04 no archive", b"\x80\x02no pickle"):
        write_export(tmp_path, records(0, 1, 2))
        (tmp_path / "token.npy").unlink(missing_ok=True)
        (tmp_path / "token.pt").write_bytes(damage)
        with pytest.raises(InputError, match=r"token.pt cannot be read"):
            store.read("token", "c")


def changed(**arrays):
    return TeacherSegments(**{**vars(SEGMENTS), **arrays})


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (changed(segment_id=IDS - (IDS == 3)), r"must hold each of 1..3, one per text; areas are \[2, 3, 0\]"),
        (changed(segment_id=IDS + 1), r"areas are \[1, 2, 1, 2\]"),
        (changed(features=UNIT[:2]), "segments have 3 texts but features 2"),
        (changed(confidence=np.ones(2, np.float32)), "segments have 3 texts but confidence 2"),
        (changed(text_id=np.array([1, 2, 4], np.int32)), r"text ids must be -1..3, got 1..4"),
        (changed(class_id=np.array([1, 1, 255], np.uint8)), r"segment 1 \(sedan\) has class 1, dictionary d says 0"),
        (changed(text_id=np.array([-1, 2, 3], np.int32)), r"segment 1 \(no text\) has class 0, dictionary d says 255"),
    ],
)
def test_segments_that_cannot_be_stored(tmp_path, segments, message):
    store = SegmentStore.create(tmp_path, CARS, None, {})
    with pytest.raises(InputError, match=rf"sample k, camera front: .*{message}"):
        store.write("k", "front", segments)
    assert list(store.stems()) == []


def test_void_only(tmp_path):
    empty = TeacherSegments(
        np.zeros((2, 2), np.uint16), np.zeros(0, np.uint8), np.zeros(0, np.float32), np.zeros(0, np.int32), UNIT[:0]
    )
    store = SegmentStore.create(tmp_path, CARS, None, {})
    store.write("k", "c", empty)
    read = store.read("k", "c")
    assert (read.segment_id.max(), len(read.class_id), read.features.shape) == (0, 0, (0, 2))
    assert list(encode_segments(empty)) == [".npy", ".json", ".png"]  # the picture last: it makes the image complete


def test_a_segment_without_text_is_void(tmp_path):
    write_export(tmp_path, records(0, -1, 2))
    read = SegmentStore.open(tmp_path, CARS).read("token", "c")
    assert (read.text_id.tolist(), read.class_id.tolist()) == ([0, -1, 2], [0, 255, 1])


def test_a_full_disk_leaves_no_image(tmp_path, monkeypatch):
    store = SegmentStore.create(tmp_path, CARS, None, {})
    write = Path.write_bytes

    def full(self, content):
        if self.name.endswith(".png.part"):
            raise OSError(28, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFullError, match=r"no space left in .*k_c.png needs"):
        store.write("k", "c", SEGMENTS)
    assert not store.has("k", "c")
    assert not [name for name in os.listdir(tmp_path / "segments") if name.endswith(".part")]
