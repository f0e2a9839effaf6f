"""The lift stage: exact labels, pairs, colours and rings; corrupt samples, kills, shards and processes."""

from __future__ import annotations

import json
import pickle
import signal
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from tiny_chain import (
    BUILDING,
    CONFIDENCE,
    DICTIONARY,
    HEIGHT,
    POINTS,
    QUIET,
    ROAD,
    TEXTS,
    WIDTH,
    DyingSource,
    RowTeacher,
    TinySource,
    lift,
    lift_job,
)

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from training import worker_pool
from training.labelling_run import label_source
from training.lift_stage import _Worker, lifted_files
from training.recipe import LiftSettings
from training.sharding import Shard
from training.stage_folder import StageFolder
from training.student.examples import LabelledScan
from training.student.paired_scans import load_pairs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the teacher says about ten scans."""
    folder = tmp_path_factory.mktemp("store")
    label_source(TinySource(10), RowTeacher(), folder, settings=QUIET)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a stage but the journals, whose division into files follows the processes."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "journal" not in p.parts
    }


def seen(sample) -> np.ndarray:
    """By hand: 32 pixels of focal length, so the camera sees |y| < x, nearly; nothing is so near that z matters."""
    u = 31.5 - 32 * sample.cloud.points[:, 1] / sample.cloud.points[:, 0]
    return (sample.cloud.points[:, 0] > 1) & (u > -0.5) & (u < WIDTH - 0.5)


def test_labels_are_those_of_the_segments(store, tmp_path):
    stage = lift(lift_job(tmp_path / "lift", partial(TinySource, 3), store))
    assert (stage.complete, stage.count) == (True, 3)
    scans, pairs = lifted_files(stage.path)
    assert [p.name for p in scans] == [p.name for p in pairs] == ["000000.npz", "000001.npz", "000002.npz"]
    for index, path in enumerate(scans):
        scan, sample = LabelledScan.load(path, with_color=False), TinySource().load_sample(index)
        np.testing.assert_array_equal(scan.points, sample.cloud.points)
        np.testing.assert_array_equal(scan.intensity, sample.cloud.intensity)
        np.testing.assert_array_equal(scan.ring, np.arange(POINTS) % 2)
        visible = seen(sample)
        assert 30 < visible.sum() < 90  # a quarter of 240
        expected = np.where(sample.cloud.points[:, 2] > 0, BUILDING, ROAD)
        np.testing.assert_array_equal(scan.class_id, np.where(visible, expected, IGNORE_ID))
        left = sample.cloud.points[:, 1] > 0
        segment = np.where(expected == BUILDING, 1, 3) + ~left  # of sky, building, wall, road, asphalt
        np.testing.assert_array_equal(scan.confidence, np.where(visible, CONFIDENCE[segment], 0))
        assert (scan.camera == -1).all()


def test_pairs_hold_the_segments_that_points_lie_in(store, tmp_path):
    lift(lift_job(tmp_path / "lift", partial(TinySource, 1), store))
    pairs, sample = load_pairs(tmp_path / "lift" / "pairs" / "000000.npz"), TinySource().load_sample(0)
    np.testing.assert_array_equal(pairs.point, np.flatnonzero(seen(sample)))
    assert pairs.text_id.tolist() == TEXTS[1:].tolist()  # no point lies in the sky
    assert (pairs.camera == 0).all()
    np.testing.assert_array_equal(pairs.image_size, [[WIDTH, HEIGHT]])
    x, y, z = sample.cloud.points[pairs.point].T
    np.testing.assert_allclose(pairs.pixel, np.stack([31.5 - 32 * y / x, 23.5 - 32 * z / x], axis=1), atol=1e-4)
    np.testing.assert_array_equal(pairs.segment, np.where(z > 0, 0, 2) + (y < 0))
    assert pairs.features.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(pairs.features.astype(float), axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(pairs.features[np.arange(4), pairs.text_id], 0.8, atol=1e-3)


def test_a_teacher_without_features_makes_labels_alone(tmp_path):
    label_source(TinySource(1), RowTeacher(with_features=False), tmp_path / "label", settings=QUIET)
    stage = lift(lift_job(tmp_path / "lift", partial(TinySource, 1), tmp_path / "label"))
    scans, pairs = lifted_files(stage.path)
    assert (len(scans), pairs) == (1, [])


def test_min_depth_and_occlusion_are_passed_on(store, tmp_path):
    near = lift(lift_job(tmp_path / "a", partial(TinySource, 1), store, LiftSettings(occlusion=False, min_depth=6)))
    scan, sample = LabelledScan.load(lifted_files(near.path)[0][0], False), TinySource().load_sample(0)
    np.testing.assert_array_equal(scan.class_id != IGNORE_ID, seen(sample) & (sample.cloud.points[:, 0] > 6))

    class Depths(TinySource):
        def load_occlusion(self, index):
            return lambda uv, depth: np.ones(len(depth), bool)

    job = lift_job(tmp_path / "b", Depths, store, LiftSettings(occlusion=True))
    assert _Worker(job)._occlusion(0)(None, np.zeros(3)).all()
    job = lift_job(tmp_path / "b", Depths, store, LiftSettings(occlusion=False))
    assert _Worker(job)._occlusion(0) is None


def test_colours_come_with_the_camera_they_are_of(store, tmp_path):
    lift(lift_job(tmp_path / "lift", partial(TinySource, 1), store, LiftSettings(occlusion=False, colors=True)))
    scan = LabelledScan.load(tmp_path / "lift" / "scans" / "000000.npz", with_color=True)
    colored = scan.color[:, 3] > 0  # as for the robot, not those that are hidden
    assert colored.sum() > 30
    assert not (colored & ~seen(TinySource().load_sample(0))).any()
    np.testing.assert_array_equal(scan.camera, np.where(colored, 0, -1))
    for rows, color in ((scan.points[:, 2] > 0, (200, 100, 0)), (scan.points[:, 2] < 0, (0, 0, 250))):
        np.testing.assert_allclose(255 * scan.color[colored & rows, :3] - color, 0, atol=1e-3)


def test_true_labels_of_every_point(tmp_path):
    stage = lift(lift_job(tmp_path, partial(TinySource, 2, blind=frozenset({1})), None))
    scans, pairs = lifted_files(stage.path)
    assert (stage.count, len(scans), pairs) == (2, 2, [])  # true labels need no image
    for index, path in enumerate(scans):
        scan, sample = LabelledScan.load(path, False), TinySource().load_sample(index)
        np.testing.assert_array_equal(scan.class_id, sample.class_id)
        np.testing.assert_array_equal(scan.confidence, sample.class_id != IGNORE_ID)
        np.testing.assert_array_equal(scan.ring, np.arange(POINTS) % 2)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (partial(TinySource, 2, truth=False), "2 of 2 samples cannot be lifted.*tiny/000000 has no ground truth"),
        (partial(TinySource, 2, highest=16), r"2 of 2 .*tiny/000000 has label 16, but there are 16 classes"),
        (partial(TinySource, 2, corrupt=frozenset({0, 1})), "2 of 2 .*scan 0 is cut off"),
    ],
)
def test_ground_truth_that_is_none_is_refused(tmp_path, source, message):
    with pytest.raises(InputError, match=message):
        lift(lift_job(tmp_path, source, None))
    assert not StageFolder.load(tmp_path).complete


def test_a_class_of_the_last_number_is_fine(tmp_path):
    assert lift(lift_job(tmp_path, partial(TinySource, 1, highest=15), None)).complete


def test_a_store_without_the_segments_of_a_sample(store, tmp_path):
    with pytest.raises(
        InputError, match=r"3 of 13 samples cannot be lifted.*tiny/000012: the store holds segments of none"
    ):
        lift(lift_job(tmp_path, partial(TinySource, 14), store))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_store_that_is_not_there_is_an_error_of_ours(tmp_path, processes):
    with pytest.raises(InputError, match=r"segment store .*nowhere does not exist"):
        lift(lift_job(tmp_path / "lift", partial(TinySource, 2), tmp_path / "nowhere"), processes=processes)


def test_a_teacher_that_saw_nothing_is_noticed(tmp_path):
    label_source(TinySource(2), RowTeacher(blank=True), tmp_path / "label", settings=QUIET)
    with pytest.raises(InputError, match="none of the 2 samples of source tiny gives a point a label"):
        lift(lift_job(tmp_path / "lift", partial(TinySource, 2), tmp_path / "label"))


def test_scans_without_images_are_left_out_and_are_no_damage(store, tmp_path):
    blind = partial(TinySource, 8, blind=frozenset(range(1, 7)))
    stage = lift(lift_job(tmp_path, blind, store))
    assert (stage.complete, stage.count) == (True, 2)
    assert [p.name for p in lifted_files(tmp_path)[0]] == ["000000.npz", "000007.npz"]
    assert not (tmp_path / "skipped.json").exists()
    assert lift(lift_job(tmp_path, blind, store)).count == 2


def test_corrupt_samples_are_skipped_listed_and_tried_again(store, tmp_path):
    stage = lift(lift_job(tmp_path, partial(TinySource, 4, frozenset({1, 3})), store))
    assert (stage.complete, stage.count) == (True, 2)
    assert [p.name for p in lifted_files(tmp_path)[0]] == ["000000.npz", "000002.npz"]
    listed = json.loads((tmp_path / "skipped.json").read_text())
    assert listed == [{"index": i, "key": "", "error": f"scan {i} is cut off"} for i in (1, 3)]
    assert lift(lift_job(tmp_path, partial(TinySource, 4), store)).count == 4
    assert not (tmp_path / "skipped.json").exists()


def test_too_many_corrupt_samples_end_the_run(store, tmp_path):
    with pytest.raises(InputError, match=r"3 of 5 samples cannot be lifted.*skipped.json. One of them: scan 4"):
        lift(lift_job(tmp_path, partial(TinySource, 10, frozenset(range(2, 9))), store))
    assert [row["index"] for row in json.loads((tmp_path / "skipped.json").read_text())] == [2, 3, 4]


def test_a_damaged_file_of_the_store_costs_one_sample(tmp_path):
    label_source(TinySource(3), RowTeacher(), tmp_path / "label", settings=QUIET)
    next((tmp_path / "label").rglob("*000001*.json")).write_text("{")
    stage = lift(lift_job(tmp_path / "lift", partial(TinySource, 3), tmp_path / "label"))
    assert stage.count == 2
    (row,) = json.loads((tmp_path / "lift" / "skipped.json").read_text())
    assert (row["index"], row["key"]) == (1, "tiny/000001")


def test_a_killed_run_goes_on_where_it_stopped(store, tmp_path):
    doomed = lift_job(tmp_path / "lift", partial(DyingSource, 5), store)
    process = get_context("fork").Process(target=lift, args=(doomed,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "lift").rglob("*.npz")}
    assert sorted(p.name for p in done) == ["000000.npz"] * 2 + ["000001.npz"] * 2
    assert not StageFolder.load(tmp_path / "lift").complete
    job = lift_job(tmp_path / "lift", partial(TinySource, 5), store)
    assert lift(job).count == 5
    assert {p: p.stat().st_mtime_ns for p in done} == done
    lift(lift_job(tmp_path / "whole", partial(TinySource, 5), store))
    assert contents(tmp_path / "lift") == contents(tmp_path / "whole")
    (tmp_path / "lift" / "scans" / "000003.npz").unlink()  # what is missing is made again
    assert lift(job).count == 5
    assert contents(tmp_path / "lift") == contents(tmp_path / "whole")


def test_shards_and_processes_make_the_same_files(store, tmp_path, monkeypatch):
    """Forked processes, which need not import torch again; a job must travel to spawned ones as well."""
    monkeypatch.setattr(worker_pool, "get_context", lambda _: get_context("fork"))
    source = partial(TinySource, 10, frozenset({8}))
    lift(lift_job(tmp_path / "one", source, store))
    many = lift_job(tmp_path / "many", source, store)
    first, second = lift(many, Shard(0, 2)), lift(pickle.loads(pickle.dumps(many)), Shard(1, 2), processes=2)
    assert [first.complete, second.complete] == [False, True]
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_a_stage_that_lost_files_is_not_complete_until_all_shards_made_them_again(store, tmp_path):
    job = lift_job(tmp_path, partial(TinySource, 4), store)
    lift(job)
    for kind in ("scans", "pairs"):
        (tmp_path / kind / "000003.npz").unlink()
    assert not lift(job, Shard(0, 2)).complete
    assert not StageFolder.load(tmp_path).complete, "whoever waits for it goes on waiting"
    assert lift(job, Shard(1, 2)).complete
    assert len(lifted_files(tmp_path)[1]) == 4


def test_a_folder_of_other_settings_is_refused(store, tmp_path):
    lift(lift_job(tmp_path, partial(TinySource, 1), store))
    with pytest.raises(InputError, match=r"made with settings.lift.min_depth = 1.0, now it is 2.0; delete the folder"):
        lift(lift_job(tmp_path, partial(TinySource, 1), store, LiftSettings(occlusion=False, min_depth=2.0)))


def test_labels_never_read_the_ground_truth(store, tmp_path):
    for name, source in (("with", partial(TinySource, 2)), ("without", partial(TinySource, 2, truth=False))):
        lift(lift_job(tmp_path / name, source, store))
    assert contents(tmp_path / "with") == contents(tmp_path / "without")


def test_the_dictionary_of_the_tests_is_what_their_head_says():
    assert [DICTIONARY.texts[t] for t in TEXTS] == ["sky", "building", "wall", "road", "asphalt"]
    assert DICTIONARY.text_class[TEXTS].tolist() == [IGNORE_ID, BUILDING, BUILDING, ROAD, ROAD]
