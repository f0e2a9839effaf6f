"""What the check of a dictionary finds, and what it leaves alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import DICTIONARIES, ClassDictionary
from training.dictionary_check import check_dictionary, spelling_key

SPACE = LabelSpace("s", ("car", "truck", "road"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
LABEL_SPACES = Path(__file__).resolve().parents[2] / "config" / "label_spaces"


def dictionary_of(*groups, sinks=()):
    """Groups as (class, texts), named a, b, c ..."""
    rows = [{"name": "abcdef"[i], "class": c, "texts": list(t)} for i, (c, t) in enumerate(groups)]
    return ClassDictionary.from_dict({"name": "d", "groups": rows, "sinks": list(sinks)}, SPACE)


def kinds(findings, level=None):
    return [f.kind for f in findings if level in (None, f.level)]


def test_a_clean_dictionary_has_no_warnings():
    findings = check_dictionary(
        dictionary_of(("car", ["car"]), ("truck", ["truck"]), ("road", ["road"]), sinks=["sky"])
    )

    assert kinds(findings) == ["sink"]
    assert str(findings[0]) == "note: sky: sink 'sky', becomes no label"


def test_a_text_of_two_classes_is_a_warning_and_names_both():
    findings = check_dictionary(dictionary_of(("car", ["pickup"]), ("truck", ["pickup"]), ("road", ["road"])))

    assert kinds(findings, "warning") == ["same_text"]
    assert findings[0].texts == ("pickup", "pickup")
    assert "in the groups 'a' and 'b', which mean 'car' and 'truck'" in findings[0].message


def test_a_text_of_a_class_and_a_sink_is_a_warning():
    findings = check_dictionary(dictionary_of(("car", ["car", "toy car"]), (None, ["toy car"])))

    assert "which mean 'car' and no label" in findings[0].message


def test_a_text_of_two_groups_of_one_class_is_a_note():
    findings = check_dictionary(dictionary_of(("car", ["van", "car"]), ("car", ["van"])))

    assert [f.level for f in findings if f.kind == "same_text"] == ["note"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SUV", "suv"),
        ("mini-van", "minivan"),
        ("traffic_cone", "Traffic cones."),
        ("a bus", "buses"),
        ("a house", "houses"),
        ("lorry", "lorries"),
        ("bench", "benches"),
        ("tree", "trees"),
        ("child's bike", "childs bike"),
    ],
)
def test_spellings_of_one_word_are_found(one, other):
    findings = check_dictionary(dictionary_of(("car", [one]), ("truck", [other]), ("road", ["road"])))

    assert kinds(findings, "warning") == ["similar_text"]
    assert f"{one!r} and {other!r} differ in spelling only" in findings[0].message


@pytest.mark.parametrize(
    ("one", "other"),
    [("bus", "bush"), ("grass", "gras"), ("car", "cars park"), ("bus stop", "bus"), ("man", "men"), ("tub", "tube")],
)
def test_different_words_are_left_alone(one, other):
    findings = check_dictionary(dictionary_of(("car", [one]), ("truck", [other]), ("road", ["road"])))

    assert "similar_text" not in kinds(findings)


def test_a_text_that_is_the_name_of_another_class_is_found():
    findings = check_dictionary(dictionary_of(("car", ["car", "Trucks"]), ("road", ["road"])))

    assert kinds(findings, "warning") == ["names_other_class", "class_without_text"]
    assert findings[0].message == "'Trucks' means 'car' although there is a class 'truck'"


def test_classes_without_text_and_the_lack_of_sinks_are_found():
    findings = check_dictionary(dictionary_of(("car", ["car"])))

    assert [f.message for f in findings if f.kind == "class_without_text"] == [
        "class 'truck' has no text: no teacher will ever label it",
        "class 'road' has no text: no teacher will ever label it",
    ]
    assert kinds(findings, "note") == ["no_sink"]


def test_close_vectors_of_different_classes_are_found_closest_first():
    dictionary = dictionary_of(("car", ["car", "van"]), ("truck", ["lorry"]), ("road", ["road"]), sinks=["toy"])
    angle = np.radians(
        [0, 5, 15, 90, 8]
    )  # cos 3 = 0.9986, cos 7 = 0.9925, cos 8 = 0.9903, cos 10 = 0.9848, cos 15 = 0.966
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    close = [f for f in check_dictionary(dictionary, features, 0.97) if f.kind == "close_vectors"]

    assert [f.texts for f in close] == [("van", "toy"), ("lorry", "toy"), ("car", "toy"), ("van", "lorry")]
    assert close[0].cosine == pytest.approx(np.cos(np.radians(3)), abs=1e-6)
    assert close[1].message == "'lorry' and 'toy' mean 'truck' and no label, but their vectors are close (cosine 0.993)"


def test_close_vectors_of_one_class_are_what_synonyms_are_for():
    features = np.ones((2, 1), np.float32)

    assert "close_vectors" not in kinds(check_dictionary(dictionary_of(("car", ["car", "sedan"])), features))


def test_an_equal_text_is_not_reported_a_second_time_by_its_vector():
    findings = check_dictionary(dictionary_of(("car", ["SUV"]), ("truck", ["suv"])), np.ones((2, 1), np.float32))

    assert kinds(findings).count("similar_text") == 1
    assert "close_vectors" not in kinds(findings)


def test_vectors_of_another_dictionary_are_refused():
    with pytest.raises(InputError, match=r"1 texts need as many vectors, got an array of shape \(2, 4\)"):
        check_dictionary(dictionary_of(("car", ["car"])), np.ones((2, 4), np.float32))


def test_the_quirks_of_afov_are_found():
    space = LabelSpace.load(LABEL_SPACES / "nuscenes16.yaml")
    findings = check_dictionary(ClassDictionary.load(DICTIONARIES / "nuscenes.yaml", space))

    assert [(f.level, f.texts[0]) for f in findings if f.kind == "same_text"] == [
        ("warning", "scooter"),
        ("note", "pavilion"),
    ]
    assert kinds(findings).count("sink") == 11
    assert set(kinds(findings)) == {"same_text", "sink"}


@given(st.text(min_size=1, max_size=20))
def test_case_and_hyphens_never_matter(text):
    assert spelling_key(text)
    assert spelling_key(f"{text} x-ray".lower()) == spelling_key(f"{text} X_ray".lower())
