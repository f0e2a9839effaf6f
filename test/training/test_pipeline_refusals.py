"""What does not fit is refused by the stages of the chain: other settings, other networks, unfinished stages."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from finished_chain import copy_of, run_everything
from tiny_chain import (
    POINTS,
    RECIPE,
    RowTeacher,
    TinySource,
    export_segments,
    tiny_chain,
)

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import InputError, ModelError
from training import pipeline
from training.learning_stages import CHECKPOINT, LearningJob, run_learning
from training.pipeline import (
    evaluate,
    label,
    lift,
    pretrain,
    probe,
    refine,
    train,
    true_labels,
)
from training.recipe import LearnSettings
from training.stage_folder import StageFolder
from training.student.trainer import TrainerConfig

pytestmark = pytest.mark.xdist_group("chain")

PRETRAIN, TRAIN = RECIPE.pretrain, RECIPE.train


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_segments(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, exported: Path) -> SimpleNamespace:
    return run_everything(tmp_path_factory.mktemp("work"), exported)


@pytest.mark.parametrize(
    ("stage", "recipe", "message"),
    [
        (
            lift,
            replace(RECIPE, lift=replace(RECIPE.lift, min_depth=2.0)),
            r"lift was made with settings.lift.min_depth = 1.0, now it is 2.0",
        ),
        (
            pretrain,
            replace(RECIPE, lift=replace(RECIPE.lift, colors=True)),
            r"lift was made with settings.lift.colors = false, recipe tiny says true; delete the folder and run lift",
        ),
        (
            pretrain,
            replace(RECIPE, pretrain=replace(PRETRAIN, contrast=replace(PRETRAIN.contrast, temperature=0.1))),
            r"settings.pretrain.contrast.temperature = 0.07, now it is 0.1",
        ),
        (
            train,
            replace(RECIPE, pretrain=replace(PRETRAIN, negatives="pass")),
            r'pretrain was made with settings.pretrain.negatives = "scan", recipe tiny says "pass"; delete the folder',
        ),
        (train, replace(RECIPE, network="minkunet18"), r'settings.network = "small", recipe tiny says "minkunet18"'),
        (
            train,
            replace(RECIPE, train=replace(TRAIN, loss=replace(TRAIN.loss, lovasz=0.5))),
            r"train was made with settings.learn.loss.lovasz = 1.0, now it is 0.5",
        ),
        (
            partial(probe, mode="linear"),
            replace(RECIPE, probe=LearnSettings(trainer=TrainerConfig(steps=3, only_head=True))),
            r"linear-tiny-4 was made with settings.learn.trainer.steps = 2, now it is 3",
        ),
    ],
)
def test_a_changed_setting_is_refused_by_name(run, stage, recipe, message):
    with pytest.raises(InputError, match=message):
        stage(replace(run.chain, recipe=recipe))


def test_other_features_or_sources_are_refused_by_name(run):
    grid = replace(RECIPE, grid=replace(RECIPE.grid, voxel_size=(1.0, 1.0, 1.0)), train=replace(TRAIN, start="random"))
    with pytest.raises(InputError, match=r"train was made with settings.grid.voxel_size = .*0.5"):
        train(replace(run.chain, recipe=grid))
    with pytest.raises(InputError, match=r"settings.source.samples = 4, now it is 3"):
        label(replace(run.chain, open_source=partial(TinySource, 3)))


@pytest.mark.parametrize("stage", [lift, refine, pretrain, train])
def test_another_source_than_the_labelled_one_is_refused(run, stage):
    """Scans go by their numbers, so those of two sources would be mixed."""
    other = replace(run.chain, open_source=partial(TinySource, 4, blind=frozenset({3})))
    message = (
        r"label was made with source\.about\.blind = \[\], source tiny has \[3\]; give the --source that was labelled"
    )
    with pytest.raises(InputError, match=message):
        stage(other)
    assert lift(run.chain) == run.stages["lift"]


@pytest.mark.parametrize("stage", [pretrain, train, partial(probe, mode="finetune")])
def test_a_grid_without_points_is_refused_before_anything_is_learned(run, tmp_path, stage):
    chain = copy_of(run, tmp_path, "label", "lift")
    far = replace(RECIPE, grid=replace(RECIPE.grid, range_min=(100.0, -16.0, -4.0), range_max=(132.0, 16.0, 4.0)))
    far = replace(far, train=replace(TRAIN, start="random"), finetune=replace(RECIPE.finetune, start="random"))
    message = (
        r"none of the points of 4 scans lies in the grid: they have x -.*, the grid holds x 100 to 132, y -16 to 16"
    )
    with pytest.raises(InputError, match=message):
        stage(replace(chain, recipe=far))
    assert {path.name for path in tmp_path.iterdir()} <= {"label", "lift", "truth-tiny-4"}


def test_a_lift_of_other_labels_is_refused(run, tmp_path):
    chain = copy_of(run, tmp_path, "lift")
    StageFolder.open(tmp_path / "label", "label", run.stages["label"].settings, {"more": "1"}).finish(4)
    with pytest.raises(
        InputError, match=r"lift was lifted from labels \w{12}, .*label now holds \w{12}; delete .*lift"
    ):
        train(chain)


@pytest.mark.parametrize("lost", ["scans", "pairs"])
def test_lost_files_of_a_lift_are_noticed_and_made_again(tmp_path, exported, lost):
    chain = tiny_chain(tmp_path, exported)
    label(chain)
    lift(chain)
    path = tmp_path / "lift" / lost / "000002.npz"
    before = path.read_bytes()
    path.unlink()
    for stage in (refine, pretrain, train):
        with pytest.raises(
            InputError, match=r"lift holds . scans and . of their pairs, but 4 were lifted; run lift ag"
        ):
            stage(chain)
    assert lift(chain).count == 4
    assert refine(chain).path == tmp_path / "lift"
    assert path.read_bytes() == before


def test_stages_that_did_not_run_are_named(tmp_path, exported):
    chain = tiny_chain(tmp_path, exported)
    for stage, folder in ((lift, "label"), (pretrain, "lift"), (train, "lift"), (refine, "lift")):
        with pytest.raises(InputError, match=rf"{folder} is no result of a stage.*run the stage that makes it"):
            stage(chain)
    with pytest.raises(InputError, match="pretrain is no result of a stage"):
        probe(chain, "linear")
    with pytest.raises(ModelError, match=r"student\.onnx"):
        evaluate(chain, tmp_path / "student.onnx", tmp_path / "out")


def test_an_interrupted_stage_is_no_input(run, tmp_path):
    chain = copy_of(run, tmp_path, "label", "lift")
    StageFolder.open(chain.folder("pretrain"), "pretrain", run.stages["pretrain"].settings)
    with pytest.raises(InputError, match=r"stage pretrain in .* is not finished; run it again"):
        train(chain)


def test_a_checkpoint_of_another_network_is_refused(run, tmp_path):
    chain = copy_of(run, tmp_path, "lift")
    wide = replace(chain, recipe=replace(RECIPE, network="minkunet18"))
    job = LearningJob("train", TRAIN, tmp_path / "lift", tmp_path / "train", run.work / "pretrain" / CHECKPOINT)
    with pytest.raises(InputError, match=r"checkpoint.pt is of another network than this one: stem.conv.weight"):
        run_learning(wide, job, {})


def test_a_killed_training_goes_on_with_the_same_weights(run, tmp_path):
    chain = copy_of(run, tmp_path, "label", "lift", "pretrain")

    def killed(stage, step, steps):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(replace(chain, progress=killed))
    assert not StageFolder.load(tmp_path / "train").complete
    assert torch.load(tmp_path / "train" / CHECKPOINT, weights_only=True)["step"] == 1
    stage, trainer = train(chain)
    assert (stage.complete, stage.hash) == (True, run.stages["train"].hash)
    for name, value in trainer.average.state_dict().items():
        torch.testing.assert_close(value, run.trainer.average.state_dict()[name], rtol=0, atol=1e-6)


def test_without_pretraining_a_training_starts_at_random(run, tmp_path):
    chain = copy_of(run, tmp_path, "lift")
    stage, _ = train(replace(chain, recipe=replace(RECIPE, train=replace(TRAIN, start="random"))))
    assert stage.inputs == {"lift": run.stages["lift"].hash}


def test_a_head_of_texts_needs_a_text_for_every_class(run, tmp_path):
    chain = copy_of(run, tmp_path, "label", "lift", "pretrain")
    with pytest.raises(InputError, match="of 16 have no text, so there is no classifier for them"):
        train(replace(chain, recipe=replace(RECIPE, train=replace(TRAIN, head="texts"))))


def test_pretraining_needs_features(tmp_path):
    chain = tiny_chain(tmp_path, tmp_path)
    chain = replace(chain, build_teacher=partial(RowTeacher, with_features=False))
    label(chain)
    lift(chain)
    with pytest.raises(InputError, match="holds no pairs: pre-training needs a teacher with features"):
        pretrain(chain)


def test_sources_that_describe_themselves_are_told_apart(tmp_path):
    """Same name, same length: only what a source says about itself shows that it is another one."""

    class Described(TinySource):
        def __init__(self, drive: str) -> None:
            super().__init__(2)
            self.drive = drive

        def describe(self) -> dict[str, str]:
            return {"drive": self.drive}

    chain = tiny_chain(tmp_path, tmp_path / "unused")
    first = true_labels(replace(chain, open_source=partial(Described, "first")))
    assert true_labels(replace(chain, open_source=partial(Described, "first"))) == first
    with pytest.raises(InputError, match=r"made with settings\.source\.about\.drive = \"first\", now it is \"second\""):
        true_labels(replace(chain, open_source=partial(Described, "second")))


def test_true_labels_know_of_the_ground_truth_and_lifted_ones_do_not(run, tmp_path):
    """Other labels of the same scans: what was made of the images still holds."""
    chain = copy_of(run, tmp_path, "label", "lift", "truth-tiny-4")
    relabelled = replace(chain, open_source=partial(TinySource, 4, highest=2))
    assert label(relabelled).folder.hash == run.stages["label"].hash
    with pytest.raises(InputError, match=r"truth-tiny-4 was made with settings\.source\.about\.truth\.highest = null"):
        true_labels(relabelled)


def test_results_of_an_older_version_are_refused_with_the_remedy(tmp_path, exported):
    """Stages used to know of most sources only name and length."""
    chain = tiny_chain(tmp_path, exported)
    settings = label(chain).folder.settings
    del settings["source"]["about"]
    StageFolder(chain.folder("label"), "label", settings, {}).finish(4)
    with pytest.raises(
        InputError, match=r"label was made with settings\.source\.about\.blind = not set.*delete the fol"
    ):
        label(chain)


def test_a_corrupt_sample_is_part_of_no_score(run, tmp_path, monkeypatch):
    """It ends no evaluation, which comes after hours, and is listed beside the scores."""
    monkeypatch.setattr(pipeline, "write_evaluation", partial(pipeline.write_evaluation, with_plots=False))
    chain = replace(run.chain, open_source=partial(TinySource, 4, corrupt=frozenset({1})))
    scores = evaluate(chain, run.model, tmp_path)
    assert scores["student"].whole.points == 3 * (POINTS - 1)
    assert json.loads((tmp_path / "skipped.json").read_text()) == [
        {"index": 1, "key": "", "error": "scan 1 is cut off"}
    ]
    assert evaluate(run.chain, run.model, tmp_path)["student"].whole.points == 4 * (POINTS - 1)
    assert not (tmp_path / "skipped.json").exists()


class PartlyLabelled(TinySource):
    """Only the scans of these numbers have ground truth."""

    def __init__(self, count: int, labelled: frozenset[int], corrupt: frozenset[int] = frozenset()) -> None:
        super().__init__(count, corrupt)
        self.labelled = labelled

    def load_sample(self, index: int) -> Sample:
        sample = super().load_sample(index)
        return sample if index in self.labelled else replace(sample, class_id=None)


def test_samples_without_ground_truth_are_part_of_no_score(run, tmp_path, monkeypatch):
    """However many they are: data sets of which only some scans are labelled are common."""
    monkeypatch.setattr(pipeline, "write_evaluation", partial(pipeline.write_evaluation, with_plots=False))
    chain = replace(run.chain, open_source=partial(PartlyLabelled, 6, frozenset({0, 5}), frozenset({3})))
    notes = []
    scores = evaluate(chain, run.model, tmp_path, notes.append)
    assert scores["student"].whole.points == 2 * (POINTS - 1)
    listed = json.loads((tmp_path / "skipped.json").read_text())
    assert [(row["index"], row["key"]) for row in listed] == [
        (1, "tiny/000001"),
        (2, "tiny/000002"),
        (3, ""),
        (4, "tiny/000004"),
    ]
    assert {row["error"] for row in listed if row["index"] != 3} == {"it has no ground truth"}
    assert notes == ["3 of 6 samples have no ground truth and are part of no score"]


def test_ground_truth_of_no_sample_makes_no_score(run, tmp_path):
    chain = replace(run.chain, open_source=partial(PartlyLabelled, 4, frozenset(), frozenset({1})))
    message = "none of the 4 samples of source tiny can be scored: 3 have no ground truth, 1 cannot be read; install"
    with pytest.raises(InputError, match=message):
        evaluate(chain, run.model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_stale_or_incomplete_lift_makes_no_score(run, tmp_path, monkeypatch):
    """A part of the labels, or those of another teacher, would be scored as if they were all of this one."""
    monkeypatch.setattr(pipeline, "write_evaluation", partial(pipeline.write_evaluation, with_plots=False))
    made = run.stages["lift"]
    for name, inputs, count, message in (
        ("unfinished", made.inputs, 0, "is not finished; run it again"),
        ("stale", {"label": "0" * 64}, 4, "was lifted from labels 000000000000"),
        ("incomplete", made.inputs, 4, "holds 0 scans and 0 of their pairs, but 4 were lifted"),
    ):
        chain = copy_of(run, tmp_path / name, "label")
        stage = StageFolder.open(chain.folder("lift"), "lift", made.settings, inputs)
        if count:
            stage.finish(count)
        notes = []
        assert list(evaluate(chain, run.model, tmp_path / name / "out", notes.append)) == ["student", "student + AFI"]
        (note,) = notes
        assert note.startswith("no scores of the lifted labels, nor of AFI with them: ")
        assert message in note


@pytest.mark.parametrize(
    ("count", "corrupt", "message"),
    [(9, {0, 2, 4}, "3 of 5 samples of source tiny .*scan 4"), (2, {0, 1}, "2 of 2 samples of source tiny .*scan 1")],
)
def test_too_many_corrupt_samples_make_no_score(run, tmp_path, count, corrupt, message):
    chain = replace(run.chain, open_source=partial(TinySource, count, corrupt=frozenset(corrupt)))
    with pytest.raises(InputError, match=rf"{message} is cut off"):
        evaluate(chain, run.model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
