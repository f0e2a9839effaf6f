from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from ov_seg_ros.report import charts
from ov_seg_ros.report.builder import ReportBuilder
from ov_seg_ros.report.html import Page, Picture

VOID = {"meta", "img", "br", "line", "rect", "polyline", "polygon"}


class Outline(HTMLParser):
    """Checks that tags nest, collects text and every address a browser would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.tags: list[str] = []
        self.feed(page)
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def build(make_sample, label_space, facts, truth=None, scans=2):
    builder = ReportBuilder(label_space, scans)
    for k in range(scans):
        builder.add(make_sample(k * 10**8, truth=truth), np.array([0, 1, 2, 255], np.uint8), 20.0 + k, {"decode": 1.5})
    report = builder.report(facts)
    picture = Picture("Scan 1", Image.new("RGB", (40, 30)))
    return Page(report, label_space, builder.statistics.scans, picture, [picture])


def test_page_is_self_contained_and_well_formed(make_sample, label_space, facts):
    page = build(make_sample, label_space, facts, truth=[0, 1, 0, 0]).render()
    outline = Outline(page)
    assert len(outline.addresses) == 2
    assert all(address.startswith("data:image/jpeg;base64,") for address in outline.addresses)
    assert "script" not in outline.tags
    assert "link" not in outline.tags
    assert not re.search(r"url\(|@import", page)
    assert outline.tags.count("svg") == 4  # histogram, timeline, shares, confusion


def test_page_says_the_figures(make_sample, label_space, facts):
    text = Outline(build(make_sample, label_space, facts, truth=[0, 1, 0, 0]).render()).text
    assert "2 / 3" in text
    assert "1 dropped, 0 lost" in text
    assert "mIoU where no camera sees" in text
    assert "tall tree" in text
    assert "ov-seg evaluate drive" in text
    assert "ab" * 32 in text
    assert "grid.size" in text
    assert "Settings of its recipe (1)" in text
    assert "a.b" in text


def test_page_without_truth_shows_what_was_found_instead(make_sample, label_space, facts):
    text = Outline(build(make_sample, label_space, facts).render()).text
    assert "no ground truth" in text
    assert "mIoU" not in text


def test_page_of_a_run_that_labelled_nothing(label_space, facts):
    builder = ReportBuilder(label_space, 0)
    text = Outline(Page(builder.report(facts), label_space, []).render()).text
    assert "0 / 3" in text


def test_text_from_outside_is_escaped(make_sample, label_space, facts):
    hostile = replace(facts, provenance=replace(facts.provenance, bag="<script>alert(1)</script>"), notes=("<b>",))
    page = build(make_sample, label_space, hostile).render()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<li>&lt;b&gt;</li>" in page


def test_axes_end_on_round_numbers():
    assert [charts.nice_ceiling(v) for v in (0.0, 0.9, 1.0, 1.2, 2.1, 37, 99, 101)] == [1, 1, 1, 2, 2.5, 50, 100, 200]


def test_heat_map_leaves_out_classes_that_never_occur():
    counts = np.array([[5, 1, 0, 0], [0, 0, 0, 0], [0, 0, 4, 0]])
    svg = charts.confusion_heat_map(counts, ["road", "car", "tree"])
    assert svg.count("<rect") == 2 * 3  # two rows of truth; car was predicted once
    assert "83.3 %" in svg
    assert "unknown" not in svg


def test_shares_of_a_single_scan_fill_the_height():
    svg = charts.class_shares(np.array([[1, 3]]), [(1, 2, 3), (4, 5, 6)], width=100, height=40)
    assert 'points="0.0,30.0 100.0,30.0 100.0,40.0 0.0,40.0"' in svg
    assert 'points="0.0,0.0 100.0,0.0 100.0,30.0 0.0,30.0"' in svg
