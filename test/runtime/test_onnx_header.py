"""The hand-written protobuf reader against the ``onnx`` package, and against damage."""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.runtime.onnx_header import read_onnx_header


def last_axis(node: onnx.ValueInfoProto) -> int:
    """0 where it has a name instead of a size."""
    return node.type.tensor_type.shape.dim[-1].dim_value


def test_agrees_with_the_onnx_package(tiny_model: Path) -> None:
    header = read_onnx_header(tiny_model.read_bytes(), "tiny")
    model = onnx.load(tiny_model)
    assert header.ir_version == model.ir_version
    assert header.producer == model.producer_name
    assert header.opsets == {opset.domain: opset.version for opset in model.opset_import}
    assert header.inputs == {node.name: last_axis(node) for node in model.graph.input}
    assert header.outputs == {node.name: last_axis(node) for node in model.graph.output}
    assert header.metadata == {entry.key: entry.value for entry in model.metadata_props}


def test_reads_every_kind_of_field(tiny_model: Path) -> None:
    model = onnx.load(tiny_model)
    model.producer_name, model.model_version, model.doc_string = "somebody", -1, "x" * 300  # -1 takes ten bytes
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 3))
    header = read_onnx_header(model.SerializeToString(), "tiny")
    assert header.producer == "somebody"
    assert header.opsets == {"": 17, "com.example": 3}


def test_a_file_cut_anywhere_raises_or_lacks_its_end(tiny_model: Path) -> None:
    content = tiny_model.read_bytes()
    whole = read_onnx_header(content, "tiny")
    survivors = 0
    for length in range(len(content)):
        try:
            header = read_onnx_header(content[:length], "tiny")
        except ModelError:
            continue
        survivors += 1  # a cut between two fields of the file leaves a valid, shorter file
        assert header.metadata != whole.metadata
    assert survivors <= 2


def test_a_cut_file_is_called_damaged(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx is a damaged ONNX file: \d+ bytes are missing after its 300 bytes"):
        read_onnx_header(tiny_model.read_bytes()[:300], "m.onnx")


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04rest", r"it starts with b'PK\\x03\\x04rest'"),
        (b"\x08\x08", "not an ONNX file"),
    ],
)
def test_other_files_are_not_onnx_files(content: bytes, seen: str) -> None:
    with pytest.raises(ModelError, match=seen):
        read_onnx_header(content, "m.onnx")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(content: bytes) -> None:
    with pytest.raises(ModelError):
        read_onnx_header(content, "m.onnx")


@given(position=st.integers(0, 1400), value=st.integers(0, 255))
def test_one_changed_byte_raises_nothing_else(tiny_model: Path, position: int, value: int) -> None:
    content = bytearray(tiny_model.read_bytes())
    content[position % len(content)] = value
    with contextlib.suppress(ModelError):
        read_onnx_header(bytes(content), "m.onnx")
