"""The row network's features from the rows of an observation: the plain twin of ``control.network.write_features``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.network import INPUTS, MOST_ARRIVALS
from tyche_env.spaces import FUNCTION_COLUMNS, positions

_F = positions("functions")
_COPIES = [_F.running_count, _F.loading_count, _F.held_count, _F.gpu_count]
WIDTH = len(FUNCTION_COLUMNS)


def occupied(rows: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Whether each function of (..., WIDTH) rows takes memory: a copy of it runs, loads or is held."""
    taken: NDArray[np.bool_] = rows[..., _COPIES].sum(axis=-1) > 0
    return taken


def features_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of functions, in the order of ``network.FEATURES``; zeros where there was no request yet.

    Args:
        rows: (..., WIDTH) rows of the table ``functions``.

    Returns:
        (..., INPUTS) float32.
    """
    out = np.zeros((*rows.shape[:-1], INPUTS), np.float32)
    known = rows[..., _F.arrivals_count] > 0
    row = rows[known].astype(np.float64)
    age_s, mean_gap_s, last_gap_s = row[:, _F.age_s], row[:, _F.mean_gap_s], row[:, _F.last_gap_s]
    columns = [
        np.log1p(age_s),
        np.log1p(mean_gap_s),
        np.log1p(row[:, _F.mean_gap_3_s]),
        np.log1p(last_gap_s),
        np.log1p(row[:, _F.gap_cov]),
        np.log1p(1.0 / row[:, _F.censored_rate_per_s]),
        *(np.log1p(3600.0 * row[:, at]) for at in (_F.rate_1min_per_s, _F.rate_10min_per_s, _F.rate_60min_per_s)),
        *(row[:, at] for at in (_F.hazard_10s, _F.hazard_60s, _F.survival)),
        np.log1p(np.minimum(MOST_ARRIVALS, row[:, _F.arrivals_count])),
        np.log1p(age_s / np.maximum(1.0, mean_gap_s)),
        np.log1p(age_s / np.maximum(1.0, last_gap_s)),
        occupied(row),
    ]
    out[known] = np.stack(columns, axis=-1)
    return out
