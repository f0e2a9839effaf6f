from __future__ import annotations

import pytest

from ov_seg_ros.core.errors import ConfigError
from training.teachers.device import choose_device

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(("devices", "kind"), [(0, "cpu"), (2, "cuda")])
def test_auto_takes_the_gpu_if_there_is_one(devices: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    assert choose_device("auto") == torch.device(kind)


def test_a_number_chooses_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="torch sees 2"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="auto, cpu, cuda or cuda:N"):
        choose_device(name)
