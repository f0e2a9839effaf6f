from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
import pytest
from tiny_model import TINY_GRID, tiny_description, write_tiny_model

import ov_seg_ros
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.student_description import METADATA_KEY
from ov_seg_ros.runtime.model_file import (
    describe_model,
    load_model_file,
    shipped_model_path,
)


def rewrite_metadata(source: Path, target: Path, **changes: object) -> Path:
    model = onnx.load(source)
    content = json.loads(model.metadata_props[0].value) | changes
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(content)})
    onnx.save(model, target)
    return target


def test_description_round_trip(tmp_path: Path) -> None:
    written = write_tiny_model(tmp_path / "a.onnx", (0.0, 1.0, 2.0), ("a", "b", "c"), num_levels=2)
    assert load_model_file(tmp_path / "a.onnx").description == written
    assert load_model_file(str(tmp_path / "a.onnx")).description.grid == TINY_GRID


def test_sha256_is_that_of_the_bytes(tiny_model: Path) -> None:
    expected = hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert load_model_file(tiny_model).sha256 == expected


def test_describe_model_is_complete_and_json(tiny_model: Path) -> None:
    described = describe_model(tiny_model)
    assert json.loads(json.dumps(described)) == described
    assert described["classes"] == ["low", "high"]
    assert described["opset"] == 17
    assert described["bytes"] == tiny_model.stat().st_size
    assert described["recipe_sha256"] == tiny_description().recipe_sha256
    assert described["graph_inputs"][0] == "features"
    assert "level2_pair_centre" in described["graph_inputs"]
    assert described["graph_outputs"] == ["logits"]


def test_missing_file(tmp_path: Path) -> None:
    message = (
        r"no\.onnx does not exist; correct the path, or export one with `python -m training export` in a checkout$"
    )
    with pytest.raises(ModelError, match=message):
        load_model_file(tmp_path / "no.onnx")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a directory; expected an \.onnx file"):
        load_model_file(tmp_path)


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").symlink_to("a.onnx")  # a loop: root, too, cannot read it
    with pytest.raises(ModelError, match="cannot be read: "):
        load_model_file(tmp_path / "a.onnx")


def test_not_an_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("name: my model\n")
    with pytest.raises(ModelError, match="is not an ONNX file"):
        load_model_file(tmp_path / "a.onnx")


def test_truncated_file(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(tiny_model.read_bytes()[:-10])
    with pytest.raises(ModelError, match="is a damaged ONNX file: 10 bytes are missing"):
        load_model_file(tmp_path / "a.onnx")


def test_lfs_pointer(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(ModelError, match="is a Git LFS pointer, not the model itself; fetch it with `git lfs pull`"):
        load_model_file(tmp_path / "a.onnx")


def test_onnx_file_of_somebody_else(tiny_model: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_model)
    model.producer_name = "pytorch"
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(
        ModelError,
        match=r"not exported by ov_seg_ros \(no metadata 'ov_seg_ros', written by pytorch\); export one with `python",
    ):
        load_model_file(tmp_path / "a.onnx")


@pytest.mark.parametrize(("found", "remedy"), [(99, "update ov_seg_ros"), (0, "export the student again")])
def test_other_format_version(tiny_model: Path, tmp_path: Path, found: int, remedy: str) -> None:
    path = rewrite_metadata(tiny_model, tmp_path / "a.onnx", format=found)
    with pytest.raises(ModelError, match=rf"a\.onnx: model format {found}, .*{remedy}"):
        load_model_file(path)


def test_a_changed_recipe_does_not_pass(tiny_model: Path, tmp_path: Path) -> None:
    path = rewrite_metadata(tiny_model, tmp_path / "a.onnx", recipe={"epochs": 1000})
    with pytest.raises(ModelError, match="recipe was changed after the export"):
        load_model_file(path)


def test_shipped_model_is_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ov_seg_ros, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ModelError, match=r"models/student\.onnx is missing: run `make student`"):
        shipped_model_path()
    with pytest.raises(ModelError, match=r"models/student\.onnx is missing: run `make student`"):
        load_model_file(tmp_path / "models" / "student.onnx")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "student.onnx").touch()
    assert shipped_model_path() == tmp_path / "models" / "student.onnx"
