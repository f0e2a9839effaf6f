"""What torchrun says, and who does what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.core.errors import ConfigError
from training import sharding
from training.sharding import Shard, claim_device, read_shard, shard


def test_the_environment_of_torchrun():
    assert read_shard({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Shard(5, 8, 1)
    assert read_shard({"RANK": "5", "WORLD_SIZE": "8"}).name == "5-of-8"
    assert read_shard({}) == Shard(0, 1, 0)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "1"}, "of RANK and WORLD_SIZE only one is set"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "got RANK=2, WORLD_SIZE=2"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "got RANK=-1"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK must be a whole number, got 'one'"),
    ],
)
def test_environments_that_cannot_be(variables, message):
    with pytest.raises(ConfigError, match=message):
        read_shard(variables)


def test_parts_by_hand():
    assert [list(shard(range(10), rank, 3)) for rank in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert list(shard(range(5, 7), 0, 4)) == []


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 40))
def test_parts_are_everything_once_and_even(start, count, world):
    parts = [shard(range(start, start + count), rank, world) for rank in range(world)]
    assert [i for part in parts for i in part] == list(range(start, start + count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_every_process_takes_its_gpu(monkeypatch):
    torch = pytest.importorskip("torch")
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert claim_device(Shard(5, 8, 1)) == "cuda:1"
    assert taken == [1]
    with pytest.raises(ConfigError, match=r"LOCAL_RANK 2 has no GPU, this machine has 2: .* --nproc-per-node 2"):
        claim_device(Shard(2, 8, 2))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sharding.claim_device(Shard(2, 8, 2)) == "cpu"
