"""YAML of recipes, read strictly."""

import pytest
import yaml

from ov_seg_ros.core.errors import ConfigError
from training.config import load_keys


def test_extending_changes_single_keys_at_any_depth(tmp_path):
    (tmp_path / "base.yaml").write_text("a: 1\nb: {c: {d: 2, e: [3, 4]}, f: 5}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nb: {c: {e: [6]}}\n")
    assert load_keys(tmp_path / "mine.yaml") == {"a": 1, "b": {"c": {"d": 2, "e": [6]}, "f": 5}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", r"mine\.yaml: line 3: 'a' stands twice; join the two"),
        (b"a: {b: 1, b: 2}\n", r"mine\.yaml: line 1: 'b' stands twice"),
        (b"a: [", r"recipe .*mine\.yaml is no YAML"),
        (b"a: \xff\xfe\n", r"recipe .*mine\.yaml is no YAML: 'utf-8'"),
        (b"extends: mine.yaml\n", r"recipe .*mine\.yaml extends itself, by way of no other"),
        (b"extends: other.yaml\n", r"recipe .*mine\.yaml extends itself, by way of .*other\.yaml"),
        (
            b"extends: nothing.yaml\n",
            r"recipe .*nothing\.yaml does not exist; recipes that come along: .*synthetic_small",
        ),
    ],
)
def test_broken_recipes_are_named(tmp_path, content, message):
    (tmp_path / "mine.yaml").write_bytes(content)
    (tmp_path / "other.yaml").write_text("extends: mine.yaml\n")
    with pytest.raises(ConfigError, match=message):
        load_keys(tmp_path / "mine.yaml")


def test_anchors_may_be_merged_over(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml_text := "a: &base {b: 1, c: 2}\nd: {<<: *base, c: 3}\n")
    assert load_keys(tmp_path / "mine.yaml") == yaml.safe_load(yaml_text)
