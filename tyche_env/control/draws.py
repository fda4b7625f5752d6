"""Compiled twin of ``tyche_env.draws``: the same numbers from the same keys."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tyche_env.control.compiled import inner
from tyche_env.draws import LOG2_E_Q16
from tyche_env.tables import EXP2, NORMAL

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S40, _S52 = (np.uint64(n) for n in (27, 30, 31, 40, 52))


@inner
def mix64(x: np.uint64) -> np.uint64:
    """SplitMix64's finaliser."""
    x = x + _GOLDEN
    x = (x ^ (x >> _S30)) * _MIX_A
    x = (x ^ (x >> _S27)) * _MIX_B
    return x ^ (x >> _S31)


@inner
def draw_u64(seed: int, concern: int, entity: int, ordinal: int) -> np.uint64:
    """A uniform 64-bit integer keyed by its four arguments."""
    key = mix64(np.uint64(seed)) ^ (np.uint64(concern) << _S40) ^ np.uint64(entity)
    return mix64(mix64(key) ^ np.uint64(ordinal))


@inner
def noisy_us(tables: NDArray[np.int64], duration_us: int, sigma_ppm: int, u64: np.uint64) -> int:
    """A duration times a log-normal factor with median 1 (see ``tyche_env.draws.noisy_us``)."""
    log2_q16 = ((sigma_ppm * tables[NORMAL, np.int64(u64 >> _S52)]) // 1_000_000 * LOG2_E_Q16) >> 16
    scaled = (duration_us * tables[EXP2, (log2_q16 & 0xFFFF) >> 4]) >> 30
    whole = log2_q16 >> 16
    if whole >= 0:
        return scaled << whole
    return scaled >> (-whole)


@inner
def noisy(
    tables: NDArray[np.int64], duration_us: int, sigma_ppm: int, seed: int, concern: int, function: int, ordinal: int
) -> int:
    """How long a stage takes; draws nothing when there is no noise (``docs/engine.md``, noisy)."""
    if sigma_ppm == 0:
        return duration_us
    return noisy_us(tables, duration_us, sigma_ppm, draw_u64(seed, concern, function, ordinal))
