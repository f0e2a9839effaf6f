"""Every benchmark answers --help, and those of a few seconds run whole on the smallest setting there is."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="benchmarks measure the training side as well")

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text())

pytestmark = pytest.mark.xdist_group("benchmarks")


def run(name: str, json_file: Path, *arguments: str) -> dict:
    importlib.import_module(f"benchmarks.{name}").main([*arguments, "--json", str(json_file)])
    return json.loads(json_file.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as exit_:
        importlib.import_module(f"benchmarks.{name}").main()
    assert exit_.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.fixture
def one_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first of the synthetic drives."""
    pytest.importorskip("embreex", reason="the ray tracer is not installed")
    from benchmarks import afi

    monkeypatch.setattr(afi, "HELD_OUT", afi.HELD_OUT[:1])


@pytest.mark.usefixtures("one_drive")
def test_afi(tmp_path: Path) -> None:
    (row,) = run("afi", tmp_path / "new" / "a.json", "--scans", "1", "--rounds", "1")["rows"]
    assert row["source"] == "drive_0101_spinning32"
    assert set(row["scores"]) == {"student", "released", "default"}
    assert row["scores"]["student"]["changed"] == 0 < row["scores"]["released"]["changed"]
    assert all(ms > 0 for times in row["ms"].values() for ms in times.values())


def test_teacher(tmp_path: Path) -> None:
    pytest.importorskip("embreex", reason="the ray tracer is not installed")
    found = run("teacher", tmp_path / "t.json", "--severity", "0", "--seeds", "1", "--scans", "1")["0.0"]
    assert 50 < found["miou"] <= found["labelled_miou"] <= 100
    assert len(found["iou"]) == 16
    assert any(not math.isnan(each) for each in found["iou"].values())


def test_occlusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import occlusion

    street = occlusion.street_views(32, seeds=(0,))
    monkeypatch.setattr(occlusion, "street_views", lambda beams: street)
    figures = run("occlusion", tmp_path / "o.json")
    assert set(figures["street, 32 beams"]) == set(occlusion.FILTERS)
    assert capsys.readouterr().out.count("| street, 32 beams |") == len(occlusion.FILTERS)
