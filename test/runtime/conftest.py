"""A student for these tests; its answers can be worked out by hand (``test/tiny_model.py``)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from ov_seg_ros.runtime.segmenter import Segmenter


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class 0 below z = 0, class 1 above."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_tiny_model(path)
    return path


@pytest.fixture(scope="session")
def tiny_color_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a class 2 for everything a camera sees in red."""
    path = tmp_path_factory.mktemp("model") / "tiny_color.onnx"
    write_tiny_model(path, use_color=True)
    return path


@pytest.fixture(scope="session")
def segmenter(tiny_model: Path) -> Segmenter:
    return Segmenter.load(tiny_model, provider="cpu")
