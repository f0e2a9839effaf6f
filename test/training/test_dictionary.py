"""Reading class dictionaries: what a file means, and the error for everything that it cannot mean."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import DICTIONARIES, ClassDictionary

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("OV_SEG_SHARED", ROOT.parent / "shared"))
LABEL_SPACES = ROOT / "config" / "label_spaces"
YARD = LabelSpace("yard", ("forklift", "pallet", "floor"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
GROUPS = {
    "name": "yard",
    "templates": ["a {}."],
    "groups": [
        {"name": "forklift", "class": "forklift", "texts": ["forklift", "lift truck"]},
        {"name": "sky", "class": None, "texts": ["sky"]},
        {"name": "reach truck", "class": "forklift", "texts": ["reach truck"]},
        {"name": "pallet", "class": "pallet", "texts": ["pallet"]},
    ],
}


def read(**changes):
    return ClassDictionary.from_dict({**GROUPS, **changes}, YARD, "yard.yaml")


def read_row(**changes):
    return read(groups=[{**GROUPS["groups"][0], **changes}])


def load_shipped(name):
    path = DICTIONARIES / f"{name}.yaml"
    space = yaml.safe_load(path.read_text())["label_space"]
    return ClassDictionary.load(path, LabelSpace.load(LABEL_SPACES / f"{space}.yaml"))


def test_texts_groups_and_classes_keep_the_order_of_the_file():
    dictionary = read()

    assert dictionary.texts == ("forklift", "lift truck", "sky", "reach truck", "pallet")
    assert dictionary.groups == ("forklift", "sky", "reach truck", "pallet")
    assert dictionary.text_group.tolist() == [0, 0, 1, 2, 3]
    assert dictionary.text_group.dtype == np.int32
    assert dictionary.text_class.tolist() == [0, 0, 255, 0, 1]
    assert dictionary.text_class.dtype == np.uint8
    assert dictionary.group_class.tolist() == [0, 255, 0, 1]
    assert len(dictionary) == 5
    assert dictionary.prompts(1) == ("a lift truck.",)


def test_a_plain_list_of_classes_is_a_dictionary(tmp_path):
    file = tmp_path / "yard.yaml"
    file.write_text("name: yard\nlabel_space: yard\ntemplates: photo\nclasses: [floor, forklift]\nsinks: [sky]\n")

    dictionary = ClassDictionary.load(file, YARD)

    assert dictionary.texts == dictionary.groups == ("floor", "forklift", "sky")
    assert dictionary.text_class.tolist() == [2, 0, 255]
    assert dictionary.prompts(0) == ("a photo of a floor.",)


def test_classes_may_come_with_their_texts_and_underscores_of_bare_names_become_spaces():
    space = LabelSpace("s", ("traffic_cone", "car"), ((1, 1, 1), (2, 2, 2)))

    dictionary = ClassDictionary.from_dict(
        {"name": "d", "classes": {"traffic_cone": None, "car": ["car", "my_sedan"]}}, space
    )

    assert dictionary.texts == ("traffic cone", "car", "my_sedan")
    assert dictionary.groups == ("traffic_cone", "car")
    assert dictionary.templates == ("{}",)


def test_a_label_space_with_texts_is_a_dictionary_already():
    space = LabelSpace("s", ("cone", "car"), ((1, 1, 1), (2, 2, 2)), (("traffic cone",), ()))

    dictionary = ClassDictionary.from_label_space(space, ("the {}",))

    assert dictionary.texts == ("traffic cone", "car")
    assert dictionary.prompts(1) == ("the car",)


def test_writing_and_reading_gives_the_same_dictionary():
    dictionary = read()
    again = ClassDictionary.from_dict(dictionary.to_dict(), YARD)

    assert again.to_dict() == dictionary.to_dict()
    assert again.hash == dictionary.hash
    assert len(dictionary.hash) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"templates": ["the {}."]},
        {"groups": GROUPS["groups"][:-1]},
        {"groups": GROUPS["groups"][::-1]},
        {"sinks": ["water"]},
        {"groups": [{**GROUPS["groups"][0], "name": "stacker"}, *GROUPS["groups"][1:]]},
        {"groups": [{**GROUPS["groups"][0], "class": "floor"}, *GROUPS["groups"][1:]]},
    ],
)
def test_the_hash_sees_every_change_that_changes_results(changes):
    assert read(**changes).hash != read().hash


def test_the_hash_does_not_see_the_name_or_the_colours():
    repainted = LabelSpace(YARD.name, YARD.class_names, ((0, 0, 0),) * 3)

    assert read(name="other").hash == read().hash
    assert ClassDictionary.from_dict(GROUPS, repainted).hash == read().hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": []}, "unknown key 'group'; did you mean groups?"),
        ({"name": 7}, "name: expected the name"),
        ({"label_space": "nuscenes16"}, "made for the label space 'nuscenes16', but used with 'yard'"),
        ({"classes": ["floor"]}, "either groups"),
        ({"groups": []}, "at least one group"),
        ({"groups": "forklift"}, "groups: expected a list"),
        ({"sinks": "sky"}, "sinks: expected a list of texts, got 'sky'"),
        ({"sinks": ["sky"]}, "group names must differ, these stand twice: 'sky'"),
        ({"templates": "vild"}, "templates: no template set is called 'vild'; did you mean vild14?"),
        ({"templates": 3}, "templates: expected the name of a set"),
        ({"templates": []}, "at least one template"),
        ({"templates": ["a photo"]}, "one {}, got 'a photo'"),
        ({"templates": ["{} {}"]}, "one {}, got '{} {}'"),
        ({"templates": ["{}", "{}"]}, "these templates stand twice"),
    ],
)
def test_mistakes_of_a_file_are_named(changes, message):
    with pytest.raises(ConfigError) as error:
        read(**changes)
    assert message in str(error.value)
    assert str(error.value).startswith("yard.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ["x"]}, "groups[0]: unknown key 'text'; did you mean texts?"),
        ({"class": "forklft"}, "label space 'yard' has no class 'forklft'; did you mean forklift?"),
        ({"class": ["floor"]}, "has no class ['floor']"),
        ({"texts": []}, "groups[0] 'forklift': texts: no texts"),
        ({"texts": "forklift"}, "expected a list of texts, got 'forklift'"),
        ({"texts": ["x", "x"]}, "a text stands in a group once, these stand twice: 'x'"),
        ({"texts": [False]}, "expected a text, got False; put numbers, yes, no"),
        ({"texts": [" x"]}, "no spaces at its ends"),
        ({"texts": ["x  y"]}, "single ones inside"),
        ({"texts": [""]}, "got ''"),
        ({"repeats": ["forklift"]}, "repeats names 'forklift', which does not stand twice"),
        ({"repeats": [["x"]]}, "expected a text, got ['x']"),
    ],
)
def test_mistakes_of_a_group_are_named(changes, message):
    with pytest.raises(ConfigError) as error:
        read_row(**changes)
    assert message in str(error.value)
    assert str(error.value).startswith("yard.yaml: groups[0]")


def test_a_group_without_class_key_is_no_silent_sink():
    with pytest.raises(ConfigError, match="missing key class; class: null makes the group a sink"):
        read(groups=[{"name": "a", "texts": ["a"]}])


def test_a_text_may_stand_twice_on_purpose():
    dictionary = read_row(texts=["x", "y", "x"], repeats=["x"])

    assert dictionary.texts == ("x", "y", "x")
    assert ClassDictionary.from_dict(dictionary.to_dict(), YARD).texts == dictionary.texts


@pytest.mark.parametrize("classes", [["floor", "floor"], ["floor", 5], {"flor": ["x"]}, {"floor": []}, "floor"])
def test_mistakes_in_a_list_of_classes_are_named(classes):
    with pytest.raises(ConfigError, match="classes"):
        ClassDictionary.from_dict({"name": "d", "classes": classes}, YARD)


def test_yaml_keys_that_stand_twice_are_refused_with_their_line(tmp_path):
    file = tmp_path / "yard.yaml"
    file.write_text("name: yard\nclasses:\n  floor: [floor]\n  pallet: [pallet]\n  floor: [ground]\n")

    with pytest.raises(ConfigError, match=r"yard\.yaml: line 5: 'floor' stands twice"):
        ClassDictionary.load(file, YARD)


@pytest.mark.parametrize("content", [b"name: [", b"\xff\xfe\x00", b"", b"- a\n- b\n"])
def test_files_that_are_no_dictionary_are_named(tmp_path, content):
    file = tmp_path / "yard.yaml"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"yard\.yaml"):
        ClassDictionary.load(file, YARD)


def test_a_missing_file_lists_those_that_come_along(tmp_path):
    with pytest.raises(ConfigError, match=r"does not exist; dictionaries that come along: .*nuscenes"):
        ClassDictionary.load(tmp_path / "none.yaml", YARD)


@pytest.mark.parametrize("path", sorted(DICTIONARIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_dictionary_reads(path):
    dictionary = load_shipped(path.stem)

    assert dictionary.name == path.stem
    assert ClassDictionary.from_dict(dictionary.to_dict(), dictionary.label_space).hash == dictionary.hash


def test_nuscenes_has_the_groups_and_sizes_of_afov():
    dictionary = load_shipped("nuscenes")
    sizes = np.bincount(dictionary.text_group)

    # methods of the paper: 31 groups in the order of its released code, 175 texts
    assert sizes.tolist() == [
        *(8, 7, 3, 4, 4, 4, 5, 4, 5, 4, 3, 6, 2, 2, 4, 5, 6, 3, 5, 2, 3, 4, 3, 8, 4, 6, 4, 47, 4, 5, 1)
    ]
    assert len(dictionary) == 175
    assert (dictionary.texts[0], dictionary.texts[23], dictionary.texts[174]) == (
        "car",
        "crane",
        "bonnet under the picture",
    )


def test_the_groups_of_nuscenes_mean_what_its_lidarseg_classes_mean():
    dictionary = load_shipped("nuscenes")
    rows = yaml.safe_load((LABEL_SPACES / "nuscenes_lidarseg_to_nuscenes16.yaml").read_text())["classes"]
    target = {row["name"]: row["target"] for row in rows}

    assert set(dictionary.groups) == set(target) - {"noise"}
    names = [*dictionary.label_space.class_names]
    for group, class_id in zip(dictionary.groups, dictionary.group_class, strict=True):
        assert (None if class_id == 255 else names[class_id]) == target[group]


def test_openscene_has_its_43_words_in_order_of_its_mapping():
    dictionary = load_shipped("nuscenes_openscene")

    assert len(dictionary) == 43
    assert np.bincount(dictionary.text_class).tolist() == [2, 1, 1, 1, 5, 1, 2, 1, 5, 1, 1, 3, 1, 6, 4, 8]
    assert dictionary.texts[20:24] == ("road", "curb", "traffic island", "traffic median")
    assert dictionary.prompts(20) == ("a road in a scene",)


def test_cityscapes_stands_in_the_order_of_its_train_ids():
    dictionary = load_shipped("kitti_cityscapes")
    names = dictionary.label_space.class_names

    assert (dictionary.texts[0], dictionary.texts[10], dictionary.texts[18]) == ("road", "sky", "bicycle")
    assert [names[c] if c != 255 else None for c in dictionary.text_class[[0, 8, 10, 11, 12, 16]]] == [
        *("driveable_surface", "vegetation", None, "pedestrian", None, None)
    ]


@pytest.mark.skipif(not (SHARED / "data" / "masks_2d").is_dir(), reason="needs shared/data/masks_2d")
def test_cityscapes_reads_the_masks_that_were_exported_with_it():
    texts = list(load_shipped("kitti_cityscapes").texts)
    train_ids = json.loads((SHARED / "data" / "masks_2d" / "classes.json").read_text())

    assert [train_ids[str(i)] for i in range(19)] == texts
    for file in (SHARED / "data" / "afov_semantic").rglob("texts.json"):
        assert json.loads(file.read_text()) == texts


def test_the_page_for_users_is_true():
    page = (ROOT / "docs" / "vocabulary.md").read_text()
    five_lines = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    names = ("forklift", "pallet", "floor", "wall", "person")
    yard = LabelSpace("my_yard", names, ((1, 2, 3),) * 5)

    assert len(ClassDictionary.from_dict(five_lines, yard)) == 7
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    assert sorted(row[0] for row in rows) == sorted(path.stem for path in DICTIONARIES.glob("*.yaml"))
    for name, space, texts, groups in rows:
        dictionary = load_shipped(name)
        found = (dictionary.label_space.name, len(dictionary), len(dictionary.groups))
        assert found == (space, int(texts), int(groups)), name
