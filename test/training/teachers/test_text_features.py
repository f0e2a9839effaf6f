"""Text vectors on disk: the cache refuses what is stale or damaged, and stored matrices are read as exported."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import ClassDictionary
from training.dictionary_check import CLOSE_COSINE, check_dictionary
from training.teachers.text_features import (
    cached_text_features,
    load_text_features,
    read_text_features,
    write_text_features,
)

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
ZEGCLIP = SHARED / "data" / "clip_text" / "zegclip"
needs_zegclip = pytest.mark.skipif(not ZEGCLIP.is_dir(), reason="needs shared/data/clip_text")
SPACE = LabelSpace("s", ("car", "road"), ((1, 1, 1), (2, 2, 2)))
MADE_OF = {"encoder": {"model": "m"}, "texts": ["car", "road"], "templates": ["{}"]}
UNIT = np.eye(2, 3, dtype=np.float32)


class CountingEncoder:
    """A vector per text from its letters; counts how often it is asked."""

    def __init__(self, weights="w"):
        self.calls, self.weights = 0, weights

    def encode(self, texts):
        self.calls += 1
        return np.array([[len(text), ord(text[0]), 1.0] for text in texts], np.float32)

    def describe(self):
        return {"model": "letters", "weights_sha256": self.weights}


def dictionary(classes=("car", "road"), templates=("{}",)):
    content = {"name": "d", "classes": list(classes), "templates": list(templates)}
    return ClassDictionary.from_dict(content, SPACE)


def test_the_second_time_comes_from_the_file(tmp_path):
    encoder = CountingEncoder()

    first = cached_text_features(encoder, dictionary(), tmp_path / "cache")
    second = cached_text_features(encoder, dictionary(), tmp_path / "cache")

    assert encoder.calls == 1
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert second.dtype == np.float32
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_texts_templates_or_weights_are_other_files(tmp_path):
    encoder = CountingEncoder()

    cached_text_features(encoder, dictionary(), tmp_path)
    cached_text_features(encoder, dictionary(["road", "car"]), tmp_path)
    cached_text_features(encoder, dictionary(templates=["a {}"]), tmp_path)
    cached_text_features(CountingEncoder("v"), dictionary(), tmp_path)

    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_renamed_over_another_is_stale(tmp_path):
    encoder = CountingEncoder()
    cached_text_features(encoder, dictionary(), tmp_path)
    (good,) = tmp_path.iterdir()
    cached_text_features(encoder, dictionary(templates=["a {}"]), tmp_path)
    (other,) = set(tmp_path.iterdir()) - {good}
    other.replace(good)

    with pytest.raises(InputError, match=r"d-.*\.npz are stale, made with other templates; delete the file"):
        cached_text_features(encoder, dictionary(), tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"texts": ["car", "way"]}, "texts"),
        ({"encoder": {"model": "n"}}, "encoder"),
        ({"encoder": {"model": "n"}, "templates": ["a {}"]}, "encoder, templates"),
        ({"more": 1}, "more"),
    ],
)
def test_stale_files_say_what_changed(tmp_path, change, named):
    write_text_features(tmp_path / "t.npz", UNIT, MADE_OF)

    with pytest.raises(InputError, match=f"made with other {named};"):
        read_text_features(tmp_path / "t.npz", {**MADE_OF, **change})


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_truncated_files_are_refused(tmp_path, kept):
    path = tmp_path / "t.npz"
    write_text_features(path, UNIT, MADE_OF)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(InputError, match=r"t\.npz cannot be read .* delete the file"):
        read_text_features(path, MADE_OF)


def test_a_file_with_too_few_rows_is_refused(tmp_path):
    write_text_features(tmp_path / "t.npz", UNIT[:1], MADE_OF)

    with pytest.raises(InputError, match="one vector for each of 2 texts"):
        read_text_features(tmp_path / "t.npz", MADE_OF)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="cannot be written to"):
        write_text_features(tmp_path / "file" / "t.npz", UNIT, MADE_OF)


def test_npy_matrices_are_read_as_unit_vectors(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[3, 4], [0, 2]], np.float16))

    features = load_text_features(tmp_path / "t.npy", texts=2)

    np.testing.assert_allclose(features, [[0.6, 0.8], [0, 1]], rtol=1e-6)
    assert features.dtype == np.float32


@pytest.mark.parametrize("half", [False, True])
def test_torch_matrices_lose_the_void_row_of_fc_clip(tmp_path, half):
    torch = pytest.importorskip("torch")
    matrix = torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]])
    torch.save(matrix.bfloat16() if half else matrix, tmp_path / "text_embedding.pt")

    np.testing.assert_allclose(load_text_features(tmp_path / "text_embedding.pt", 2), [[0.6, 0.8], [0, 1]], rtol=1e-6)
    assert load_text_features(tmp_path / "text_embedding.pt").shape == (3, 2)


@pytest.mark.parametrize(
    ("matrix", "texts", "message"),
    [
        (np.ones((4, 2), np.float32), 2, "4 rows for a dictionary of 2 texts"),
        (np.ones((1, 2), np.float32), 2, "1 rows for a dictionary of 2 texts"),
        (np.ones(4, np.float32), None, r"got float32 of shape \(4,\)"),
        (np.ones((2, 2), np.int64), None, "got int64"),
        (np.array([[1, 0], [0, 0]], np.float32), None, "the first is that of 'row 1'"),
        (np.array([[1, np.nan]], np.float32), None, "the first is that of 'row 0'"),
    ],
)
def test_matrices_that_do_not_fit_are_refused_by_file(tmp_path, matrix, texts, message):
    np.save(tmp_path / "t.npy", matrix)

    with pytest.raises(InputError, match=rf"t\.npy: .*{message}"):
        load_text_features(tmp_path / "t.npy", texts)


def test_pickled_objects_are_never_loaded(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"car": Path("x")}, tmp_path / "t.pt")
    np.save(tmp_path / "t.npy", np.array([{"car": 1}], object))

    for name in ("t.pt", "t.npy"):
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            load_text_features(tmp_path / name)


def test_a_list_of_tensors_is_no_matrix(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save([torch.ones(2, 2)], tmp_path / "t.pt")

    with pytest.raises(InputError, match="expected one tensor, got list"):
        load_text_features(tmp_path / "t.pt")


@pytest.mark.parametrize(("name", "message"), [("none.npy", "does not exist"), ("t.txt", "are .npy, .pt or .pth")])
def test_other_files_are_refused(tmp_path, name, message):
    (tmp_path / "t.txt").write_text("x")

    with pytest.raises(InputError, match=message):
        load_text_features(tmp_path / name)


@needs_zegclip
def test_real_clip_vectors_separate_what_the_default_threshold_says():
    names = json.loads((ZEGCLIP / "classes.json").read_text())["classes"]
    features = load_text_features(ZEGCLIP / "coco_multi.npy", texts=171)
    cosine = features @ features.T
    upper = cosine[np.triu_indices(171, 1)]

    # the figures that CLOSE_COSINE is explained with
    assert np.median(upper) == pytest.approx(0.809, abs=1e-3)
    assert np.quantile(upper, 0.99) == pytest.approx(0.906, abs=1e-3)
    assert cosine[names.index("car"), names.index("truck")] == pytest.approx(0.938, abs=1e-3)
    assert cosine[names.index("bicycle"), names.index("motorcycle")] == pytest.approx(0.936, abs=1e-3)
    assert cosine[names.index("apple"), names.index("fruit")] == pytest.approx(0.938, abs=1e-3)
    assert 0.002 < np.mean(upper > CLOSE_COSINE) < 0.004


@needs_zegclip
def test_the_check_finds_what_real_vectors_confuse():
    names = json.loads((ZEGCLIP / "classes.json").read_text())["classes"]
    words = ["car", "truck", "bicycle", "motorcycle", "person"]
    space = LabelSpace("s", tuple(words), ((1, 1, 1),) * 5)
    features = load_text_features(ZEGCLIP / "coco_multi.npy")[[names.index(word) for word in words]]

    findings = check_dictionary(ClassDictionary.from_label_space(space), features)

    assert [f.texts for f in findings if f.kind == "close_vectors"] == [("car", "truck"), ("bicycle", "motorcycle")]
