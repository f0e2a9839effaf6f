"""Tables, plots and JSON of evaluations."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.core.errors import InputError, MissingDependencyError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.metrics import ConfusionMatrix
from training.atomic_files import StorageFullError
from training.evaluation import Evaluation, RangeBand
from training.evaluation_report import load_evaluation, write_evaluation
from training.evaluation_report_tables import markdown_table

SPACE = LabelSpace("three", ("road", "traffic_cone", "tree"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def matrix(counts):
    result = ConfusionMatrix(3)
    result.counts = np.array(counts, np.int64)
    return result


def evaluation(counts, **changes):
    whole, nothing = matrix(counts), ConfusionMatrix(3)
    bands = (RangeBand(0, 10, whole), RangeBand(10, math.inf, nothing))
    return Evaluation(**{
        "label_space": SPACE, "whole": whole, "seen": whole, "unseen": nothing, "answered": whole, "by_range": bands
    } | changes)  # fmt: skip


GOOD = evaluation([[8, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
BAD = evaluation([[4, 0, 0, 4], [0, 1, 1, 0], [0, 0, 0, 0]])


def test_a_table_by_hand():
    table = markdown_table(["a", "b", "c"], {"one": [0.5, math.nan, 0.12344], "two | 2": [0.5, 0.0, 0.2]})
    assert table.splitlines() == [
        "| method | a | b | c |",
        "|---|---:|---:|---:|",
        "| one | **50.0** | – | 12.3 |",
        "| two / 2 | **50.0** | 0.0 | **20.0** |",
    ]
    assert "**" not in markdown_table(["a"], {"alone": [0.5]})
    assert "**" not in markdown_table(["a"], {"x": [math.nan], "y": [math.nan]})


def test_the_folder(tmp_path):
    folder = write_evaluation(tmp_path / "out" / "eval", {"TMP + AFI": GOOD, "lifted": BAD})
    files = {path.name for path in folder.iterdir()}
    assert files == {
        "evaluation.json", "evaluation.md", "iou_by_class.png", "miou_by_range.png",
        "confusion_01_tmp_afi.png", "confusion_02_lifted.png",
    }  # fmt: skip
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert min(pixels.shape) > 200
        assert pixels.std() > 5  # something is drawn
    text = (folder / "evaluation.md").read_text()
    # road 8/9 and 4/8, cone 1/2 and 1/2; the tree is predicted by the second alone: 0; AFOV gives the first 1 for it
    assert "| TMP + AFI | **69.4** | **79.6** | **88.9** | **50.0** | – |" in text
    assert "| lifted | 33.3 | 33.3 | 50.0 | **50.0** | 0.0 |" in text
    assert "| method | mIoU | mIoU (AFOV) | road | traffic cone | tree |" in text
    assert "| method | 0-10 m | 10+ m |" in text
    assert "| TMP + AFI | **69.4** | – | **69.4** |" not in text  # by range there are two columns
    assert "| TMP + AFI | **69.4** | **69.4** | – | **69.4** |" in text  # whole, seen, unseen, answered


def test_json_comes_back(tmp_path):
    folder = write_evaluation(tmp_path, {"good": GOOD, "bad": BAD}, with_plots=False)
    assert not list(folder.glob("*.png"))
    rows = load_evaluation(folder)
    assert {name: row.to_dict() for name, row in rows.items()} == {"good": GOOD.to_dict(), "bad": BAD.to_dict()}
    assert rows["good"].label_space == SPACE
    content = json.loads((folder / "evaluation.json").read_text())
    assert content["rows"]["good"]["whole"]["miou_afov"] == pytest.approx((8 / 9 + 1 / 2 + 1) / 3)


def test_only_the_evaluated_classes_stand_in_the_table(tmp_path):
    row = evaluation(BAD.whole.counts, class_ids=(0, 1), by_range=())
    folder = write_evaluation(tmp_path, {"shared": row})
    text = (folder / "evaluation.md").read_text()
    assert "| method | mIoU | mIoU (AFOV) | road | traffic cone |\n" in text
    assert "| shared | 50.0 | 50.0 | 50.0 | 50.0 |" in text
    assert "by range" not in text
    assert not (folder / "miou_by_range.png").exists()


def test_rows_that_do_not_fit_together_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least one row"):
        write_evaluation(tmp_path, {})
    with pytest.raises(InputError, match="rows 'a' and 'b' are over different classes"):
        write_evaluation(tmp_path, {"a": GOOD, "b": evaluation(GOOD.whole.counts, class_ids=(0,))})
    with pytest.raises(InputError, match="rows 'a' and 'b' have different range bands"):
        write_evaluation(tmp_path, {"a": GOOD, "b": evaluation(GOOD.whole.counts, by_range=())})


def test_without_matplotlib_the_numbers_are_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match="pip install matplotlib"):
        write_evaluation(tmp_path, {"a": GOOD})
    assert load_evaluation(tmp_path)["a"].to_dict() == GOOD.to_dict()


def test_damaged_json(tmp_path):
    with pytest.raises(InputError, match=r"evaluation.json does not exist"):
        load_evaluation(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(InputError, match="is no evaluation"):
            load_evaluation(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("file", ["evaluation.json.part", "evaluation.md.part", "miou_by_range.png"])
def test_a_full_disk_says_where_and_what_to_do(tmp_path, file):
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(StorageFullError, match=rf"no space left in {tmp_path}: .*free some space and run the same"):
        write_evaluation(tmp_path, {"a": GOOD})
