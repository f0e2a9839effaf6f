"""Ranges of settings: a number that makes no sense is refused when it is read, not hours later."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ov_seg_ros.core.errors import ConfigError


@dataclass(frozen=True)
class ValueRange:
    """Finite numbers between two bounds.

    Attributes:
        low, high: the bounds; infinite = none on this side.
        without_low, without_high: the bound itself is not allowed.
    """

    low: float = -math.inf
    high: float = math.inf
    without_low: bool = False
    without_high: bool = False

    def check(self, settings: object, *names: str) -> None:
        """Refuses settings outside of the range.

        Args:
            settings: any object.
            names: of its attributes, each a number or a tuple of them.

        Raises:
            ConfigError: one is outside, NaN or infinite.
        """
        for name in names:
            value = getattr(settings, name)
            if not all(self._holds(number) for number in (value if isinstance(value, tuple) else (value,))):
                raise ConfigError(f"{name} must be {self}, got {value}")

    def __str__(self) -> str:
        if math.isinf(self.high):
            return "finite" if math.isinf(self.low) else f"{'>' if self.without_low else '>='} {self.low:g} and finite"
        return f"in {'(' if self.without_low else '['}{self.low:g}, {self.high:g}{')' if self.without_high else ']'}"

    def _holds(self, number: float) -> bool:
        above = number > self.low if self.without_low else number >= self.low
        below = number < self.high if self.without_high else number <= self.high
        return above and below and math.isfinite(number)


FINITE = ValueRange()
POSITIVE = ValueRange(0, without_low=True)
NOT_NEGATIVE = ValueRange(0)
AT_LEAST_ONE = ValueRange(1)
SHARE = ValueRange(0, 1)
SEED = ValueRange(0, 2**32 - 1)
