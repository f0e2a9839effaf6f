"""What README.md and the other documents tell a reader to type or expect exists."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ("docs/afi.md", "docs/afov.md", "docs/transport.md", "docs/teachers.md", "docs/vocabulary.md")
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", *DOCS)]
README = (ROOT / "README.md").read_text()
SCHEMA = json.loads((ROOT / "ov_seg_ros/ros/segmentation_node.schema.json").read_text())


def command_lines(program: str) -> list[str]:
    """Lines of all bash blocks that start with a program, comments cut off."""
    blocks = [block for path in DOCUMENTS for block in re.findall(r"```bash\n(.*?)```", path.read_text(), re.DOTALL)]
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if line.startswith(program)})


def parameter_row(name: str, entry: dict[str, Any]) -> str:
    """The row of README's table for one parameter of the node."""
    if "enum" in entry:
        allowed = ", ".join(f"`{value}`" for value in entry["enum"])
    elif "minimum" in entry:
        allowed = f"{entry['minimum']:g} to {entry['maximum']:g}"
    else:
        allowed = {"boolean": "`true`, `false`", "array": "names", "string": "text"}[entry["type"]]
    live = " (live)" if entry.get("x-runtime") else ""
    return f"| `{name}`{live} | `{json.dumps(entry['default'])}` | {allowed} | {entry['description']} |"


@pytest.mark.parametrize("line", command_lines("make "))
def test_make_targets_exist(line: str) -> None:
    target = next(word for word in shlex.split(line)[1:] if "=" not in word)
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", command_lines("ov-seg "))
def test_command_lines_parse(line: str) -> None:
    from ov_seg_ros.cli import build_parser

    assert build_parser().parse_args(shlex.split(line)[1:]).run


def test_every_verb_is_shown() -> None:
    from ov_seg_ros.cli import VERBS

    assert {line.split()[1] for line in command_lines("ov-seg ")} == set(VERBS)


@pytest.mark.parametrize("line", command_lines("ros2 launch ov_seg_ros"))
def test_launch_commands_fit_the_launch_files(line: str) -> None:
    words = line.split()
    code = "".join(path.read_text() for path in (ROOT / "launch").glob("*.launch.py"))
    assert (ROOT / "launch" / words[3]).is_file()
    for word in words[4:]:
        assert f'"{word.split(":=")[0]}"' in code, word


def test_ov_seg_on_a_robot_is_where_colcon_puts_it() -> None:
    scripts = re.findall(r'"([\w-]+) = ', (ROOT / "setup.py").read_text())
    named = re.findall(r"`ros2 run ov_seg_ros ([\w-]+)", README)
    assert "ov-seg" in named
    assert set(named) <= set(scripts)
    assert "install_scripts=$base/lib/ov_seg_ros" in (ROOT / "setup.cfg").read_text()


@pytest.mark.parametrize("line", command_lines("python3 -m pip install onnxruntime"))
def test_pip_on_a_robot_leaves_numpy_as_the_distribution_has_it(line: str) -> None:
    """Libraries that were built for NumPy 1 do not run on NumPy 2; scipy of Ubuntu 22.04 wants one before 1.25."""
    words = set(shlex.split(line)[4:])
    assert words - {"onnxruntime", "numba", "rosbags"} in ({"numpy<2"}, {"numpy<1.25", pillow_requirement()})


def test_pip_on_a_robot_is_told_for_both_releases_of_ubuntu() -> None:
    assert len(command_lines("python3 -m pip install onnxruntime")) == 2
    assert command_lines("export PIP_BREAK_SYSTEM_PACKAGES") == ["export PIP_BREAK_SYSTEM_PACKAGES=1"]


def pillow_requirement() -> str:
    """What setup.py asks for."""
    (found,) = re.findall(r'"(pillow[^"]*)"', (ROOT / "setup.py").read_text())
    return str(found)


@pytest.mark.parametrize("line", command_lines("make student ARGS"))
def test_student_options_exist(line: str) -> None:
    from training.cli import _parser

    arguments = shlex.split(line)[2].removeprefix("ARGS=")
    assert _parser().parse_args(["student", *shlex.split(arguments)])


