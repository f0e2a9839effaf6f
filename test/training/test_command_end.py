"""``python -m training VERB`` that is asked to end: no traceback, nothing is left running, the same command goes on."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from command_place import arguments, make_place
from heeded_signals import heed_signals
from tiny_chain import RECIPE

from ov_seg_ros.core.interruption import Terminated
from training import cli
from training.commands import vocabulary
from training.student.checkpoint import load_checkpoint

pytestmark = pytest.mark.xdist_group("chain")

CHECKOUT = Path(__file__).parents[2]
GO_ON = "what is done stays, run the same command again to go on\n"
STEPS = 100_000
"""More than any test waits for."""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (KeyboardInterrupt(), 130, f"training vocabulary: interrupted; {GO_ON}"),
        (Terminated(signal.SIGTERM), 143, f"training vocabulary: ended by SIGTERM; {GO_ON}"),
        (Terminated(signal.SIGHUP), 129, f"training vocabulary: ended by SIGHUP; {GO_ON}"),
    ],
)
def test_a_request_to_end_is_one_line(end, code, said, monkeypatch, capsys):
    def run(options):
        raise end

    monkeypatch.setattr(vocabulary, "_vocabulary", run)
    assert cli.main(["vocabulary", "--teacher", "any.yaml"]) == code
    assert capsys.readouterr().err == said
    with pytest.raises(KeyboardInterrupt):
        cli.main(["vocabulary", "--teacher", "any.yaml", "--debug"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Everything before a training that takes hours."""
    place = make_place(tmp_path_factory.mktemp("end"))
    endless = replace(RECIPE.train, start="random", trainer=replace(RECIPE.train.trainer, steps=STEPS))
    recipe = replace(RECIPE, teacher=str(place.root / "teacher.yaml"), train=endless)
    place.recipe.write_text(yaml.safe_dump(recipe.to_dict()))
    for verb in ("label", "lift"):
        assert cli.main(arguments(place, verb)) == 0
    return place


def train_until(place: SimpleNamespace, step: int, end: signal.Signals, whole_group: bool) -> tuple[int, str]:
    """Trains in two processes to a checkpoint at or after a step, asks for the end; returns exit code and last line."""
    command = [sys.executable, "-m", "training", *arguments(place, "train", "--processes", 2)]
    with (place.root / "stderr").open("w+") as said:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
            preexec_fn=heed_signals,
        )
        try:
            while step_of(place) < step:
                assert process.poll() is None
                time.sleep(0.1)
            (os.killpg if whole_group else os.kill)(process.pid, end)
            process.communicate(timeout=60)  # until the last of its processes has let go of stdout
        finally:
            process.kill()
        said.seek(0)
        shown = said.read()
    assert "Traceback" not in shown
    return process.returncode, shown.splitlines(keepends=True)[-1]


def step_of(place: SimpleNamespace) -> int:
    path = place.work / "train" / "checkpoint.pt"
    return load_checkpoint(path)["step"] if path.exists() else -1


def test_a_training_ends_with_all_its_processes_and_goes_on(place):
    code, said = train_until(place, 3, signal.SIGTERM, whole_group=False)
    assert (code, said) == (143, f"training train: ended by SIGTERM; {GO_ON}")
    first = step_of(place)
    code, said = train_until(place, first + 3, signal.SIGINT, whole_group=True)  # as a terminal does
    assert (code, said) == (130, f"training train: interrupted; {GO_ON}")
    with (place.work / "train" / "log.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps[: step_of(place)] == list(range(1, step_of(place) + 1))
