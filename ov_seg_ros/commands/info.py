"""Print what a model file knows about itself: classes, voxel grid, features, recipe, where it comes from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help=".onnx file (default: the shipped one)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> None:
    """Prints the description.

    Raises:
        ModelError: the file is no student.
    """
    from ov_seg_ros.commands.options import model_path
    from ov_seg_ros.runtime.model_file import describe_model

    content = describe_model(model_path(args))
    if args.json:
        print(json.dumps(content, indent=2))
        return
    width = max(len(key) for key in content)
    for key, value in content.items():
        if key != "label_space":  # the classes stand in a line of their own; --json has the colours and texts too
            print(f"{key:<{width}}  {_as_text(value)}")


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_as_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_as_text(item) for item in value) or "none"
    return str(value)
