"""The row network's features from the rows of an observation: the plain twin of ``control.network.write_features``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.network import INPUTS, MOST_ARRIVALS
from tyche_env.spaces import FUNCTION_COLUMNS, column

_AGE, _MEAN_GAP, _MEAN_GAP_3, _LAST_GAP, _COV, _CENSORED, _RATES, _HAZARDS, _ARRIVALS = (
    column("functions", name)
    for name in (
        "age_s",
        "mean_gap_s",
        "mean_gap_3_s",
        "last_gap_s",
        "gap_cov",
        "censored_rate_per_s",
        "rate_1min_per_s",
        "hazard_10s",
        "arrivals_count",
    )
)
_COPIES = [column("functions", f"{name}_count") for name in ("running", "loading", "held", "gpu")]
WIDTH = len(FUNCTION_COLUMNS)


def occupied(rows: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Whether each function of (..., 36) rows takes memory: a copy of it runs, loads or is held."""
    taken: NDArray[np.bool_] = rows[..., _COPIES].sum(axis=-1) > 0
    return taken


def features_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of functions, in the order of ``network.FEATURES``; zeros where there was no request yet.

    Args:
        rows: (..., 36) rows of the table ``functions``.

    Returns:
        (..., INPUTS) float32.
    """
    out = np.zeros((*rows.shape[:-1], INPUTS), np.float32)
    known = rows[..., _ARRIVALS] > 0
    row = rows[known].astype(np.float64)
    age_s, mean_gap_s, last_gap_s = row[:, _AGE], row[:, _MEAN_GAP], row[:, _LAST_GAP]
    columns = [
        np.log1p(age_s),
        np.log1p(mean_gap_s),
        np.log1p(row[:, _MEAN_GAP_3]),
        np.log1p(last_gap_s),
        np.log1p(row[:, _COV]),
        np.log1p(1.0 / row[:, _CENSORED]),
        *(np.log1p(3600.0 * row[:, _RATES + k]) for k in range(3)),
        *(row[:, _HAZARDS + k] for k in range(3)),
        np.log1p(np.minimum(MOST_ARRIVALS, row[:, _ARRIVALS])),
        np.log1p(age_s / np.maximum(1.0, mean_gap_s)),
        np.log1p(age_s / np.maximum(1.0, last_gap_s)),
        occupied(row),
    ]
    out[known] = np.stack(columns, axis=-1)
    return out
