"""Integer tables that both engines read, shipped as data so that every machine has the same ones.

Row constants name the rows of the (11, 4096) int64 array in ``tables.npy``.  :func:`make_tables` says how each was
made; a test compares the file with it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SIZE = 4096
NORMAL = 0
"""Normal quantile at (i + 1/2) / 4096, in 1/65536."""
EXP2 = 1
"""2^(i / 4096), in 2^-30."""
PROBABILITY = 2
"""1 - exp(-i / 256), in 2^-20."""
PROBABILITY_FINE = 3
"""1 - exp(-i / 65536), in 2^-20."""
TAIL = 4
"""Rows TAIL + j - 1, j = 1..7: P(Poisson(i / 256) >= j), in 2^-20."""
ROWS = TAIL + 7

ONE_Q20 = 1 << 20
"""Probability 1 in the units of priorities."""

_FILE = Path(__file__).with_name("tables.npy")


def make_tables() -> NDArray[np.int64]:
    """Compute the tables from their definitions (needs no more than the standard library's normal distribution)."""
    index = np.arange(SIZE)
    tables = np.zeros((ROWS, SIZE), dtype=np.int64)
    quantile = NormalDist().inv_cdf
    tables[NORMAL] = [round(quantile((i + 0.5) / SIZE) * 65536) for i in range(SIZE)]
    tables[EXP2] = np.rint(2.0 ** (index / SIZE) * 2**30)
    tables[PROBABILITY] = np.rint(-np.expm1(-index / 256) * ONE_Q20)
    tables[PROBABILITY_FINE] = np.rint(-np.expm1(-index / 65536) * ONE_Q20)
    term = np.exp(-index / 256)
    below = term.copy()
    for j in range(1, 8):
        tables[TAIL + j - 1] = np.rint((1.0 - below) * ONE_Q20)
        term = term * (index / 256) / j
        below = below + term
    return tables


@cache
def load_tables() -> NDArray[np.int64]:
    """The shipped tables, (11, 4096) int64, read-only."""
    tables: NDArray[np.int64] = np.load(_FILE)
    tables.setflags(write=False)
    return tables


def table_row(rates: NDArray[np.float64]) -> NDArray[np.int32]:
    """P(at least one request) in 2^-20 of Poisson counts with these means, for ``World.forecast``.

    Negative forecasts count as none.
    """
    chance: NDArray[np.int32] = np.rint(-np.expm1(-np.maximum(0.0, rates)) * ONE_Q20).astype(np.int32)
    return chance
