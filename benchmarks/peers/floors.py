"""What no engine can do without: the matrix products alone, and how fast this machine copies and multiplies."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.case import Case
from benchmarks.peers.workload import count_work, shapes_of

COPY_BYTES = 2 * 256 * 2**20
"""Bytes that ``Copy.run`` moves, read and written; far more than any cache holds of one array."""
PEAK_EDGE = 2048
PEAK_FLOP = 2 * PEAK_EDGE**3
"""Floating point operations of ``GemmPeak.run``."""


class GemmOnly:
    """Every matrix product of the network on arrays of the right shape, contiguous and allocated before.

    Rows are neither gathered nor scattered, and inputs are whatever lies at the start of one buffer, which is the best
    a cache can hope for. Bias, activation, addition and concatenation are left out as well.
    """

    def __init__(self, case: Case, threads: int) -> None:
        torch.set_num_threads(threads)
        weights = case.weights()
        work = count_work(shapes_of(weights), case.pyramid())
        read = torch.rand(max(max(w.rows) * w.c_in for w in work.layers)) - 0.5
        written = torch.empty(max(max(w.rows) * w.c_out for w in work.layers))
        self.products: list[tuple[Tensor, Tensor, Tensor]] = []
        for layer in work.layers:
            weight = torch.from_numpy(weights[layer.layer])
            for position, rows in enumerate(layer.rows):
                if rows:
                    left = read[: rows * layer.c_in].view(rows, layer.c_in)
                    out = written[: rows * layer.c_out].view(rows, layer.c_out)
                    self.products.append((left, weight[position], out))

    def run(self) -> None:
        """All products."""
        for left, right, out in self.products:
            torch.mm(left, right, out=out)

    def logits(self, result: None) -> None:
        """There are none."""


class Copy:
    """A copy of ``COPY_BYTES / 2`` bytes."""

    def __init__(self, case: Case, threads: int) -> None:
        torch.set_num_threads(threads)
        self._source = torch.ones(COPY_BYTES // 8)
        self._target = torch.zeros(COPY_BYTES // 8)

    def run(self) -> None:
        """One copy."""
        self._target.copy_(self._source)

    def logits(self, result: None) -> None:
        """There are none."""


class GemmPeak:
    """One large square matrix product in float32."""

    def __init__(self, case: Case, threads: int) -> None:
        torch.set_num_threads(threads)
        self._left = torch.rand(PEAK_EDGE, PEAK_EDGE) - 0.5
        self._right = torch.rand(PEAK_EDGE, PEAK_EDGE) - 0.5
        self._out = torch.empty(PEAK_EDGE, PEAK_EDGE)

    def run(self) -> None:
        """One product."""
        torch.mm(self._left, self._right, out=self._out)

    def logits(self, result: None) -> None:
        """There are none."""
