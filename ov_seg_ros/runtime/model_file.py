"""Student files: one ONNX file holds the network and everything else that was trained."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ov_seg_ros
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.student_description import METADATA_KEY, StudentDescription
from ov_seg_ros.runtime.onnx_header import OnnxHeader, read_onnx_header

SHIPPED_MODEL = Path("models") / "student.onnx"
EXPORT = "export one with `python -m training export` in a checkout"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class ModelFile:
    """A student file, read once: what is hashed and described is what runs.

    Attributes:
        path: where it came from.
        content: all bytes.
        header: what the ONNX file says about itself.
        description: what the student says about itself.
    """

    path: Path
    content: bytes
    header: OnnxHeader
    description: StudentDescription

    @property
    def sha256(self) -> str:
        """Hash of the file, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def shipped_model_path() -> Path:
    """The student that comes with the package.

    Raises:
        ModelError: it is not there (a checkout without large files, or before ``make student``).
    """
    path = _shipped_path()
    if not path.is_file():
        raise _missing(path)
    return path


def load_model_file(path: str | Path) -> ModelFile:
    """Reads a student file and checks that this version can run it.

    Raises:
        ModelError: the file is missing, not an ONNX file, damaged, not a student, or of another format version.
    """
    path = Path(path)
    content = _read(path)
    header = read_onnx_header(content, str(path))
    if METADATA_KEY not in header.metadata:
        raise ModelError(
            f"{path} is an ONNX file, but not a student: it was not exported by ov_seg_ros (no metadata"
            f" {METADATA_KEY!r}, written by {header.producer or 'an unknown program'}); {EXPORT}"
        )
    description = StudentDescription.from_json(header.metadata[METADATA_KEY], str(path))
    return ModelFile(path, content, header, description)


def describe_model(path: str | Path) -> dict[str, Any]:
    """Everything ``ov-seg info`` prints, made of JSON types; raises like ``load_model_file``."""
    model = load_model_file(path)
    description = model.description
    return {
        "path": str(model.path),
        "bytes": len(model.content),
        "sha256": model.sha256,
        "name": description.name,
        "classes": list(description.label_space.class_names),
        "label_space": description.label_space.to_dict(),
        "grid": description.grid.to_dict(),
        "point_features": list(description.point_features),
        "uses_color": description.uses_color,
        "num_levels": description.num_levels,
        "recipe": description.recipe,
        "recipe_sha256": description.recipe_sha256,
        "provenance": description.provenance,
        "graph_inputs": list(model.header.inputs),
        "graph_outputs": list(model.header.outputs),
        "opset": model.header.opsets.get("", 0),
        "producer": model.header.producer,
    }


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"model {path} is a directory; expected an .onnx file")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise ModelError(f"model {path} cannot be read: {error.strerror}") from error
    if content.startswith(_LFS_POINTER):
        raise ModelError(f"{path} is a Git LFS pointer, not the model itself; fetch it with `git lfs pull`")
    return content


def _shipped_path() -> Path:
    return Path(ov_seg_ros.__file__).parent / SHIPPED_MODEL


def _missing(path: Path) -> ModelError:
    """`make student` is the remedy for the shipped student alone: it makes that one."""
    if path.absolute() == _shipped_path():
        return ModelError(
            f"the shipped student {path} is missing: run `make student` in a checkout, or name another model"
        )
    return ModelError(f"model {path} does not exist; correct the path, or {EXPORT}")
