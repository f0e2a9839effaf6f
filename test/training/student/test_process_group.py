"""A group of processes sums, waits, and notices members that fail."""

import signal
from functools import partial
from multiprocessing.process import BaseProcess

import pytest
import torch

from ov_seg_ros.core.errors import ConfigError, ProcessError
from ov_seg_ros.core.interruption import Terminated
from training.student.divergence import check_losses
from training.student.process_group import ProcessGroup
from training.student.trainer import TrainerConfig


def test_sums_go_over_all_members():
    ones, row = torch.ones(2, 3), torch.tensor([1.0, 2.0])
    others = partial(ProcessGroup.sum_, tensors=[torch.full((2, 3), 4.0), torch.tensor([10.0, 20.0])])
    with ProcessGroup.local(2, others) as group:
        assert (group.rank, group.size) == (0, 2)
        group.sum_([ones, row])
    assert torch.equal(ones, torch.full((2, 3), 5.0))
    assert torch.equal(row, torch.tensor([11.0, 22.0]))


def test_a_group_of_one_starts_nothing():
    row = torch.ones(3)
    with ProcessGroup.local(1, print) as group:
        group.sum_([row])
        group.wait()
    assert torch.equal(row, torch.ones(3))


def test_a_failing_member_stops_the_others():
    with pytest.raises(RuntimeError), ProcessGroup.local(2, partial(ProcessGroup.sum_, tensors=3)) as group:
        group.sum_([torch.ones(3)])


def test_the_first_process_speaks_for_all_when_a_training_diverges(capfd):
    member = partial(check_losses, {"loss": float("nan")}, 3, TrainerConfig())  # takes the group for the folder
    with ProcessGroup.local(2, member):
        pass  # waits for the other one
    assert capfd.readouterr().err == ""


def only_known_here(group):
    """Test modules cannot be imported by a new process."""


def test_a_member_that_cannot_start_is_reported():
    with pytest.raises(ProcessError, match="could not start"), ProcessGroup.local(2, only_known_here):
        pass


def test_an_end_that_comes_before_the_others_have_started_is_passed_on(monkeypatch):
    def be_ended(process):
        raise Terminated(signal.SIGTERM)

    monkeypatch.setattr(BaseProcess, "start", be_ended)
    with pytest.raises(Terminated), ProcessGroup.local(3, print):
        pass


def test_unknown_devices_are_refused():
    with pytest.raises(ConfigError, match="device must be auto, cpu or cuda, got 'gpu'"):
        ProcessGroup.join("gpu")
