"""Which part of the work a process does, as ``torchrun`` tells it: nothing is exchanged between processes.

``torchrun --nproc-per-node 4 -m training label ...`` starts four processes with RANK, WORLD_SIZE and LOCAL_RANK in
their environment. Work over independent samples needs no more than that; a process started by hand is the only one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ov_seg_ros.core.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One process among several that share a piece of work.

    Attributes:
        rank: of this process, 0 <= rank < world.
        world: number of processes on all machines together.
        local_rank: of this process among those on its machine; the number of its GPU.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world or self.local_rank < 0:
            raise ConfigError(
                f"RANK must be in 0..WORLD_SIZE - 1 and LOCAL_RANK >= 0, got RANK={self.rank}, "
                f"WORLD_SIZE={self.world}, LOCAL_RANK={self.local_rank}; let torchrun set them"
            )

    @property
    def name(self) -> str:
        """Usable in file names: ``0-of-4``."""
        return f"{self.rank}-of-{self.world}"


def read_shard(environment: Mapping[str, str] | None = None) -> Shard:
    """What ``torchrun`` says about this process.

    Args:
        environment: variables, those of the process by default.

    Raises:
        ConfigError: RANK without WORLD_SIZE or the other way round, or values that are no valid numbers.
    """
    variables = os.environ if environment is None else environment
    if ("RANK" in variables) != ("WORLD_SIZE" in variables):
        raise ConfigError("of RANK and WORLD_SIZE only one is set; set both, or start the processes with torchrun")
    values = []
    for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        text = variables.get(name, default)
        try:
            values.append(int(text))
        except ValueError:
            raise ConfigError(f"{name} must be a whole number, got {text!r}; let torchrun set it") from None
    return Shard(*values)


def shard(indices: range, rank: int, world: int) -> range:
    """The part of ``indices`` that process ``rank`` of ``world`` does.

    Parts are consecutive, because recordings are read fastest in order, and their lengths differ by at most one.
    """
    return indices[len(indices) * rank // world : len(indices) * (rank + 1) // world]


def claim_device(part: Shard) -> str:
    """Makes the GPU of this process the current one, so that "cuda" means it; returns "cuda:<number>" or "cpu".

    To be called before any network is built.

    Raises:
        ConfigError: there are GPUs on this machine, but fewer than processes.
    """
    try:
        import torch
    except ModuleNotFoundError:
        return "cpu"
    if not torch.cuda.is_available():
        return "cpu"
    count = torch.cuda.device_count()
    if part.local_rank >= count:
        raise ConfigError(
            f"process with LOCAL_RANK {part.local_rank} has no GPU, this machine has {count}: "
            f"start torchrun with --nproc-per-node {count}"
        )
    torch.cuda.set_device(part.local_rank)
    return f"cuda:{part.local_rank}"
