"""Where the results of a plan's steps live: few buffers per level, and concatenations that cost nothing.

A value that is joined with others is computed straight into its columns of the joined buffer. A buffer is used again
as soon as nobody reads it any more (linear scan over the steps).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.runtime.network_plan import Features, Joined, NotPlannableError, Step, Value, columns_of, level_of


@dataclass(frozen=True)
class Placement:
    """Where a value lies.

    Attributes:
        buffer: index among the buffers.
        first: first column within it.
        columns: (C,) int64, column of each channel of the value, counted from ``first``; gaps are padding.
    """

    buffer: int
    first: int
    columns: NDArray[np.int64]


@dataclass
class Buffer:
    """Rows of one level, ``width`` float32 columns each."""

    level: int
    width: int


@dataclass(frozen=True)
class BufferPlan:
    """Placements of all values of a plan, by identity, and the buffers they need."""

    placements: dict[int, Placement]
    buffers: tuple[Buffer, ...]

    def of(self, value: Value) -> Placement:
        """Where a value lies."""
        return self.placements[id(value)]


def plan_buffers(steps: Sequence[Step], features: Features, column_step: int) -> BufferPlan:
    """Places the features and the results of all steps.

    Args:
        steps: in the order they are computed.
        features: the network's input, as it occurs in ``steps``.
        column_step: every step's columns are padded to a multiple of this.

    Raises:
        NotPlannableError: a value is joined with others in more than one way.
    """
    owners = _owners(steps)
    last_use = _last_uses(steps, owners)
    plan = _Allocator(column_step)
    plan.claim(features, last_use.get(id(features), 0))
    for i, step in enumerate(steps):
        owner = owners.get(id(step), step)
        if id(owner) not in plan.placements:
            plan.claim(owner, last_use.get(id(owner), len(steps)))
        plan.release(i)
    return BufferPlan(plan.placements, tuple(plan.buffers))


def padded(columns: int, step: int) -> int:
    """``columns`` rounded up to a multiple of ``step``."""
    return -(-columns // step) * step


def _values_read(step: Step) -> Iterator[Value]:
    yield from (term.source for term in step.terms)
    if step.residual is not None:
        yield step.residual


def _owners(steps: Sequence[Step]) -> dict[int, Joined]:
    """The joined value that each joined part lies in."""
    owners: dict[int, Joined] = {}
    for step in steps:
        for value in _values_read(step):
            if not isinstance(value, Joined):
                continue
            for part in value.parts:
                if not isinstance(part, Step) or owners.setdefault(id(part), value) is not value:
                    raise NotPlannableError("a value that is joined twice")
    return owners


def _last_uses(steps: Sequence[Step], owners: dict[int, Joined]) -> dict[int, int]:
    """Index of the last step that reads a value or what it is joined with."""
    last: dict[int, int] = {}
    for i, step in enumerate(steps):
        for value in _values_read(step):
            last[id(owners.get(id(value), value))] = i
    return last


class _Allocator:
    def __init__(self, column_step: int) -> None:
        self.placements: dict[int, Placement] = {}
        self.buffers: list[Buffer] = []
        self._column_step = column_step
        self._free: set[int] = set()
        self._busy_until: dict[int, int] = {}

    def claim(self, value: Value, last_use: int) -> None:
        """Gives a value, with all its parts, a buffer of its level until the step ``last_use`` is done."""
        parts = value.parts if isinstance(value, Joined) else (value,)
        widths = [padded(columns_of(part), self._column_step) for part in parts]
        buffer = self._take(level_of(value), sum(widths))
        self._busy_until[buffer] = last_use
        firsts = [sum(widths[:i]) for i in range(len(parts))]
        for part, first in zip(parts, firsts, strict=True):
            self.placements[id(part)] = Placement(buffer, first, np.arange(columns_of(part)))
        if isinstance(value, Joined):
            columns = [first + np.arange(columns_of(part)) for part, first in zip(parts, firsts, strict=True)]
            self.placements[id(value)] = Placement(buffer, 0, np.concatenate(columns))

    def release(self, step: int) -> None:
        """Frees the buffers whose values nobody reads after a step."""
        self._free |= {buffer for buffer, last in self._busy_until.items() if last <= step}
        self._busy_until = {buffer: last for buffer, last in self._busy_until.items() if last > step}

    def _take(self, level: int, width: int) -> int:
        """The free buffer of the level that needs the least widening, or a new one."""
        candidates = [buffer for buffer in sorted(self._free) if self.buffers[buffer].level == level]
        if not candidates:
            self.buffers.append(Buffer(level, width))
            return len(self.buffers) - 1
        best = min(candidates, key=lambda buffer: abs(self.buffers[buffer].width - width))
        self._free.remove(best)
        self.buffers[best].width = max(self.buffers[best].width, width)
        return best
