"""The training loop: batches in, a checkpoint out, whatever is learned. Any interrupted run continues exactly."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError, InputError
from training.atomic_files import explain_full_disk
from training.student.checkpoint import CHECKPOINT, load_checkpoint, require_fit, save_checkpoint
from training.student.divergence import check_losses, check_weights
from training.student.minkunet import MinkUNet
from training.student.optimization import OptimizerConfig
from training.student.process_group import ProcessGroup
from training.student.training_log import TrainingLog
from training.value_ranges import AT_LEAST_ONE, NOT_NEGATIVE, SEED, SHARE

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after every step with (step, steps, losses)."""


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of one training. They say what is computed, not on how many processes: that changes nothing.

    Attributes:
        steps: optimiser steps; 0 = as many as ``epochs`` make.
        epochs: passes over the data, if ``steps`` is 0.
        batch_size: scans per optimiser step.
        scans_per_pass: scans that go through the network together and share batch norm statistics; the gradients of
            a batch are averaged over its passes. 0 = the whole batch at once.
        precision: of the network's arithmetic, "fp32", "bf16" or "fp16" (with loss scaling).
        only_head: train the last layer alone, the rest is fixed (linear probing).
        average: decay of the moving average of the weights, which is what is exported; 0 = no averaging.
        checkpoint_every: steps between checkpoints.
        seed: of everything random.
        optimizer: see there.
    """

    steps: int = 3000
    epochs: int = 0
    batch_size: int = 2
    scans_per_pass: int = 0
    precision: str = "fp32"
    only_head: bool = False
    average: float = 0.998
    checkpoint_every: int = 250
    seed: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        NOT_NEGATIVE.check(self, "steps", "epochs", "scans_per_pass")
        AT_LEAST_ONE.check(self, "batch_size", "checkpoint_every")
        SHARE.check(self, "average")
        SEED.check(self, "seed")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.batch_size % self.pass_size:
            raise ConfigError(f"batch_size {self.batch_size} must be a multiple of scans_per_pass {self.pass_size}")
        if (self.steps > 0) == (self.epochs > 0):
            raise ConfigError(f"give either steps or epochs, got steps {self.steps} and epochs {self.epochs}")

    @property
    def pass_size(self) -> int:
        """Scans that go through the network together."""
        return self.scans_per_pass or self.batch_size

    @property
    def passes(self) -> int:
        """Forward and backward passes per optimiser step."""
        return self.batch_size // self.pass_size

    def num_steps(self, num_scans: int) -> int:
        """Optimiser steps on a set of ``num_scans``."""
        return self.steps or math.ceil(self.epochs * num_scans / self.batch_size)


class Batch(Protocol):
    """What an objective learns from in one pass."""

    def to(self, device: torch.device) -> Any:
        """The same batch on a device."""
        ...


class Examples(Protocol):
    """What is learned from."""

    def __len__(self) -> int: ...

    def make_batch(self, indices: Sequence[int], num_levels: int, rng: np.random.Generator) -> Batch:
        """The examples at ``indices`` as one batch, changed at random."""
        ...


class Objective(Protocol):
    """What is learned, by which network."""

    network: MinkUNet

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss of a batch, and its terms by name."""
        ...


