"""How much of a matrix product a processor keeps in its registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import numba

COLUMN_STEP = 8
"""Columns of every matrix are padded to a multiple of this."""
INNER_STEP = 4
"""Rows of every matrix (the inner dimension) are padded to a multiple of this: that many steps are unrolled."""


@dataclass(frozen=True)
class TileShape:
    """How results are kept in registers.

    Attributes:
        vector: float32 values per register.
        rows: rows of a tile by the registers its width takes; entry 0 is unused.
    """

    vector: int
    rows: tuple[int, ...]

    @property
    def panel(self) -> int:
        """Widest tile in columns."""
        return self.vector * (len(self.rows) - 1)

    def registers(self, width: int) -> list[int]:
        """Values per register of a tile of ``width`` columns; the last may be half a register."""
        full, rest = divmod(width, self.vector)
        return [self.vector] * full + [rest] * (rest > 0)


AVX512 = TileShape(16, (0, 16, 12, 8, 6))  # 32 registers
AVX2 = TileShape(8, (0, 8, 6))  # 16 registers
NEON = TileShape(4, (0, 8, 8, 8, 6))  # 32 registers
SSE = TileShape(4, (0, 8, 6))  # 16 registers


def tile_shape_of_host() -> TileShape:
    """What suits the processor that Numba compiles for."""
    triple = llvmlite.binding.get_process_triple()
    if triple.startswith(("aarch64", "arm64")):
        return NEON
    features = _features()
    if {"avx512f", "avx512vl"} <= features:
        return AVX512
    return AVX2 if {"avx2", "fma"} <= features else SSE


def _features() -> set[str]:
    """As Numba sees them: the environment variable NUMBA_CPU_FEATURES replaces what the processor says."""
    settings: Any = numba.config  # its attributes come from the environment
    if settings.CPU_FEATURES is not None:
        return {name[1:] for name in settings.CPU_FEATURES.split(",") if name.startswith("+")}
    return {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}


SHAPES = (AVX512, AVX2, NEON, SSE)
TILE = tile_shape_of_host()
HOST_SHAPE = SHAPES.index(TILE)
"""Index of ``TILE``, a literal for the intrinsics that take a shape."""


def panel_widths(columns: int, shape: TileShape = TILE) -> list[int]:
    """Splits padded columns into panels of at most ``shape.panel``, each but the last whole registers wide."""
    unit = max(shape.vector, COLUMN_STEP)
    units, rest = divmod(columns, unit)
    count = max(1, -(-columns // shape.panel))
    widths = [unit * (units // count + (i < units % count)) for i in range(count)]
    widths = [width for width in widths if width]
    if rest and widths and widths[-1] + rest <= shape.panel:
        widths[-1] += rest
    elif rest:
        widths.append(rest)
    return widths
