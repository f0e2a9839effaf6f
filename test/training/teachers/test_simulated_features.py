"""Texts and features of the simulated teacher: like CLIP's where it matters, and never more truth than promised."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import DICTIONARIES, ClassDictionary
from training.sources.protocol import ImageTruth
from training.teachers.confusions import confusion_rows, similar_classes
from training.teachers.simulated import SimulatedTeacher, TeacherErrorConfig
from training.teachers.simulated_features import FeatureConfig, SegmentTruth, SimulatedFeatures
from training.teachers.simulated_text_space import TextSpace, TextSpaceConfig, first_of_equals

CONFIG = Path(__file__).resolve().parents[3] / "config"
SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
REAL = SHARED / "data" / "clip_text" / "zegclip"
SPACE = LabelSpace.load(CONFIG / "label_spaces" / "nuscenes16.yaml")
ID = {name: i for i, name in enumerate(SPACE.class_names)}
DICTIONARY = ClassDictionary.load(DICTIONARIES / "nuscenes.yaml", SPACE)
TEXTS = TextSpace.make(DICTIONARY)
FEATURES = SimulatedFeatures(TEXTS)
FIRST = first_of_equals(DICTIONARY)


def image(name: str = "front", stamp_ns: int = 0) -> CameraImage:
    camera = CameraModel(480, 270, 340.0, 340.0, 240, 135)
    return CameraImage(name, np.zeros((270, 480, 3), np.uint8), camera, np.eye(4), stamp_ns)


def street() -> ImageTruth:
    """Trucks and pedestrians on a road, a building and sky behind."""
    class_id = np.full((270, 480), ID["driveable_surface"], np.uint8)
    class_id[:100], class_id[:40] = ID["manmade"], 255
    instance_id = np.zeros((270, 480), np.int32)
    for k in range(16):
        v, u, size = 60 + 90 * (k % 2), 10 + 29 * k, 24 if k % 3 else 12
        class_id[v : v + size, u : u + size] = ID["truck"] if k % 3 else ID["pedestrian"]
        instance_id[v : v + size, u : u + size] = k + 1
    return ImageTruth(class_id, instance_id, np.where(class_id == 255, np.inf, 12.0).astype(np.float32))


def wrong_segments(count: int, seed: int) -> SegmentTruth:
    """Segments that are all wrong, in the way of the table of confusions."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, len(SPACE), count)
    rows = np.cumsum(confusion_rows(SPACE.class_names), axis=1)
    answered = (rows[true] < generator.random(count)[:, None]).sum(axis=1).clip(max=len(SPACE) - 1)
    return SegmentTruth(answered.astype(np.uint8), true.astype(np.uint8), np.zeros(count, np.int64))


def pairs_of_texts(space: TextSpace) -> dict[str, np.ndarray]:
    """Cosines of pairs of different texts: of a group of few texts, of one of many, of confused classes, of others."""
    first, second = np.triu_indices(len(DICTIONARY), 1)
    different = FIRST[first] != FIRST[second]
    first, second = first[different], second[different]
    cosine = (space.text_features @ space.text_features.T)[first, second]
    group, class_id = DICTIONARY.text_group, DICTIONARY.text_class
    many = np.bincount(group)[group] > space.config.motley_size
    same_group = group[first] == group[second]
    classes = (class_id[first] != 255) & (class_id[second] != 255) & (class_id[first] != class_id[second])
    similar = similar_classes(SPACE.class_names)
    confused = np.zeros(len(first), bool)
    confused[classes] = similar[class_id[first[classes]], class_id[second[classes]]]
    confused &= ~many[first] & ~many[second]
    return {
        "synonyms": cosine[same_group & ~many[first]],
        "motley": cosine[same_group & many[first]],
        "confused": cosine[confused],
        "unrelated": cosine[classes & ~confused],
        "all": cosine,
    }


