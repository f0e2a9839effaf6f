"""The processes that train one network together: alone, on one machine, or wherever ``torchrun`` started them."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Semaphore
from pathlib import Path

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError, ProcessError
from ov_seg_ros.core.interruption import end_with, unheard_by_children
from training.student.divergence import DivergenceError


@dataclass(frozen=True)
class ProcessGroup:
    """One member of the group.

    Attributes:
        rank: of this process, 0 = the one that writes files.
        size: number of processes.
        device: where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str = "auto") -> ProcessGroup:
        """Joins the group that ``torchrun`` describes in the environment; without it, a group of one.

        Args:
            device: "cpu", "cuda", or "auto" for a GPU where torch has one. With several processes on a machine,
                each takes the GPU of its ``LOCAL_RANK``.

        Raises:
            ConfigError: an unknown device, or "cuda" where torch has no GPU.
        """
        chosen = choose_device(device)
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(device=chosen)
        rank = int(os.environ["RANK"])
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(rank, size, chosen)

    @classmethod
    @contextmanager
    def local(cls, size: int, member: Callable[[ProcessGroup], object]) -> Iterator[ProcessGroup]:
        """A group of ``size`` processes on the CPU of this machine; this process is its first.

        Args:
            size: number of processes; with 1, nothing is started.
            member: what the others run; a picklable function. It must do what this process does in the block.
        """
        if size == 1:
            yield cls()
            return
        context = torch.multiprocessing.get_context("spawn")
        with tempfile.TemporaryDirectory() as folder:
            meeting = Path(folder) / "meeting"
            with unheard_by_children():  # Python starts one of its own here, which looks after shared resources
                ready = context.Semaphore(0)
            rest = (size, meeting, torch.get_num_threads(), ready, os.getpid(), member)
            others = [context.Process(target=_run_member, args=(rank, *rest), daemon=True) for rank in range(1, size)]
            try:
                with unheard_by_children():
                    for process in others:
                        process.start()
                _await_start(others, ready)
                yield _meet(0, size, meeting)
                for process in others:
                    process.join()
            finally:
                for process in others:
                    if process.pid is not None:  # else it was not even started when the end came
                        process.kill()
                if torch.distributed.is_initialized():
                    torch.distributed.destroy_process_group()

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over the group, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def wait(self) -> None:
        """Returns when every process of the group got here."""
        if self.size > 1:
            torch.distributed.barrier()


def choose_device(device: str) -> torch.device:
    """Where this process computes.

    Args:
        device: "cpu", "cuda", or "auto" for a GPU where torch has one.

    Raises:
        ConfigError: an unknown device, or "cuda" where torch has no GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got {device!r}")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but torch finds no GPU: install a CUDA build, or use device cpu")
    chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(chosen)
    return chosen


def _meet(rank: int, size: int, meeting: Path) -> ProcessGroup:
    torch.distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=size)
    group = ProcessGroup(rank, size)
    group.wait()  # else one that has nothing to do hangs up on those that are still connecting
    return group


def _run_member(
    rank: int,
    size: int,
    meeting: Path,
    threads: int,
    ready: Semaphore,
    first: int,
    member: Callable[[ProcessGroup], object],
) -> None:
    end_with(first, signal.SIGKILL)
    torch.set_num_threads(threads)
    ready.release()
    with suppress(DivergenceError):  # all see it in the losses they share, and the first process says so
        member(_meet(rank, size, meeting))
    torch.distributed.destroy_process_group()


def _await_start(processes: Sequence[BaseProcess], ready: Semaphore) -> None:
    """Waits until all processes run; a meeting with one that died on the way would last forever."""
    for _ in processes:
        while not ready.acquire(timeout=0.2):
            if any(p.exitcode is not None for p in processes):
                raise ProcessError("a process of the training could not start; its error is above")
