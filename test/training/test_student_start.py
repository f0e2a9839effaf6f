"""Trainings that start from a student file: what they take over, what they refuse, and when."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny_chain import RECIPE, SPACE, TRAINER, VOCABULARY, RowTeacher, TinySource, tiny_chain
from untrained_network import untrained_network

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.core.errors import ConfigError, InputError, ModelError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.runtime.model_file import load_model_file
from training import cli, learning_stages, pipeline, student_start
from training.chain import Chain
from training.config import GridSettings
from training.export import export_student
from training.import_student import load_network
from training.learning_stages import CHECKPOINT, learn_settings
from training.lift_stage import lifted_files
from training.pipeline import export, label, lift, probe, train
from training.recipe import LearnSettings, Recipe
from training.stage_folder import plain_settings
from training.student.label_objective import LabelledScans
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.process_group import ProcessGroup
from training.student_start import check_student_starts, start_from_student

pytestmark = pytest.mark.xdist_group("chain")

STILL = replace(TRAINER, optimizer=replace(TRAINER.optimizer, learning_rate=1e-12), average=0.0)
"""Steps of almost nothing."""


def write_student(
    path: Path,
    recipe: Recipe = RECIPE,
    space: LabelSpace = SPACE,
    seed: int = 3,
    provenance: dict[str, Any] | None = None,
) -> Path:
    network = untrained_network(NETWORKS[recipe.network], len(recipe.point_features), len(space), seed=seed)
    description = StudentDescription(
        "first",
        space,
        recipe.grid.build(),
        recipe.point_features,
        network.config.num_levels,
        recipe.to_dict(),
        provenance or {},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    export_student(network, description, path)
    return path


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "student.onnx")


@pytest.fixture(scope="module")
def lifted(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Four lifted scans."""
    work = tmp_path_factory.mktemp("lifted")
    chain = replace(tiny_chain(work, work), build_teacher=RowTeacher)
    label(chain)
    lift(chain)
    return chain


def starting(chain: Chain, student: Path, work: Path, **settings: Any) -> Chain:
    """The chain with a training from a student, its results elsewhere."""
    learn = replace(LearnSettings(trainer=STILL, start=str(student)), **settings)
    return replace(chain, recipe=replace(RECIPE, train=learn, finetune=learn), work=work, data=chain.work)


def scans_of(chain: Chain) -> LabelledScans:
    recipe = chain.recipe
    files, _ = lifted_files(chain.folder("lift"))
    return LabelledScans(files, recipe.grid.build(), recipe.point_features, 16, False, recipe.train.augmentation)


def logits(network: MinkUNet, batch: Any) -> np.ndarray:
    with torch.no_grad():
        return network(batch.features, batch.tables).numpy()


def fresh_network() -> MinkUNet:
    return MinkUNet(NETWORKS[RECIPE.network], len(RECIPE.point_features), len(SPACE))


def test_a_network_computes_what_the_student_does_and_stays_with_it_in_training_mode(lifted, student):
    network, scans = fresh_network(), scans_of(lifted)
    start_from_student(network, student, scans, ProcessGroup())
    batch = scans.make_batch([0, 1], network.config.num_levels, np.random.default_rng(1))
    expected = logits(load_network(student)[0], batch)
    np.testing.assert_allclose(logits(network.eval(), batch), expected, atol=1e-4)
    # Unmeasured norms would forget all in one step.
    error = np.abs(logits(network.train(), batch) - expected).mean()
    assert error < 0.3 * np.abs(logits(load_network(student)[0].train(), batch) - expected).mean()


@pytest.mark.parametrize(
    ("count", "passes"),
    [
        (1, [[0]]),
        (2, [[0, 1]]),
        (3, [[0, 1], [2]]),
        (19, [[i, i + 1] for i in range(0, 16, 2)]),
        (1000, [[124 * i, 124 * i + 62] for i in range(8)]),
    ],
)
def test_few_scans_of_many_are_measured(count, passes):
    class Scans:
        def __len__(self) -> int:
            return count

        def make_batch(self, indices, num_levels, rng):
            return list(indices)

    assert list(student_start._batches(Scans(), 5)) == passes