@pytest.mark.parametrize("line", [*command_lines("python -m training"), *command_lines("torchrun")])
def test_training_commands_exist(line: str) -> None:
    from training.chain import recipe_path
    from training.cli import _parser

    options = _parser().parse_args(shlex.split(line.partition("-m training ")[2]))
    assert not getattr(options, "teacher", None) or (ROOT / options.teacher).is_file()
    assert not hasattr(options, "recipe") or (ROOT / recipe_path(str(options.recipe))).is_file()


def test_parameter_table_is_the_schema() -> None:
    rows = {name: parameter_row(name, entry) for name, entry in SCHEMA["properties"].items()}
    (offset,) = SCHEMA["patternProperties"].values()
    rows["matching.offset_ms.<name>"] = parameter_row("matching.offset_ms.<name>", offset)
    missing = [row for row in rows.values() if row not in README]
    assert not missing, "put these rows into README.md:\n" + "\n".join(missing)
    assert len(rows) == len(
        re.findall(r"^\| `[^|]*` (?:\(live\) )?\| `[^|]*` \| [^|]* \| [^|]* \|$", README, re.MULTILINE)
    )


def test_topic_table_is_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "ov_seg_ros/ros").glob("*.py"))
    in_code = {re.sub(r"\{\w+\}", "<>", topic) for topic in re.findall(r'"(~/[^"]+)"', code)}
    in_readme = {re.sub(r"<\w+>", "<>", topic) for topic in re.findall(r"^\| `(~/[^`]+)`", README, re.MULTILINE)}
    assert in_code == in_readme


def test_report_keys_are_the_schema() -> None:
    from ov_seg_ros.report.schema import REPORT_SCHEMA

    section = README.split("## report.json")[1].split("\n## ")[0]
    documented = {
        key for row in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)
    }
    assert documented == set(REPORT_SCHEMA["properties"]) - {"schema_version"}


def test_defaults_in_the_parameter_file_are_the_schema() -> None:
    tree = yaml.safe_load((ROOT / "config/segmentation_node.yaml").read_text())["/**"]["ros__parameters"]
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    assert flat == {name: entry["default"] for name, entry in SCHEMA["properties"].items()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_paths_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:ov_seg_ros|training|test|config|launch|docs|benchmarks|\.ci)/[\w./-]*)`", path.read_text()
    )
    for each in named:
        assert (ROOT / each).exists(), each


def afi_rows() -> list[str]:
    """The rows of both tables of docs/afi.md, from the measurement."""
    rows = json.loads((ROOT / "benchmarks/results/afi.json").read_text())["rows"]
    lines = []
    for row in rows:
        scores, took = row["scores"], row["ms"]
        if scores:
            miou = [scores[name]["miou"] for name in ("student", "released", "default")]
            lines.append(" | ".join(f"{each:.1f}" for each in miou) + f" | {miou[2] - miou[0]:+.2f} |")
        lines.append(f"{row['points']:,} | {took['released']['cpu']:.0f} | {took['default']['cpu']:.0f} |")
    return lines


def test_the_tables_of_afi_are_the_measurement() -> None:
    shown = re.findall(r"^\| [\w ,()]+ \| (\d.*\|)$", (ROOT / "docs/afi.md").read_text(), re.MULTILINE)
    assert len(shown) == 9
    assert set(shown) <= set(afi_rows())


def cost_rows() -> list[str]:
    """The rows of the table of docs/afov.md, from the measurement."""
    lines = []
    for row in json.loads((ROOT / "benchmarks/results/stage_costs.json").read_text())["rows"]:
        disk = "" if row["disk_mb"] is None else f"{row['disk_mb']:,.0f}"
        network = f" ({row['network']})" if row["network"] else ""
        lines.append(
            f"| {row['source']} | {row['stage']}{network} | {row['cpu_s']:,.1f} | {row['wall_s']:,.1f} | {disk} |"
        )
    return lines


def test_the_table_of_costs_is_the_measurement() -> None:
    page = (ROOT / "docs/afov.md").read_text()
    missing = [row for row in cost_rows() if row not in page]
    assert not missing, "put these rows into docs/afov.md:\n" + "\n".join(missing)


def test_the_architecture_page_knows_every_file() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    files = [path for folder in ("ov_seg_ros", "training", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.py")]
    for path in files:
        if path.name not in {"__init__.py", "__main__.py"}:
            assert f"`{path.name}`" in page or str(path.relative_to(ROOT)) in page, path
    for file in re.findall(r"^\| `(\w+\.py)` \|", page, re.MULTILINE):
        assert file in {path.name for path in files}, f"{file} is gone"
