"""The whole chain on four tiny scans: what runs once does not run again, and what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from finished_chain import copy_of, run_everything
from tiny_chain import (
    BUILDING,
    POINTS,
    RECIPE,
    ROAD,
    TRAINER,
    TinySource,
    export_segments,
    tiny_chain,
)

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import ConfigError, InputError, MissingDependencyError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.runtime.segmenter import Segmenter
from training import pipeline
from training.learning_stages import CHECKPOINT
from training.pipeline import (
    StudentLabels,
    evaluate,
    export,
    label,
    lift,
    lifted_labels,
    pretrain,
    probe,
    refine,
    train,
    true_labels,
    wait_for,
)
from training.recipe import LearnSettings, RefineSettings
from training.sharding import Shard
from training.stage_folder import StageFolder
from training.student.examples import LabelledScan
from training.student.sparse_backends import BACKENDS

pytestmark = pytest.mark.xdist_group("chain")

TRAIN = RECIPE.train


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_segments(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, exported: Path) -> SimpleNamespace:
    return run_everything(tmp_path_factory.mktemp("work"), exported)


def test_every_stage_knows_what_made_it(run):
    stages = run.stages
    assert {name: (stage.complete, stage.count) for name, stage in stages.items()} == {
        "label": (True, 4),
        "lift": (True, 4),
        "pretrain": (True, 2),
        "train": (True, 2),
    }
    assert stages["lift"].inputs == {"label": stages["label"].hash}
    assert stages["pretrain"].inputs == {"lift": stages["lift"].hash}
    assert stages["train"].inputs == {"lift": stages["lift"].hash, "pretrain": stages["pretrain"].hash}
    assert [call for call in run.calls if call[0] in ("pretrain", "train")] == [
        *(("pretrain", step, 2) for step in (1, 2)),
        *(("train", step, 2) for step in (1, 2)),
    ]
    assert ("lift", 4, 4) in run.calls
    assert ("evaluate", 4, 4) in run.calls


def test_training_starts_from_the_pretrained_trunk(run):
    """Two steps move weights by little, so the trunk is still nearer to its start than to another random one."""
    before = torch.load(run.work / "pretrain" / CHECKPOINT, weights_only=True)["average"]
    after = torch.load(run.work / "train" / CHECKPOINT, weights_only=True)["average"]
    name = "stem.conv.weight"
    assert before["head.weight"].shape[0] == 6
    assert after["head.weight"].shape[0] == 16
    random = torch.randn_like(before[name]) * before[name].std()
    assert (after[name] - before[name]).norm() < 0.5 * (random - before[name]).norm()


def test_the_student_file_says_where_it_comes_from(run):
    description = Segmenter.load(run.model).description
    assert description.recipe == RECIPE.to_dict()
    assert description.point_features == RECIPE.point_features
    assert description.provenance["hash"] == run.stages["train"].hash
    assert description.provenance["stage"] == "train"
    assert description.provenance["training_scans"] == 4
    assert "no ground truth" in description.provenance["labels"]
    assert "start" not in description.provenance
    stage, trainer = run.probes["finetune"]
    export(run.chain, stage, trainer, run.work / "probe.onnx")
    assert Segmenter.load(run.work / "probe.onnx").description.provenance["labels"] == "truth"


def test_scores_are_of_the_student_before_and_after_afi_and_of_the_lifted_labels(run):
    assert list(run.scores) == ["lifted", "student", "student + AFI", "student + AFI + images"]
    samples = [TinySource().load_sample(i) for i in range(4)]
    known = sum(int((s.class_id != IGNORE_ID).sum()) for s in samples)
    assert known == 4 * (POINTS - 1)
    lifted = run.scores["lifted"].to_dict()
    assert lifted["whole"]["points"] == known
    assert lifted["answered"]["miou"] == lifted["seen"]["miou"] == 1.0  # the teacher is right about all it sees
    assert lifted["unseen"]["miou"] == 0.0  # and silent about the rest
    student, space = StudentLabels(Segmenter.load(run.model)), RECIPE.load_label_space()
    right = [(student(s) == s.class_id)[s.class_id != IGNORE_ID].sum() for s in samples]
    assert run.scores["student"].to_dict()["whole"]["accuracy"] == pytest.approx(sum(right) / known)
    from_images = lifted_labels(run.chain)
    for row, assist in (("student + AFI", lambda s: None), ("student + AFI + images", from_images)):
        afi = [
            refine_afi(s.cloud.points, student(s), space, RECIPE.refine.afi(), image_labels=assist(s)) for s in samples
        ]
        right = [(a == s.class_id)[s.class_id != IGNORE_ID].sum() for a, s in zip(afi, samples, strict=True)]
        assert run.scores[row].to_dict()["whole"]["accuracy"] == pytest.approx(sum(right) / known)
    assert (run.work / "evaluation" / "iou_by_class.png").is_file()
    stored = json.loads((run.work / "evaluation" / "evaluation.json").read_text())
    assert stored["rows"]["lifted"]["whole"]["miou"] == lifted["whole"]["miou"]


def test_other_sources_have_no_lifted_labels(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "write_evaluation", partial(pipeline.write_evaluation, with_plots=False))
    chain = replace(run.chain, open_source=partial(TinySource, 2))
    assert list(evaluate(chain, run.model, tmp_path)) == ["student", "student + AFI"]
    alone = replace(chain, recipe=replace(RECIPE, refine=RefineSettings(predictions=False)))
    assert list(evaluate(alone, run.model, tmp_path)) == ["student"]


def test_labels_of_unknown_and_of_blind_samples_are_none(run, exported, tmp_path):
    chain = replace(tiny_chain(tmp_path, exported), open_source=partial(TinySource, 2, blind=frozenset({1})))
    label(chain)
    lift(chain)
    labels = lifted_labels(chain)
    for index, known in enumerate((True, False, False)):
        assert (labels(TinySource().load_sample(index)) != IGNORE_ID).any() == known


def test_linear_probing_moves_only_the_last_layer(run):
    before = torch.load(run.work / "pretrain" / CHECKPOINT, weights_only=True)["average"]
    linear, finetuned = (run.probes[mode][1].network.state_dict() for mode in ("linear", "finetune"))
    trunk = [name for name in before if not name.startswith("head.") and before[name].dtype.is_floating_point]
    assert all(torch.equal(linear[name], before[name]) for name in trunk)
    assert np.mean([torch.equal(finetuned[name], before[name]) for name in trunk]) < 0.1
    assert linear["head.weight"].shape[0] == 16


def test_probing_may_start_from_the_trained_network(run, tmp_path):
    """All of it, the head included: with a rate of almost nothing it stays where it was."""
    still = replace(TRAINER, optimizer=replace(TRAINER.optimizer, learning_rate=1e-12), average=0.0)
    recipe = replace(RECIPE, finetune=replace(RECIPE.finetune, start="train", trainer=still))
    chain = replace(copy_of(run, tmp_path, "label", "lift", "pretrain", "train"), recipe=recipe)
    stage, trainer = probe(chain, "finetune")
    assert stage.inputs["train"] == run.stages["train"].hash
    before = torch.load(run.work / "train" / CHECKPOINT, weights_only=True)["average"]
    after = trainer.network.state_dict()
    for name in ("stem.conv.weight", "head.weight"):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    other = replace(RECIPE.train, trainer=replace(TRAINER, steps=3))
    with pytest.raises(InputError, match=r"train was made with settings\.learn\.trainer\.steps = 2"):
        probe(replace(chain, work=tmp_path, recipe=replace(recipe, train=other)), "finetune")


def test_probing_learns_from_the_ground_truth(run):
    folder = run.work / "truth-tiny-4"
    for index, path in enumerate(sorted((folder / "scans").glob("*.npz"))):
        np.testing.assert_array_equal(LabelledScan.load(path, False).class_id, TinySource().load_sample(index).class_id)
    for mode, (stage, _) in run.probes.items():
        assert stage.path == run.work / f"{mode}-tiny-4"
        assert stage.inputs == {
            "truth": StageFolder.load(folder).hash,
            "pretrain": run.stages["pretrain"].hash,
        }
    with pytest.raises(ConfigError, match="probe mode must be one of linear, finetune, got 'both'"):
        probe(run.chain, "both")


def test_a_second_run_makes_nothing_again(run):
    files = [
        p for p in run.work.rglob("*") if p.suffix in (".npz", ".npy", ".pt", ".csv") or p.parent.name == "journal"
    ]
    before = {p: p.stat().st_mtime_ns for p in files}
    again = replace(run.chain, progress=lambda *call: pytest.fail(f"{call} again"))
    again = replace(again, build_teacher=RowTeacherMustNotWork(run.chain.build_teacher))
    label(again)
    lift(again)
    pretrain(again)
    stage, trainer = train(again)
    assert stage == run.stages["train"]
    for name, value in trainer.average.state_dict().items():
        assert torch.equal(value, run.trainer.average.state_dict()[name])
    for mode in ("linear", "finetune"):
        probe(again, mode)
    changed = [p for p in files if p.stat().st_mtime_ns != before[p] and p.suffix != ".csv"]
    assert not changed
    assert len([p for p in run.work.rglob("*") if p.suffix in (".npz", ".pt")]) == len(
        [p for p in files if p.suffix in (".npz", ".pt")]
    )


class RowTeacherMustNotWork:
    """Builds a teacher that is not asked for anything."""

    def __init__(self, build):
        self._build = build

    def __call__(self):
        teacher = self._build()
        teacher.segment = lambda image, key: pytest.fail(f"{key} is labelled again")
        return teacher


def test_refined_labels_replace_the_lifted_ones(run, tmp_path):
    calls = []
    refined = replace(RECIPE, refine=RefineSettings(labels=True), train=replace(TRAIN, start="random"))
    chain = replace(copy_of(run, tmp_path, "lift"), recipe=refined, progress=lambda *call: calls.append(call))
    stage = refine(chain)
    assert (stage.count, stage.inputs) == (4, {"lift": run.stages["lift"].hash})
    assert calls[-1] == ("refine", 4, 4)
    fresh = 0
    for path in sorted((stage.path / "scans").glob("*.npz")):
        before, after = (LabelledScan.load(p, False) for p in (run.work / "lift" / "scans" / path.name, path))
        np.testing.assert_array_equal(
            after.class_id, refine_afi(before.points, before.class_id, RECIPE.load_label_space(), refined.refine.afi())
        )
        new = (before.class_id == IGNORE_ID) & (after.class_id != IGNORE_ID)
        fresh += new.sum()
        labelled = before.class_id != IGNORE_ID
        np.testing.assert_array_equal(after.confidence[~new], before.confidence[~new])
        np.testing.assert_allclose(after.confidence[new], before.confidence[labelled].mean(), rtol=1e-6)
    assert fresh > 0
    trained, _ = train(chain)
    assert trained.inputs == {"refine": stage.hash}
    assert refine(run.chain) == run.stages["lift"]  # as they are, unless the recipe wants it
    changed = replace(chain, recipe=replace(refined, refine=RefineSettings(labels=True, constants="released")))
    with pytest.raises(InputError, match=r"refine was made with settings.afi\."):
        refine(changed)


def test_refining_keeps_colours(run, tmp_path):
    settings = replace(RECIPE.lift, colors=True)
    chain = replace(
        copy_of(run, tmp_path, "label"), recipe=replace(RECIPE, lift=settings, refine=RefineSettings(labels=True))
    )
    lift(chain)
    refine(chain)
    assert LabelledScan.load(tmp_path / "refine" / "scans" / "000000.npz", with_color=True).color is not None


@pytest.mark.parametrize("stage", [true_labels, partial(probe, mode="linear")])
def test_a_source_without_ground_truth_cannot_be_probed(run, stage):
    blind = replace(run.chain, open_source=partial(TinySource, 4, truth=False))
    with pytest.raises(InputError, match="source tiny has ground truth of label space none, needed is nuscenes16"):
        stage(blind)


class OtherClasses(TinySource):
    label_space = LabelSpace("two", ("low", "high"), ((1, 1, 1), (2, 2, 2)))


def test_ground_truth_of_other_classes_judges_nobody(run, tmp_path):
    chain = replace(run.chain, open_source=OtherClasses)
    with pytest.raises(InputError, match="source tiny has ground truth of label space two, needed is nuscenes16"):
        evaluate(chain, run.model, tmp_path)
    with pytest.raises(InputError, match="label space two"):
        true_labels(chain)


def test_recipes_can_share_labels_and_lifts(run, tmp_path):
    other = replace(run.chain, work=tmp_path, data=run.work)
    assert (other.folder("label"), other.folder("lift")) == (run.work / "label", run.work / "lift")
    assert other.folder("train") == tmp_path / "train"
    assert lift(other) == run.stages["lift"]
    other = replace(other, recipe=replace(RECIPE, train=LearnSettings(trainer=TRAINER, start="random")))
    train(other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train"]


def test_several_processes_share_label_and_lift(run, exported, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("there is nothing to wait for"))
    parts = [replace(tiny_chain(tmp_path, exported), part=Shard(rank, 2)) for rank in (0, 1)]
    assert [label(part).missing for part in parts] == [2, 0]
    wait_for(parts[0], "label")
    assert [lift(part).complete for part in parts] == [False, True]
    for path in (run.work / "lift").rglob("*.npz"):
        assert path.read_bytes() == (tmp_path / path.relative_to(run.work)).read_bytes()
    assert [true_labels(part).complete for part in parts] == [False, True]


def test_waiting_ends_when_the_others_are_done(run, tmp_path, monkeypatch):
    stage = StageFolder.open(tmp_path / "refine", "refine", {})
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            stage.finish(1)

    monkeypatch.setattr("time.sleep", sleep)
    chain = replace(run.chain, work=tmp_path, part=Shard(1, 2))
    wait_for(chain, "refine", 0.5)
    assert slept == [0.5] * 3
    wait_for(replace(chain, part=Shard()), "refine")


def test_a_backend_computes_and_is_no_setting(run, tmp_path, monkeypatch):
    """Another backend goes on in the same folders; one that is missing says so before anything is written."""
    asked = []
    monkeypatch.setitem(BACKENDS, "spconv", lambda: asked.append("spconv") or BACKENDS["tables"]())
    chain = replace(copy_of(run, tmp_path, "label", "lift"), backend="spconv")
    assert pretrain(chain).hash == run.stages["pretrain"].hash
    assert train(chain)[0].hash == run.stages["train"].hash
    assert asked == ["spconv"] * 2

    def missing():
        raise MissingDependencyError("torchsparse", "pip install it", "the sparse backend torchsparse")

    monkeypatch.setitem(BACKENDS, "torchsparse", missing)
    with pytest.raises(MissingDependencyError, match="sparse backend torchsparse needs the package torchsparse"):
        train(replace(run.chain, backend="torchsparse"))
    with pytest.raises(ConfigError, match="auto, tables, compiled, torchsparse, spconv, got 'minkowski'"):
        train(replace(run.chain, backend="minkowski"))


def test_classes_of_the_tests():
    assert (ROAD, BUILDING) == (10, 14)