def test_processes_take_what_the_first_has_measured(lifted, student, monkeypatch):
    """Measured anew, sums could differ by rounding, and networks would drift apart."""
    networks = [fresh_network() for _ in range(2)]
    sent = []
    first = SimpleNamespace(
        rank=0, device=torch.device("cpu"), sum_=lambda values: sent.extend(v.clone() for v in values)
    )
    start_from_student(networks[0], student, scans_of(lifted), first)

    def add(values):
        assert not any(value.any() for value in values)
        for value, other in zip(values, sent, strict=True):
            value += other

    monkeypatch.setattr(student_start, "load_network", lambda path: pytest.fail("read by another process"))
    second = SimpleNamespace(rank=1, device=torch.device("cpu"), sum_=add)
    start_from_student(networks[1], student, scans_of(lifted), second)
    one, other = (network.state_dict() for network in networks)
    assert all(torch.equal(one[name], other[name]) for name in one if one[name].dtype.is_floating_point)


@pytest.mark.parametrize("verb", ["train", "probe"])
def test_a_training_goes_on_from_a_student(lifted, student, tmp_path, verb):
    """All of it, the last layer included; the stage knows the content of the file and not its place."""
    chain = starting(lifted, student, tmp_path / "work")
    stage, trainer = train(chain) if verb == "train" else probe(chain, "finetune")
    before = load_network(student)[0].state_dict()
    after = trainer.network.state_dict()
    for name in ("stem.conv.weight", "head.weight", "head.bias"):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    assert stage.settings["learn"]["start"].startswith("student ")
    assert str(student) not in str(stage.settings)
    assert set(stage.inputs) == ({"lift"} if verb == "train" else {"truth"})
    moved = tmp_path / "elsewhere" / "again.onnx"
    moved.parent.mkdir()
    shutil.copy(student, moved)
    again = starting(lifted, moved, tmp_path / "work")
    assert (train(again) if verb == "train" else probe(again, "finetune"))[0] == stage


def test_another_student_is_another_training(lifted, student, tmp_path):
    train(starting(lifted, student, tmp_path))
    other = write_student(tmp_path / "other.onnx", seed=4)
    with pytest.raises(
        InputError, match=r'train was made with settings\.learn\.start = "student .*, now it is "student'
    ):
        train(starting(lifted, other, tmp_path))
    with pytest.raises(InputError, match=r'settings\.learn\.start = "student .*, now it is "random"'):
        train(starting(lifted, Path("random"), tmp_path))


def test_an_interrupted_training_measures_nothing_again(lifted, student, tmp_path, monkeypatch):
    chain = starting(lifted, student, tmp_path)
    stage, trainer = train(chain)
    assert (stage.path / CHECKPOINT).is_file()
    monkeypatch.setattr(learning_stages, "start_from_student", lambda *_: pytest.fail("started again"))
    again, resumed = train(chain)
    assert again == stage
    for name, value in trainer.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("truth", "truth"),
        ("lifted from a simulated 2D teacher, no ground truth", "lifted from a 2D teacher, no ground truth"),
        (None, "lifted from a 2D teacher, after others that the first student does not name"),
    ],
)
def test_a_student_that_saw_the_truth_never_forgets_it(lifted, tmp_path, before, after):
    """However often it is trained on lifted labels afterwards."""
    start = write_student(tmp_path / "first.onnx", provenance={} if before is None else {"labels": before})
    for work in (tmp_path / "second", tmp_path / "third"):
        chain = starting(lifted, start, work)
        export(chain, *train(chain), work / "student.onnx")
        found = load_model_file(work / "student.onnx").description.provenance
        assert found["labels"] == after
        assert found["start"]["sha256"] == load_model_file(start).sha256
        start = work / "student.onnx"


def test_probing_after_it_knows_its_start(lifted, student, tmp_path):
    """``start: train`` under probe looks for the training that began with this very student."""
    chain = starting(lifted, student, tmp_path)
    stage, _ = train(chain)
    assert stage.settings == plain_settings(learn_settings(chain, chain.recipe.train))
    linear = replace(chain.recipe, probe=replace(RECIPE.probe, start="train"))
    assert probe(replace(chain, recipe=linear), "linear")[0].inputs["train"] == stage.hash