def test_texts_are_unit_vectors_and_equal_words_have_equal_ones() -> None:
    assert TEXTS.text_features.shape == (175, 64)
    assert TEXTS.text_features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(TEXTS.text_features, axis=1), 1.0, atol=1e-6)
    scooter = [i for i, text in enumerate(DICTIONARY.texts) if text == "scooter"]
    assert len(scooter) == 2
    np.testing.assert_array_equal(*TEXTS.text_features[scooter])
    np.testing.assert_array_equal(TextSpace.make(DICTIONARY).text_features, TEXTS.text_features)
    other = TextSpace.make(DICTIONARY, TextSpaceConfig(seed=1)).text_features
    assert not np.allclose(other, TEXTS.text_features, atol=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_relatives_are_closer_than_strangers(seed: int) -> None:
    median = {
        k: np.median(v) for k, v in pairs_of_texts(TextSpace.make(DICTIONARY, TextSpaceConfig(seed=seed))).items()
    }
    assert median["synonyms"] > median["confused"] + 0.04
    assert median["confused"] > median["unrelated"] + 0.015
    assert abs(median["motley"] - median["unrelated"]) < 0.04


@pytest.mark.skipif(not REAL.is_dir(), reason="needs shared/data/clip_text/zegclip")
def test_cosines_are_distributed_like_those_of_clip() -> None:
    names = json.loads((REAL / "classes.json").read_text())["classes"]
    vectors = np.load(REAL / "coco_multi.npy", allow_pickle=False).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T
    every = cosine[np.triu_indices(len(names), 1)]
    simulated = pairs_of_texts(TEXTS)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(np.quantile(simulated["all"], levels), np.quantile(every, levels), atol=0.02)
    np.testing.assert_allclose(np.std(simulated["all"]), np.std(every), rtol=0.15)

    def real(*pairs: str) -> np.ndarray:
        return np.array([cosine[tuple(names.index(name) for name in pair.split(" | "))] for pair in pairs])

    synonyms = real(
        "rock | stone", "building-other | house", "hill | mountain", "dirt | mud", "potted plant | plant-other",
        "pavement | road", "bush | plant-other", "grass | straw", "cabinet | cupboard", "couch | chair",
    )  # fmt: skip
    confused = real("car | truck", "bus | truck", "bicycle | motorcycle", "person | bicycle", "grass | bush",
                    "fence | building-other", "tree | fence")  # fmt: skip
    assert abs(np.median(simulated["synonyms"]) - np.median(synonyms)) < 0.03
    assert abs(np.median(simulated["confused"]) - np.median(confused)) < 0.04
    manmade = [
        names.index(name)
        for name in ("bench", "bridge", "chair", "traffic light", "fire hydrant", "curtain", "door-stuff", "fence",
                     "banner", "parking meter", "ceiling-other", "wall-brick")
    ]  # fmt: skip
    alike = cosine[np.ix_(manmade, manmade)][np.triu_indices(len(manmade), 1)]
    closer = np.median(simulated["motley"]) - np.median(simulated["all"])
    assert abs(closer - (np.median(alike) - np.median(every))) < 0.05  # both are close to 0


@pytest.mark.parametrize("path", sorted(DICTIONARIES.glob("nuscenes*.yaml")), ids=lambda path: path.stem)
def test_every_dictionary_of_nuscenes_works(path: Path) -> None:
    dictionary = ClassDictionary.load(path, SPACE)
    features = SimulatedFeatures(TextSpace.make(dictionary))
    segments = SimulatedTeacher(TeacherErrorConfig(), SPACE, features).segment(image(), street(), 3)
    assert segments.features is not None
    assert segments.features.dtype == np.float32
    np.testing.assert_array_equal(dictionary.text_class[segments.text_id], segments.class_id)
    np.testing.assert_allclose(np.linalg.norm(segments.features, axis=1), 1.0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    leak=st.floats(0.0, 0.45),
    meaning=st.floats(0.02, 0.34),
    space_seed=st.integers(0, 3),
)
def test_the_answered_text_is_the_nearest_even_when_stored_in_half_precision(
    seed: int, leak: float, meaning: float, space_seed: int
) -> None:
    space = TextSpace.make(DICTIONARY, TextSpaceConfig(seed=space_seed))
    features = SimulatedFeatures(space, FeatureConfig(truth_leak=leak, meaning=meaning))
    text_id, vectors = features.make(wrong_segments(40, seed), image(), seed)
    stored = vectors.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(FIRST[(stored @ space.text_features.T).argmax(axis=1)], text_id)


def test_without_leak_the_truth_changes_nothing() -> None:
    blind = SimulatedFeatures(TEXTS, FeatureConfig(truth_leak=0.0))
    truth = wrong_segments(200, 1)
    confessed = replace(truth, true=truth.answered)
    for a, b in zip(blind.make(truth, image(), 5), blind.make(confessed, image(), 5), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(FEATURES.make(truth, image(), 5)[1], FEATURES.make(confessed, image(), 5)[1])
    np.testing.assert_array_equal(FEATURES.make(truth, image(), 5)[0], FEATURES.make(confessed, image(), 5)[0])


def test_the_second_class_is_the_true_one_no_more_often_than_published() -> None:
    truth = wrong_segments(4000, 2)

    def share(leak: float) -> tuple[float, float]:
        features = SimulatedFeatures(TEXTS, FeatureConfig(truth_leak=leak))
        rank = features.truth_ranks(truth, features.make(truth, image(), 7)[1])
        assert rank.min() == 2  # the answered class comes first
        return float(np.mean(rank == 2)), float(np.mean(rank <= 5))

    none, default, much = share(0.0), share(FeatureConfig().truth_leak), share(0.4)
    assert 0.10 < none[0] < default[0] < 0.34 < 0.7 < much[0]
    assert none[1] < default[1] < 0.75


def test_how_mixed_a_feature_is_does_not_tell_whether_the_label_is_wrong() -> None:
    wrong = wrong_segments(3000, 3)
    rows = np.cumsum(confusion_rows(SPACE.class_names), axis=1)
    right = replace(wrong, true=wrong.answered)
    assert rows[-1, -1] == pytest.approx(1.0)

    def margins(truth: SegmentTruth) -> np.ndarray:
        products = FEATURES.make(truth, image(), 9)[1] @ TEXTS.text_features.T
        nearest = np.stack([products[:, DICTIONARY.text_class == c].max(axis=1) for c in range(len(SPACE))], axis=1)
        nearest.sort(axis=1)
        return nearest[:, -1] - nearest[:, -2]

    assert 0.42 < np.mean(margins(right)[:, None] > margins(wrong)[None, :]) < 0.58


def test_images_lie_in_a_cone_of_their_own() -> None:
    _, vectors = FEATURES.make(wrong_segments(300, 4), image(), 1)
    between = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    assert 0.45 < between.mean() < 0.65
    assert (vectors @ TEXTS.text_features.T).mean() < 0.1
    assert abs(TEXTS.text_features @ TEXTS.axes[:, 1]).max() < 1e-6
    np.testing.assert_allclose(vectors @ TEXTS.axes[:, 1], np.sqrt(0.5), atol=0.12)


def test_an_instance_looks_the_same_through_a_drive_and_is_called_the_same_mostly() -> None:
    truth = SegmentTruth(np.full(60, ID["car"], np.uint8), np.full(60, ID["car"], np.uint8), np.arange(1, 61))
    runs = [FEATURES.make(truth, image(stamp_ns=t), 8) for t in range(6)]
    usual = np.array([np.bincount(column).max() for column in np.stack([r[0] for r in runs]).T]) / len(runs)
    assert 0.75 < usual.mean() < 0.98
    a, b = runs[0][1], runs[1][1]
    same_text = runs[0][0] == runs[1][0]
    own = (a * b).sum(axis=1)[same_text]
    cross = (a @ b.T)[~np.eye(60, dtype=bool)]
    assert own.mean() > cross.mean() + 0.1
    assert own.max() < 0.999
    always = SimulatedFeatures(TEXTS, FeatureConfig(text_persistence=1.0))
    first, second = (always.make(truth, image(stamp_ns=t), 8)[0] for t in (0, 1))
    np.testing.assert_array_equal(first, second)
    other_drive = always.make(truth, image(), 9)[0]
    assert not np.array_equal(first, other_drive)


def test_words_at_the_head_of_a_group_are_answered_more_often_and_repetitions_never() -> None:
    count = 20_000
    draw = np.random.default_rng(0).random(count)
    car = np.bincount(TEXTS.pick_texts(np.full(count, ID["car"]), draw), minlength=175)
    words = [DICTIONARY.texts.index(word) for word in ("car", "sedan", "jeep")]
    harmonic = sum(1 / n for n in range(1, 9))  # eight words for a car
    np.testing.assert_allclose(car[words] / count, np.array([1, 1 / 2, 1 / 8]) / harmonic, atol=0.015)
    manmade = np.bincount(TEXTS.pick_texts(np.full(count, ID["manmade"]), draw), minlength=175)
    pavilion = [i for i, text in enumerate(DICTIONARY.texts) if text == "pavilion"]
    assert (manmade[pavilion] > 0).tolist() == [True, False]
    assert (manmade > 0).sum() == 46  # of 47, one twice


def fingerprint(segments: TeacherSegments) -> str:
    parts = (segments.segment_id, segments.class_id, np.rint(segments.confidence * 1000).astype(np.int32))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


def test_classes_outlines_and_confidences_are_those_of_the_teacher_without_texts() -> None:
    plain = SimulatedTeacher(TeacherErrorConfig(), SPACE)
    speaking = SimulatedTeacher(TeacherErrorConfig(), SPACE, FEATURES)
    for seed, name in ((1, "front"), (2, "back")):
        a, b = (teacher.segment(image(name, 50), street(), seed) for teacher in (plain, speaking))
        for field in ("segment_id", "class_id", "confidence"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
        assert a.features is None
        np.testing.assert_array_equal(a.text_id, a.class_id)


def test_the_labels_that_the_shipped_student_learned_from_can_be_made_again() -> None:
    teacher = SimulatedTeacher(TeacherErrorConfig(), SPACE)
    found = [
        fingerprint(teacher.segment(image(name, 50), street(), seed)) for seed, name in ((1, "front"), (2, "back"))
    ]
    assert found == ["beb8c9fac0a6a90e", "3673cbac78c56b45"]


def test_nothing_but_sky_gives_no_features() -> None:
    sky = ImageTruth(np.full((270, 480), 255, np.uint8), np.zeros((270, 480), np.int32), np.full((270, 480), np.inf))
    segments = SimulatedTeacher(TeacherErrorConfig(), SPACE, FEATURES).segment(image(), sky, 0)
    assert segments.features is not None
    assert segments.features.shape == (0, 64)
    assert segments.text_id.shape == (0,)


def test_descriptions_are_json_and_tell_settings_apart() -> None:
    texts = {json.dumps(SimulatedFeatures(TEXTS, FeatureConfig(truth_leak=leak)).describe()) for leak in (0.0, 0.1)}
    texts.add(json.dumps(SimulatedFeatures(TextSpace.make(DICTIONARY, TextSpaceConfig(seed=1))).describe()))
    assert len(texts) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureConfig(truth_leak=0.5), "truth_leak must be below 0.5, got 0.5"),
        (lambda: FeatureConfig(gap=0.8), r"at most 1, got 0.8 \+ 0.25 \+ 0.15"),
        (lambda: FeatureConfig(look=-0.1), r"look must be in \[0, 1\], got -0.1"),
        (lambda: TextSpaceConfig(dimensions=4), "at least 8, got 4"),
        (lambda: TextSpaceConfig(class_share=0.9), r"at most 1, got 0.9 \+ 0.2"),
        (lambda: TextSpaceConfig(common=1.0), r"common must be in \[0, 1\), got 1.0"),
        (lambda: TextSpaceConfig(motley_size=0), "motley_size >= 1"),
    ],
)
def test_impossible_settings_are_refused(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_dictionary_that_does_not_fit_is_refused() -> None:
    content = DICTIONARY.to_dict()
    content["groups"] = [group for group in content["groups"] if group["class"] != "barrier"]
    with pytest.raises(ConfigError, match="has no text for class barrier"):
        SimulatedFeatures(TextSpace.make(ClassDictionary.from_dict(content, SPACE)))
    small = LabelSpace("two", ("car", "road"), ((1, 2, 3), (4, 5, 6)))
    with pytest.raises(ConfigError, match="is for label space 'nuscenes16', the simulated teacher answers in 'two'"):
        SimulatedTeacher(TeacherErrorConfig(), small, FEATURES)
