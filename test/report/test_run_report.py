from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest

from ov_seg_ros.core.metrics import ConfusionMatrix
from ov_seg_ros.report.run_report import Accuracy, Latency, ModelIdentity, Percentiles, Provenance, RunReport
from ov_seg_ros.report.schema import REPORT_SCHEMA

TOTAL = Percentiles(1.0, 2.0, 3.0)


def matrix(truth: list[int], prediction: list[int]) -> ConfusionMatrix:
    result = ConfusionMatrix(2)
    result.update(np.array(truth, np.uint8), np.array(prediction, np.uint8))
    return result


def make_report(accuracy: Accuracy | None = None, total: Percentiles | None = TOTAL) -> RunReport:
    return RunReport(
        scans_in=10,
        scans_labelled=7,
        scans_dropped=2,
        points=700,
        latency=Latency(total, {"inference": Percentiles(0.5, 0.6, 0.7)}),
        provider="CPUExecutionProvider",
        model=ModelIdentity("0" * 64, ("road", "car")),
        label_histogram={"road": 600, "car": 90, "unknown": 10},
        provenance=Provenance("replay drive", "drive", "2026-01-01T00:00:00+00:00", {"cores": 2}, {"numpy": "2"}),
        cameras=("front",),
        accuracy=accuracy,
    )


def test_report_with_truth_holds_the_contract(tmp_path):
    whole, seen, unseen = matrix([0, 0, 1], [0, 1, 255]), matrix([0, 0], [0, 1]), matrix([1], [255])
    path = tmp_path / "deep" / "report.json"
    make_report(Accuracy(whole, seen, unseen)).write_json(path)
    content = json.loads(path.read_text())
    jsonschema.validate(content, REPORT_SCHEMA)
    assert (content["scans_in"], content["scans_labelled"], content["scans_dropped"]) == (10, 7, 2)
    assert content["scans_lost"] == 1
    assert content["latency_ms"]["p90"] == 2.0
    assert content["latency_ms"]["stages"]["inference"] == {"p50": 0.5, "p90": 0.6, "p99": 0.7}
    assert content["model"]["classes"] == ["road", "car"]
    assert content["iou"] == {"road": 0.5, "car": 0.0}
    assert content["miou"] == 0.25
    assert content["confusion"] == [[1, 1, 0], [0, 0, 1]]
    assert content["points_with_truth"] == 3
    assert content["seen"]["miou"] == 0.5
    assert content["unseen"] == {
        "points": 1,
        "miou": 0.0,
        "iou": {"road": None, "car": 0.0},
        "confusion": [[0, 0, 0], [0, 0, 1]],
    }


def test_without_truth_there_are_no_accuracy_keys():
    content = make_report().to_dict()
    jsonschema.validate(content, REPORT_SCHEMA)
    assert not {"miou", "iou", "confusion", "seen", "unseen"} & set(content)
    assert content["label_histogram"] == {"road": 600, "car": 90, "unknown": 10}


def test_without_cameras_there_is_no_seen_part():
    content = make_report(Accuracy(matrix([0], [0]))).to_dict()
    jsonschema.validate(content, REPORT_SCHEMA)
    assert "unseen" not in content


def test_a_run_without_one_labelled_scan_is_still_valid_json():
    content = make_report(total=None).to_dict()
    jsonschema.validate(content, REPORT_SCHEMA)
    assert content["latency_ms"]["p50"] is None
    assert Percentiles.of([]) is None


def test_the_schema_refuses_what_the_contract_forbids():
    content = make_report().to_dict()
    for wrong in ({"provider": ""}, {"scans_in": -1}, {"surprise": 1}, {"miou": 0.5}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**content, **wrong}, REPORT_SCHEMA)


def test_percentiles_by_hand():
    assert Percentiles.of([float(v) for v in range(101)]) == Percentiles(50.0, 90.0, 99.0)
