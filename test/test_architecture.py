"""The import rules of ARCHITECTURE.md and the house rules that a program can check."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN = {"ov_seg_ros", "training"}
BASE = {"numpy", "yaml", "tqdm"}
ROS = {"rclpy", "tf2_ros", "tf2_msgs", "vision_msgs", "sensor_msgs", "std_msgs", "geometry_msgs", "nav_msgs"}
ROS |= {"diagnostic_msgs", "lifecycle_msgs", "rcl_interfaces", "builtin_interfaces", "rosgraph_msgs"}
ROS |= {"rosidl_runtime_py", "ament_index_python", "rpyutils"}

TEACHERS = {"open_clip", "timm", "transformers"}

# folder: (folders of ours it may import, other packages it may import), the table of ARCHITECTURE.md
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "core": ({"core"}, {"numpy", "yaml", "numba"}),
    "messages": ({"core", "messages"}, {"numpy", "PIL"}),
    "bags": ({"core", "messages", "bags"}, {"numpy", "rosbags", "yaml"}),
    "kernels": ({"kernels"}, {"numpy", "numba", "llvmlite"}),
    "refinement": ({"core", "refinement"}, {"numpy", "numba", "scipy"}),
    "gpu": ({"core", "gpu"}, {"numpy", "torch", "triton"}),
    "runtime": ({"core", "kernels", "gpu", "runtime"}, {"numpy", "onnxruntime", "torch", "triton"}),
    "bench": ({"core", "messages", "bags", "runtime", "bench", "training"}, {*BASE, "numba", "onnxruntime"}),
    "report": ({"core", "report"}, {"numpy", "PIL", "matplotlib", "jsonschema"}),
    "ros": ({"core", "messages", "refinement", "runtime", "bags", "report", "ros"}, {*BASE, "jsonschema", *ROS}),
    "commands": (
        {"core", "messages", "bags", "refinement", "runtime", "report", "bench", "commands", "training"},
        {*BASE, "PIL"},
    ),
    "cli": ({"core", "commands"}, set()),
    "training": (
        {"core", "messages", "bags", "kernels", "refinement", "runtime", "training"},
        {
            *BASE,
            "numba",
            "torch",
            "onnx",
            "onnxruntime",
            "scipy",
            "embreex",
            "spconv",
            "torchsparse",
            "PIL",
            "jsonschema",
            "matplotlib",
            *TEACHERS,
        },
    ),
}
REPLAY_ONLY = {"bags", "report"}  # of all the files in ros/, only those that replay a bag may import these
TRITON_ONLY = {"gpu", "torch", "triton"}  # of all the files in runtime/, only those of provider triton
FORBIDDEN_NAMES = ("util", "helper", "common", "manager", "misc")


def sources() -> list[Path]:
    return sorted(path for package in OWN for path in (ROOT / package).rglob("*.py"))


def folder_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "training" if parts[0] == "training" else parts[1]


def imported(path: Path) -> Iterator[str]:
    """Every module that the file names in an import, at the top or inside a function."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from ([f"{module}.{alias.name}" for alias in node.names] if module in OWN else [module])


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(), ids=name)
def test_imports_point_the_allowed_way(path: Path) -> None:
    folder = folder_of(path)
    if folder == "__init__":
        assert list(imported(path)) == []
        return
    assert folder in ALLOWED, f"{name(path)} is in no folder that ARCHITECTURE.md knows"
    ours, others = ALLOWED[folder]
    for module in imported(path):
        top, *rest = module.split(".")
        target = top if top == "training" or not rest else rest[0]
        if folder == "runtime" and {top, target} & TRITON_ONLY:
            assert path.stem.startswith("triton"), f"{name(path)} may not import {module}: only provider triton may"
        if top in OWN:
            if target in {"ov_seg_ros", "__version__"}:
                continue
            assert target in ours, f"{name(path)} may not import {module}"
            if folder == "ros" and target in REPLAY_ONLY:
                assert path.stem.startswith("replay"), f"{name(path)} may not import {module}: only a replay may"
        else:
            assert top in others | sys.stdlib_module_names, f"{name(path)} may not import {module}"


@pytest.mark.parametrize("path", sources(), ids=name)
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if path.stem in {"cli", "__main__"} or path.parent.name == "commands":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call not in {"print", "sys.exit", "exit", "quit", "os._exit"}, f"{name(path)}:{node.lineno}: {call}"


@pytest.mark.parametrize("path", sources(), ids=name)
def test_files_and_functions_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400, "split the file"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < 70, f"{name(path)}:{node.lineno}: {node.name} is too long"


@pytest.mark.parametrize("path", sources(), ids=name)
def test_names_say_what_a_file_or_class_is_for(path: Path) -> None:
    classes = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    for word in (path.stem, path.parent.name, *classes):
        assert not any(forbidden in word.lower() for forbidden in FORBIDDEN_NAMES), f"{name(path)}: {word}"


def test_tests_are_no_package() -> None:
    assert list((ROOT / "test").rglob("__init__.py")) == []
