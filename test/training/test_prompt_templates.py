"""Template sets of the literature, and what a template must look like."""

import pytest

from ov_seg_ros.core.errors import ConfigError
from training.prompt_templates import TEMPLATES, fill_template, load_templates


@pytest.mark.parametrize(
    ("name", "count"),
    [("vild14", 14), ("clip80", 80), ("maskclip85", 85), ("plain", 1), ("photo", 1), ("openscene", 1), ("cat_seg", 1)],
)
def test_the_sets_have_their_published_size(name, count):
    assert len(load_templates(name)) == count


def test_every_file_is_a_set():
    for path in TEMPLATES.glob("*.yaml"):
        assert all("{}" in template for template in load_templates(path.stem))


def test_maskclip_adds_five_scenes_to_those_of_clip():
    assert load_templates("maskclip85")[:80] == load_templates("clip80")
    assert all("in the scene" in template for template in load_templates("maskclip85")[80:])


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'clip08'; did you mean clip80\?"):
        load_templates("clip08")
    with pytest.raises(ConfigError, match=r"known: .*vild14.*; or give a list"):
        load_templates("../label_spaces/nuscenes16")


def test_braces_of_texts_and_templates_stay():
    assert fill_template("a {} with {x}", "{0} cart") == "a {0} cart with {x}"