OTHERS = {
    "network": (
        replace(RECIPE, network="minkunet18"),
        r'has network = "small"; the recipe says "minkunet18": take over the network of the student',
    ),
    "grid": (
        replace(RECIPE, grid=replace(RECIPE.grid, voxel_size=(1.0, 1.0, 1.0))),
        r"has grid\.voxel_size = \[1\.0, 1\.0, 0\.5\]; the recipe says \[1\.0, 1\.0, 1\.0\]: take over the grid of",
    ),
    "kind": (replace(RECIPE, grid=GridSettings()), r"has grid\.range_max = "),
    "features": (
        replace(RECIPE, point_features=("offset_z", "height")),
        r'has point_features = \["offset_z", "height", "intensity"\]; the recipe says \["offset_z", "height"\]',
    ),
    "classes": (
        replace(RECIPE, label_space="semantickitti19"),
        r'has classes\.0 = "barrier"; the recipe says "car": take over the classes of the student, or start',
    ),
}  # fmt: skip


@pytest.mark.parametrize("stage", ["train", "probe", "finetune"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_student_that_does_not_fit_is_refused(student, other, stage):
    recipe, message = OTHERS[other]
    start = replace(getattr(recipe, stage), start=str(student))
    with pytest.raises(ConfigError, match=f"recipe tiny: {stage} cannot start from {student}, which {message}"):
        check_student_starts(replace(recipe, **{stage: start}))
    check_student_starts(replace(RECIPE, **{stage: replace(getattr(RECIPE, stage), start=str(student))}))


def damaged(folder: Path, kind: str, student: Path) -> Path:
    path = folder / "damaged.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "cut off":
        path.write_bytes(student.read_bytes()[:-10_000])
    elif kind == "text":
        path.write_text("student")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [("missing", "does not exist"), ("folder", "is a directory"), ("cut off", ""), ("text", "")],
)
def test_files_that_are_no_students_are_refused(student, tmp_path, kind, message):
    path = damaged(tmp_path, kind, student)
    recipe = replace(RECIPE, train=replace(RECIPE.train, start=str(path)))
    with pytest.raises(ModelError, match=rf"recipe tiny: train cannot start from {path}: .*{message}"):
        check_student_starts(recipe)


def test_a_wrong_student_stops_every_verb_before_anything_is_computed(student, tmp_path, monkeypatch, capsys):
    drive = convert_source(TinySource(2), tmp_path / "drive.mcap")
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(VOCABULARY))
    teacher = {"kind": "precomputed", "label_space": "nuscenes16", "dictionary": str(tmp_path / "words.yaml")}
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(teacher | {"settings": {"folder": "none"}}))
    recipe = replace(RECIPE, teacher=str(tmp_path / "teacher.yaml"), network="minkunet18")
    recipe = replace(recipe, train=replace(RECIPE.train, start=str(student)))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    monkeypatch.setattr(pipeline, "label", lambda *_: pytest.fail("labelled"))
    given = ["--recipe", tmp_path / "recipe.yaml", "--source", drive, "--work", tmp_path / "work", "--device", "cpu"]
    for verb in (["all"], ["all", "--dry-run"], ["train"], ["label"]):
        assert cli.main([*verb, *map(str, given)]) == 2
        assert 'has network = "small"; the recipe says "minkunet18"' in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_recipes_name_students_by_their_path(tmp_path):
    settings = LearnSettings(start="models/a.onnx")
    assert settings.student == Path("models/a.onnx")
    assert LearnSettings().student is LearnSettings(start="random").student is None
    for wrong in ("pretrian", "model.pt", "", "onnx"):
        with pytest.raises(
            ConfigError,
            match=rf"start must be one of random, pretrain, train, or the path of a student .*got '{wrong}'",
        ):
            LearnSettings(start=wrong)
    with pytest.raises(ConfigError, match="head: texts needs start: pretrain"):
        LearnSettings(start="a.onnx", head="texts")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(replace(RECIPE, train=settings).to_dict()))
    assert Recipe.load(path).train.start == "models/a.onnx"
