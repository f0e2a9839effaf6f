"""setup.py, package.xml, Makefile and the files they speak of agree with each other."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Folders of config/ that no robot needs.
FOR_TRAINING = ("recipes", "dictionaries", "teachers", "templates", "splits")
ONLY_FROM_PYPI = {"onnxruntime", "numba", "llvmlite", "rosbags", "torch", "triton"}  # llvmlite comes with numba
NAMES_IN_ROSDEP = {
    "PIL": "python3-pil",
    "jsonschema": "python3-jsonschema",
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "scipy": "python3-scipy",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
    "tf2_ros": "tf2_ros_py",
}


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    """What setup.py gives to setuptools."""
    import setuptools

    captured: dict[str, Any] = {}
    before, original = Path.cwd(), setuptools.setup
    os.chdir(ROOT)
    setuptools.setup = lambda **arguments: captured.update(arguments)
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        setuptools.setup = original
        os.chdir(before)
    return captured


@pytest.fixture(scope="module")
def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def requirement(line: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", line)
    assert match, line
    return match.group().lower()


class TestSetup:
    def test_only_the_robot_side_is_packaged(self, setup_arguments: dict[str, Any]) -> None:
        assert {package.split(".")[0] for package in setup_arguments["packages"]} == {"ov_seg_ros"}
        folders = {path.parent for path in (ROOT / "ov_seg_ros").rglob("*.py")}
        assert set(setup_arguments["packages"]) == {".".join(folder.relative_to(ROOT).parts) for folder in folders}, (
            "a folder without __init__.py is left out"
        )

    def test_an_editable_install_is_the_checkout(self, setup_arguments: dict[str, Any]) -> None:
        """With it, setuptools puts the checkout itself on the path, so that ov-seg finds the folder training."""
        assert setup_arguments["package_dir"] == {"": "."}

    def test_robots_need_no_training_library(self, setup_arguments: dict[str, Any]) -> None:
        needed = {requirement(line) for line in setup_arguments["install_requires"]}
        assert not needed & {"torch", "onnx", "open_clip_torch", "transformers", "embreex", "matplotlib", "spconv"}
        assert set(setup_arguments["extras_require"]) == {
            *("ros", "train", "teachers", "gpu", "triton", "viz", "test", "synthetic")
        }

    def test_every_import_of_the_robot_side_is_a_dependency(self, setup_arguments: dict[str, Any]) -> None:
        extras = setup_arguments["extras_require"]
        lines = [*setup_arguments["install_requires"], *extras["viz"], *extras["triton"]]
        provided = {{"pyyaml": "yaml", "pillow": "PIL"}.get(each, each) for each in map(requirement, lines)}
        for module in third_party(ROOT / "ov_seg_ros"):
            assert module in provided or is_ros(module) or module == "training", module

    def test_every_installed_file_exists(self, setup_arguments: dict[str, Any]) -> None:
        for folder, files in setup_arguments["data_files"]:
            assert files, f"nothing to install in {folder}"
            assert all((ROOT / file).is_file() for file in files)

    def test_every_file_of_the_operator_is_installed(self, setup_arguments: dict[str, Any]) -> None:
        installed = {file for _, files in setup_arguments["data_files"] for file in files}
        for folder in ("config", "launch"):
            for path in (ROOT / folder).rglob("*.*"):
                if not {*FOR_TRAINING, "__pycache__"} & set(path.parts):
                    assert str(path.relative_to(ROOT)) in installed

    def test_every_script_has_its_function(self, setup_arguments: dict[str, Any]) -> None:
        for script in setup_arguments["entry_points"]["console_scripts"]:
            module, function = script.split("=")[1].strip().split(":")
            tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
            assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, script


class TestManifest:
    def test_it_agrees_with_setup(self, manifest: ElementTree.Element, setup_arguments: dict[str, Any]) -> None:
        assert manifest.get("format") == "3"
        for key in ("name", "version", "license"):
            assert manifest.findtext(key) == setup_arguments[key]
        assert manifest.findtext("export/build_type") == "ament_python"
        assert (ROOT / "resource" / setup_arguments["name"]).is_file()

    def test_it_declares_what_a_distribution_provides(self, manifest: ElementTree.Element) -> None:
        declared = {element.text for element in manifest.findall("exec_depend")}
        for module in third_party(ROOT / "ov_seg_ros") | {"launch", "launch_ros", "ament_index_python"}:
            if module not in ONLY_FROM_PYPI | {"training"}:
                assert NAMES_IN_ROSDEP.get(module, module) in declared, module

    def test_training_stays_out(self, manifest: ElementTree.Element) -> None:
        assert not any("torch" in (element.text or "") for element in manifest)


class TestCommands:
    def test_the_makefile_explains_itself(self) -> None:
        listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for target in ("demo", "test", "bench", "check", "student"):
            assert re.search(rf"^  {target} ", listed, re.MULTILINE), target

    def test_an_unsupported_python_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        """A stand-in python that is too old, and one that is not there."""
        old = tmp_path / "python3.8"
        old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.8.1' && exit 0\nexit 1\n")
        old.chmod(0o755)
        for python in (str(old), "python-that-is-not-there"):
            refused = subprocess.run(
                ["make", "-s", "demo", f"PYTHON={python}", f"VENV={tmp_path}/venv"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert refused.returncode != 0
            assert "make PYTHON=python3.12" in refused.stderr

    def test_ci_runs_as_it_is(self) -> None:
        script = ROOT / ".ci" / "run"
        assert os.access(script, os.X_OK)
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert "make test" in script.read_text()


def third_party(folder: Path) -> set[str]:
    """Top-level modules imported anywhere under a folder that are neither ours nor Python's."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"ov_seg_ros"}


def is_ros(module: str) -> bool:
    return module.endswith(("_msgs", "_interfaces")) or module in {"rclpy", "tf2_ros", "ament_index_python"}