class Trainer:
    """Trains one network; ``run`` starts or continues, ``average`` holds the averaged network afterwards.

    With several processes every pass of a batch is computed by one of them, with the same result as on one.
    """

    def __init__(
        self,
        config: TrainerConfig,
        objective: Objective,
        examples: Examples,
        out: Path,
        group: ProcessGroup | None = None,
        loaders: int = 1,
    ) -> None:
        """Prepares a training.

        Args:
            config: what to compute.
            objective: loss and network; every process must start with equal weights (``torch.manual_seed``).
            examples: what is learned from.
            out: folder of the checkpoint and the log.
            group: the processes that work together; None = this one alone.
            loaders: threads that prepare batches.

        Raises:
            InputError: nothing to learn from.
            ConfigError: the passes of a batch cannot be divided among the processes.
        """
        if not len(examples):
            raise InputError("there are no labelled scans to train on: run the label stage first")
        self.group = group or ProcessGroup()
        if config.passes % self.group.size:
            raise ConfigError(
                f"a batch of {config.batch_size} scans in passes of {config.pass_size} makes {config.passes} passes, "
                f"which {self.group.size} processes cannot share: change scans_per_pass or the number of processes"
            )
        self.config, self.objective, self.examples, self.out, self.loaders = config, objective, examples, out, loaders
        self.network = objective.network.to(self.group.device)
        if config.only_head:
            self.network.requires_grad_(False)
            self.network.head.requires_grad_(True)
        self.average = deepcopy(self.network)
        self.steps = config.num_steps(len(examples))
        self.optimizer = config.optimizer.build(self.network, config.only_head)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate_factor)
        self.scaler = torch.amp.GradScaler(self.group.device.type, enabled=config.precision == "fp16")
        self.step = 0

    def run(self, progress: Progress | None = None) -> MinkUNet:
        """Trains to the last step and returns the averaged network in evaluation mode, on the CPU.

        Raises:
            InputError: the checkpoint in the folder does not fit.
            DivergenceError: a loss or the weights became NaN or infinite; the checkpoint before stays.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        self._resume()
        with nullcontext() if self.group.rank else TrainingLog(self.out / "log.csv", self.step) as log:
            passes = self._passes()
            while self.step < self.steps:
                begin = time.perf_counter()
                rate = self.optimizer.param_groups[0]["lr"]
                losses, waited = self._train_step(passes)
                if log is not None:
                    times = {"seconds": time.perf_counter() - begin, "waited_for_data": waited}
                    log.write({"step": self.step, "learning_rate": rate, **times, **losses})
                check_losses(losses, self.step, self.config, self.out)
                if progress is not None:
                    progress(self.step, self.steps, losses)
                if self.step % self.config.checkpoint_every == 0 or self.step == self.steps:
                    self._save(log)
        return self.average.cpu().eval()

    def _train_step(self, passes: Iterator[Batch]) -> tuple[dict[str, float], float]:
        """One optimiser step; returns the losses averaged over the group and the seconds spent waiting for data."""
        self.network.train(not self.config.only_head)
        self.optimizer.zero_grad()
        norms = [b for b in self.network.buffers() if b.dtype.is_floating_point]
        start, total = [b.clone() for b in norms], [torch.zeros_like(b) for b in norms]
        terms: dict[str, Tensor] = {}
        waited = 0.0
        for _ in range(self.config.passes // self.group.size):
            begin = time.perf_counter()
            batch = next(passes)
            waited += time.perf_counter() - begin
            for buffer, value in zip(norms, start, strict=True):
                buffer.copy_(value)
            with self._autocast():
                loss, parts = self.objective.loss(batch.to(self.group.device))
            self.scaler.scale(loss / self.config.passes).backward()
            for name, value in {"loss": loss, **parts}.items():
                terms[name] = terms.get(name, 0) + value.detach() / self.config.passes
            for mean, value in zip(total, norms, strict=True):
                mean += value / self.config.passes
        self._share(terms, norms, total)
        self._update()
        return {name: float(value) for name, value in terms.items()}, waited

    def _share(self, terms: dict[str, Tensor], norms: list[Tensor], total: list[Tensor]) -> None:
        """Sums gradients, batch norm statistics and losses over the group."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        self.group.sum_(gradients)
        self.group.sum_(total)
        self.group.sum_(list(terms.values()))
        for buffer, mean in zip(norms, total, strict=True):
            buffer.copy_(mean)

    def _update(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.config.optimizer.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.step += 1
        self._update_average()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.average, self.step / (self.step + 10))
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point and self.config.average:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def _autocast(self) -> Any:
        dtype = PRECISIONS[self.config.precision]
        return nullcontext() if dtype is None else torch.autocast(self.group.device.type, dtype)

    def _passes(self) -> Iterator[Batch]:
        """Batches of this process's remaining passes; later ones are made while the current one is used."""
        own = [
            (step, number)
            for step in range(self.step, self.steps)
            for number in range(self.group.rank, self.config.passes, self.group.size)
        ]
        with ThreadPoolExecutor(self.loaders) as pool:
            ahead: deque[Future[Batch]] = deque(pool.submit(self._make_batch, *p) for p in own[: self.loaders])
            for index, (step, number) in enumerate(own):
                batch = ahead.popleft().result()
                if index + self.loaders < len(own):
                    ahead.append(pool.submit(self._make_batch, *own[index + self.loaders]))
                torch.manual_seed((self.config.seed * 1_000_003 + step) * 1_009 + number)
                yield batch

    def _make_batch(self, step: int, number: int) -> Batch:
        """Batch of one pass, a function of the seed and its number alone: that makes resuming exact."""
        rng = np.random.default_rng([self.config.seed, step, number])
        num_levels = self.network.config.num_levels
        return self.examples.make_batch(self._chosen(step, number), num_levels, rng)

    def _chosen(self, step: int, number: int) -> list[int]:
        """Examples of a pass: a new permutation every epoch."""
        size, count = self.config.pass_size, len(self.examples)
        first = step * self.config.batch_size + number * size
        positions = range(first, first + size)
        orders = {p // count: np.random.default_rng([self.config.seed, 7, p // count]) for p in positions}
        permutations = {epoch: rng.permutation(count) for epoch, rng in orders.items()}
        return [int(permutations[p // count][p % count]) for p in positions]

    def _rate_factor(self, step: int) -> float:
        return self.config.optimizer.factor(step, self.steps, len(self.examples) / self.config.batch_size)

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "shape": asdict(self.network.config),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "config": asdict(self.config),
        }

    def _save(self, log: TrainingLog | None) -> None:
        self._check_weights()
        if log is not None:
            with explain_full_disk(self.out):
                log.flush()
            save_checkpoint(self.out / CHECKPOINT, self._state())
        self.group.wait()

    def _resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        state = load_checkpoint(path)  # on the CPU, where an optimiser's counters stay; it copies the rest itself
        if state.get("config") != asdict(self.config) or state.get("shape") != asdict(self.network.config):
            raise InputError(f"{path} was trained with other settings: choose another output folder or delete it")
        for name, network in (("network", self.network), ("average", self.average)):
            require_fit(path, state[name], network.state_dict())
            network.load_state_dict(state[name])
        try:
            for name, part in (("optimizer", self.optimizer), ("schedule", self.schedule), ("scaler", self.scaler)):
                part.load_state_dict(state[name])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{path} cannot be continued ({error}): delete it and train again") from error
        self.step = state["step"]
        self._check_weights()

    def _check_weights(self) -> None:
        weights = (*self.network.state_dict().values(), *self.average.state_dict().values())
        check_weights(weights, self.step, self.config, self.out)
