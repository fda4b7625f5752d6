"""Counter-based random draws: each is a pure function of (seed, concern, entity, ordinal).

Every policy therefore meets the same world, whatever it did before, and the compiled engine, the reference engine and
any process draw the same numbers.  The mixer is SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014).
This module is plain Python; ``tyche_env.control.draws`` holds the compiled twin, and a test holds the two together.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tyche_env.tables import EXP2, NORMAL, load_tables

_MASK = (1 << 64) - 1
LOG2_E_Q16 = 94_548
"""log2(e) in 1/65536."""


class Concern(IntEnum):
    """What a draw is for; draws of different concerns are independent."""

    HOME = 1
    RING = 2
    STEP = 3
    OVERFLOW = 4
    INIT = 5
    LIBRARY = 6
    MODEL = 7
    TRANSFER = 8
    INFERENCE = 9
    LOAD_LIBRARY = 10
    LOAD_MODEL = 11
    LOAD_TRANSFER = 12
    PREWARM_INIT = 13
    POLICY = 14


def mix64(x: int) -> int:
    """SplitMix64's finaliser on a 64-bit integer."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def draw_u64(seed: int, concern: int, entity: int, ordinal: int) -> int:
    """A uniform 64-bit integer."""
    return mix64(mix64(mix64(seed & _MASK) ^ (concern << 40) ^ entity) ^ ordinal)


@cache
def _tables() -> tuple[list[int], list[int]]:
    tables: NDArray[np.int64] = load_tables()
    return tables[NORMAL].tolist(), tables[EXP2].tolist()


def noisy_us(duration_us: int, sigma_ppm: int, u64: int) -> int:
    """A duration times a log-normal factor with median 1, in integers only.

    Args:
        duration_us: median duration, below 2^32.
        sigma_ppm: standard deviation of the logarithm, in 1e-6.
        u64: a draw; its top twelve bits choose the normal quantile.
    """
    if sigma_ppm == 0:
        return duration_us
    normal, exp2 = _tables()
    log2_q16 = ((sigma_ppm * normal[u64 >> 52]) // 1_000_000 * LOG2_E_Q16) >> 16
    scaled = (duration_us * exp2[(log2_q16 & 0xFFFF) >> 4]) >> 30
    whole = log2_q16 >> 16
    return scaled << whole if whole >= 0 else scaled >> -whole
