from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.report.builder import STRIP_SCENES, ReportBuilder
from ov_seg_ros.report.pictures import OVERVIEW_WIDTH
from ov_seg_ros.report.provenance import describe_run
from ov_seg_ros.report.schema import REPORT_SCHEMA

PREDICTION = np.array([0, 1, 2, 255], np.uint8)


def test_writes_what_was_asked_for(make_sample, label_space, facts, out):
    builder = ReportBuilder(label_space, 2)
    for k in range(2):
        builder.add(make_sample(k * 10**8, truth=[0, 0, 2, 2]), PREDICTION, 5.0)
    report = builder.report(facts)
    builder.write(report, json=out / "report.json", html=out / "report.html", overview=out / "overview.png")
    content = json.loads((out / "report.json").read_text())
    jsonschema.validate(content, REPORT_SCHEMA)
    assert (content["scans_labelled"], content["scans_lost"], content["points"]) == (2, 0, 8)
    assert content["seen"]["points"] == 2  # the point ahead, in two scans
    assert content["unseen"]["points"] == 6
    assert content["seen"]["miou"] == 1.0
    assert content["cameras"] == ["front"]
    assert Image.open(out / "overview.png").width == OVERVIEW_WIDTH
    assert "report.json" in (out / "report.html").read_text()


def test_nothing_is_written_unasked(make_sample, label_space, facts, out):
    builder = ReportBuilder(label_space, 1)
    builder.add(make_sample(), PREDICTION)
    builder.write(builder.report(facts), json=out / "only.json")
    assert [p.name for p in out.iterdir()] == ["only.json"]


def test_a_run_without_scans_has_a_report_and_a_page_but_no_picture(label_space, facts, out):
    builder = ReportBuilder(label_space, 0)
    builder.write(builder.report(facts), out / "r.json", out / "r.html", out / "o.png")
    assert sorted(p.name for p in out.iterdir()) == ["r.html", "r.json"]


def test_the_strip_is_spread_over_the_run(make_sample, label_space):
    builder = ReportBuilder(label_space, 51)
    for k in range(51):
        builder.add(make_sample(k * 10**8, with_camera=False), PREDICTION)
    assert [picture.caption for picture in builder._strip] == ["0.0 s", "1.0 s", "2.0 s", "3.0 s", "4.0 s", "5.0 s"]
    assert len(builder._strip) == STRIP_SCENES


def test_labels_of_another_length_are_refused(make_sample, label_space):
    with pytest.raises(InputError, match=r"4 points but labels of shape \(2,\)"):
        ReportBuilder(label_space, 1).add(make_sample(), PREDICTION[:2])


def test_provenance_names_no_folder(tmp_path):
    described = describe_run(tmp_path / "drive_07", command="ov-seg evaluate drive_07")
    assert described.bag == "drive_07"
    assert described.command == "ov-seg evaluate drive_07"
    assert described.machine["cores"] >= 1
    assert described.versions["numpy"] == np.__version__
    assert described.date.endswith("+00:00")
