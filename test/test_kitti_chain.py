"""The benchmark of the real chain, on a thinned copy of a few frames."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="students are trained")

from benchmarks import kitti_chain

DATA = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
needs_data = pytest.mark.skipif(
    bool(kitti_chain.missing_data(DATA)), reason=f"needs kitti_raw, kitti_object, masks_2d and semantickitti in {DATA}"
)
pytestmark = pytest.mark.xdist_group("benchmarks")

THINNED = 8
"""Every so many points of a scan are kept, which makes its training step cheap."""


def test_without_data_nothing_is_measured(tmp_path, capsys):
    kitti_chain.main(["--json", str(tmp_path / "a.json")])
    assert "skipped: give --data FOLDER" in capsys.readouterr().out
    kitti_chain.main(["--data", str(tmp_path), "--json", str(tmp_path / "a.json")])
    assert f"skipped: there is no {tmp_path / 'kitti_raw' / '2011_09_26'}" in capsys.readouterr().out
    assert not (tmp_path / "a.json").exists()


def test_means_and_spreads():
    values = kitti_chain._mean_and_spread("miou", [0.2, 0.4, 0.6])
    assert values == pytest.approx({"miou_mean": 0.4, "miou_std": 0.2})
    assert kitti_chain._mean_and_spread("miou", [0.3]) == {"miou_mean": 0.3, "miou_std": 0.0}
    assert kitti_chain._mean_and_spread("miou", [None]) == {"miou_mean": None, "miou_std": None}


def thin(source: Path, target: Path, columns: int, dtype: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    np.fromfile(source, dtype).reshape(-1, columns)[::THINNED].tofile(target)


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two frames of the drive, one of the unrelated ones, one labelled scan and one without labels."""
    root = tmp_path / "data"
    link(DATA / kitti_chain.MASKS, root / kitti_chain.MASKS)
    for path in (DATA / kitti_chain.RAW).glob("calib_*.txt"):
        link(path, root / kitti_chain.RAW / path.name)
    frames = [
        (kitti_chain.RAW, "velodyne_points/data", "image_02/data", "0000000000"),
        (kitti_chain.RAW, "velodyne_points/data", "image_02/data", "0000000008"),
        (kitti_chain.OBJECT, "velodyne", "image_2", "000002"),
    ]
    for part, scans, images, stem in frames:
        thin(DATA / part / scans / f"{stem}.bin", root / part / scans / f"{stem}.bin", 4, "<f4")
        link(DATA / part / images / f"{stem}.png", root / part / images / f"{stem}.png")
    calibration = kitti_chain.OBJECT / "calib" / "000002.txt"
    link(DATA / calibration, root / calibration)
    for stem in ("000000", "000003"):
        scan = kitti_chain.TEST / "velodyne" / f"{stem}.bin"
        thin(DATA / scan, root / scan, 4, "<f4")
    truth = kitti_chain.TEST / "labels" / "000000.label"
    thin(DATA / truth, root / truth, 1, "<u4")
    return root


@needs_data
def test_masks_to_scores_and_again_from_what_is_there(data, tmp_path, capsys):
    arguments = ["--data", str(data), "--work", str(tmp_path / "work"), "--seeds", "1", "--steps", "1"]
    kitti_chain.main([*arguments, "--json", str(tmp_path / "new" / "a.json")])
    result = json.loads((tmp_path / "new" / "a.json").read_text())
    assert (result["training_scans"], result["test_scans"]) == (3, ["semantickitti_00/000000"])
    assert 0.1 < result["labelled_share"] < 0.2
    rows = {row["name"]: row for row in result["rows"]}
    alone = ("synthetic student", "kitti_chain", "fine-tuned on KITTI")
    assert list(rows) == [f"{name}{afi}" for name in alone for afi in ("", " + AFI")]
    # One step from the shipped weights leaves most of what they know, one from random weights teaches nothing yet.
    assert rows["kitti_chain"]["miou_mean"] < 0.2 < rows["fine-tuned on KITTI"]["miou_mean"]
    assert set(rows["kitti_chain"]["iou"]) >= {"car", "driveable_surface", "manmade", "vegetation"}
    assert "barrier" not in result["shared_classes"]
    assert "3 scans with labels on" in capsys.readouterr().out

    kitti_chain.main([*arguments, "--json", str(tmp_path / "b.json")])
    again = json.loads((tmp_path / "b.json").read_text())
    assert (again["rows"], again["train_seconds"]) == (result["rows"], result["train_seconds"])
