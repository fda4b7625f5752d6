"""What an agent sees that decides for one function: its features and scaled columns, and a summary of its cluster.

The rows of all functions are written by compiled code in one pass: from an observation, or, for many clusters at once
(:class:`FunctionRowsVectorEnv`), straight from their states.  ``tyche_env.features`` is the plain twin of the features,
``tyche_env.scaling`` says how columns are scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tyche_env.control.compiled import inner, outer
from tyche_env.control.handles import open_state_at
from tyche_env.features import WIDTH
from tyche_env.network import FEATURES, INPUTS, MOST_ARRIVALS
from tyche_env.observe import observe_all, write_cluster, write_requests, write_standing
from tyche_env.scaling import POLYNOMIAL, factors_of, scale, scaled_value
from tyche_env.spaces import CLUSTER_COLUMNS, FUNCTION_COLUMNS, Observation, column
from tyche_env.vector import PreloadVectorEnv

Floats = NDArray[np.float32]

_COLUMNS = np.array(
    [
        column("functions", name)
        for name in (
            *("in_flight_count", "queued_count", "running_count", "loading_count", "held_count", "gpu_count"),
            *("hold_mb", "gpu_mb", "saved_s", "transfer_s"),
        )
    ]
)
ROW_WIDTH = INPUTS + len(_COLUMNS)
"""What a function's own part of its observation holds: the features, and scaled counts, sizes and times."""
CONTEXT_WIDTH = len(CLUSTER_COLUMNS) + ROW_WIDTH
"""The cluster's part: its own scaled columns, and the mean of all functions' own parts."""

_OWN, _SHARED = ROW_WIDTH, len(CLUSTER_COLUMNS)
_PLACES = 16
"""Scaled columns are worked on in so many places: one vector."""
_COLUMN_FACTORS = np.zeros((3, _PLACES), np.float32)
_COLUMN_FACTORS[:, : len(_COLUMNS)] = factors_of([FUNCTION_COLUMNS[at] for at in _COLUMNS])
_CLUSTER_FACTORS = factors_of(CLUSTER_COLUMNS)
_LOGARITHMIC = np.array([float(name.startswith("log")) for name in FEATURES])
_PLAIN = 1.0 - _LOGARITHMIC
_AGE, _MEAN_GAP, _MEAN_GAP_3, _LAST_GAP, _COV, _CENSORED, _RATES, _HAZARDS, _ARRIVALS, _RUNNING, _LOADING = (
    column("functions", name)
    for name in (
        *("age_s", "mean_gap_s", "mean_gap_3_s", "last_gap_s", "gap_cov", "censored_rate_per_s"),
        *("rate_1min_per_s", "hazard_10s", "arrivals_count", "running_count", "loading_count"),
    )
)
_HELD, _GPU = column("functions", "held_count"), column("functions", "gpu_count")
_MOST = float(MOST_ARRIVALS)

# fdlibm's logarithm: log(1 + x) for 1 + x in [sqrt(1/2), sqrt(2)], error below 2^-58
_LG1, _LG2, _LG3, _LG4, _LG5, _LG6, _LG7 = (
    *(6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01),
    *(1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01),
)
_LN_2 = float(np.log(2.0))
_ROOT_BITS, _EXPONENT_BITS, _SHIFT = np.int64(0x3FE6A09E667F3BCD), np.int64(-(1 << 52)), np.int64(52)


def function_rows_space() -> spaces.Space[Any]:
    """The space of one row of :func:`function_rows`."""
    limit = np.finfo(np.float32).max
    return cast(spaces.Space[Any], spaces.Box(-limit, limit, (ROW_WIDTH + CONTEXT_WIDTH,), np.float32))


def function_rows(observation: Mapping[str, Floats]) -> Floats:
    """What each function's agent sees, (..., max_functions, width); zeros for padding.

    Args:
        observation: of one cluster, or of a batch.
    """
    masks = observation["functions_mask"]
    functions = masks.shape[-1]
    rows = np.empty((*masks.shape, ROW_WIDTH + CONTEXT_WIDTH), np.float32)
    write_rows(
        observation["functions"].reshape(-1, functions * WIDTH),
        masks.reshape(-1, functions).sum(axis=1).astype(np.int64),
        observation["cluster"].reshape(-1, len(CLUSTER_COLUMNS)),
        rows.reshape(-1, *rows.shape[-2:]),
        _COLUMN_FACTORS,
        _CLUSTER_FACTORS,
        *_places(functions),
    )
    return rows


class FunctionRowsVectorEnv(PreloadVectorEnv):
    """A batch whose observation is (num_envs, max_functions, width) rows of :func:`function_rows`."""

    def __init__(self, num_envs: int, scenario: Any = "small", **arguments: Any) -> None:
        super().__init__(num_envs, scenario, **arguments)
        width = ROW_WIDTH + CONTEXT_WIDTH
        limit = np.finfo(np.float32).max
        self.single_observation_space = spaces.Box(-limit, limit, (self.max_functions, width), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._places = (np.zeros(self.max_functions * WIDTH, np.float32), *_places(self.max_functions))

    def observation_of(self, lane: int) -> Observation:
        """The whole present observation of one cluster."""
        seen = self._blanks[lane].copy()
        observe_all(self._addresses[lane : lane + 1], seen[None], *self._rows)
        return self._one.layout.split(seen)

    def _observe(self, lanes: NDArray[np.int64]) -> Floats:
        rows = np.empty((len(lanes), self.max_functions, ROW_WIDTH + CONTEXT_WIDTH), np.float32)
        observe_rows(self._addresses[lanes], rows, _COLUMN_FACTORS, _CLUSTER_FACTORS, *self._places)
        return rows

    def _shown(self, seen: Floats) -> Floats:
        return seen


def _places(functions: int) -> tuple[NDArray[np.float64], Floats, NDArray[np.float64], Floats]:
    """Room to work in for :func:`write_cluster_rows`."""
    return (
        np.zeros((functions, INPUTS)),
        np.zeros((functions, _PLACES), np.float32),
        np.zeros((2, INPUTS)),
        np.zeros(CONTEXT_WIDTH, np.float32),
    )


@inner
def log1p(u: float) -> float:
    """log(1 + u) for u >= 0, in which the compiler finds vectors; exact to a unit in the last place or two."""
    bits = np.float64(1.0 + u).view(np.int64)
    above = np.int64(bits - _ROOT_BITS)
    exponent = np.int64(above & _EXPONENT_BITS)
    x = u if exponent == 0 else np.int64(bits - exponent).view(np.float64) - 1.0
    s = x / (2.0 + x)
    z = s * s
    rest = z * (_LG1 + z * (_LG2 + z * (_LG3 + z * (_LG4 + z * (_LG5 + z * (_LG6 + z * _LG7))))))
    half = 0.5 * x * x
    return np.float64(np.int64(above >> _SHIFT)) * _LN_2 + (x - (half - s * (half + rest)))


@inner
def write_arguments(row: Floats, out: NDArray[np.float64]) -> None:
    """What features of one row of the table ``functions`` are logarithms of, in the order of ``network.FEATURES``."""
    age_s, mean_gap_s, last_gap_s = np.float64(row[_AGE]), np.float64(row[_MEAN_GAP]), np.float64(row[_LAST_GAP])
    out[0] = age_s
    out[1] = mean_gap_s
    out[2] = row[_MEAN_GAP_3]
    out[3] = last_gap_s
    out[4] = row[_COV]
    out[5] = 1.0 / np.float64(row[_CENSORED])
    for k in range(3):
        out[6 + k] = 3600.0 * np.float64(row[_RATES + k])
        out[9 + k] = row[_HAZARDS + k]
    out[12] = min(_MOST, np.float64(row[_ARRIVALS]))
    out[13] = age_s / max(1.0, mean_gap_s)
    out[14] = age_s / max(1.0, last_gap_s)
    out[15] = 1.0 if row[_RUNNING] + row[_LOADING] + row[_HELD] + row[_GPU] > 0.0 else 0.0


@inner
def write_cluster_rows(
    table: Floats,
    count: int,
    out: Floats,
    column_factors: Floats,
    cluster_factors: Floats,
    features: NDArray[np.float64],
    columns: Floats,
    sums: NDArray[np.float64],
    context: Floats,
) -> None:
    """Write the rows of all functions of a cluster.

    Each step is done for all functions before the next, so that the compiler finds vectors.

    Args:
        table: (36 F,) of the functions; only what rows show is read.
        count: functions that are real, the first ones.
        out: (F, width).
        column_factors: of the scaled columns, as in ``scaling.factors_of``.
        cluster_factors: of the cluster's.
        features: (F, INPUTS), room to work.
        columns: (F, 16) likewise; what is beyond the scaled columns stays 0.
        sums: (2, 16) likewise.
        context: (CONTEXT_WIDTH,); begins with the cluster's columns, the rest is room to work.
    """
    for function in range(count):
        row = table[WIDTH * function : WIDTH * (function + 1)]
        write_arguments(row, features[function])
        for k in range(_OWN - INPUTS):
            columns[function, k] = row[_COLUMNS[k]]
    for function in range(count):
        for k in range(INPUTS):
            value = features[function, k]
            features[function, k] = log1p(_LOGARITHMIC[k] * value) + _PLAIN[k] * value
        for k in range(_PLACES):
            x = columns[function, k]
            columns[function, k] = scaled_value(x, column_factors, k, POLYNOMIAL)
    sums[:] = 0.0
    for function in range(count):
        known = table[WIDTH * function + _ARRIVALS] > 0.0
        for k in range(INPUTS):
            value = features[function, k] if known else 0.0
            out[function, k] = value
            sums[0, k] += value
        for k in range(_OWN - INPUTS):
            x = columns[function, k]
            out[function, INPUTS + k] = x
            sums[1, k] += x
    scale(context[:_SHARED], cluster_factors, POLYNOMIAL)
    for k in range(INPUTS):
        context[_SHARED + k] = sums[0, k] / max(1, count)
    for k in range(_OWN - INPUTS):
        context[_SHARED + INPUTS + k] = sums[1, k] / max(1, count)
    for function in range(count):
        for k in range(CONTEXT_WIDTH):
            out[function, _OWN + k] = context[k]
    out[count:] = 0.0


@outer
def write_rows(
    tables: Floats,
    counts: NDArray[np.int64],
    clusters: Floats,
    out: Floats,
    column_factors: Floats,
    cluster_factors: Floats,
    features: NDArray[np.float64],
    columns: Floats,
    sums: NDArray[np.float64],
    context: Floats,
) -> None:
    """Write the rows of all functions of n clusters from their observations, see :func:`write_cluster_rows`.

    Args:
        tables: (n, 36 F).
        counts: (n,).
        clusters: (n, 14).
        out: (n, F, width).
        column_factors: as there, like all that follow.
        cluster_factors: as there.
        features: as there.
        columns: as there.
        sums: as there.
        context: as there.
    """
    for n in range(len(tables)):
        for k in range(_SHARED):
            context[k] = clusters[n, k]
        write_cluster_rows(
            tables[n], counts[n], out[n], column_factors, cluster_factors, features, columns, sums, context
        )


@outer
def observe_rows(
    addresses: NDArray[np.int64],
    out: Floats,
    column_factors: Floats,
    cluster_factors: Floats,
    table: Floats,
    features: NDArray[np.float64],
    columns: Floats,
    sums: NDArray[np.float64],
    context: Floats,
) -> None:
    """Write the rows of all functions of n clusters from their states, see :func:`write_cluster_rows`.

    Args:
        addresses: (n,) of the handles of each cluster.
        out: (n, F, width).
        column_factors: as there, like all that follow.
        cluster_factors: as there.
        table: as there.
        features: as there.
        columns: as there.
        sums: as there.
        context: as there.
    """
    for n in range(len(addresses)):
        st = open_state_at(addresses[n])
        count = st.cluster[0].functions
        for function in range(count):
            row = table[WIDTH * function : WIDTH * (function + 1)]
            write_requests(st, function, row)
            write_standing(st, function, row)
        write_cluster(st, context)
        write_cluster_rows(table, count, out[n], column_factors, cluster_factors, features, columns, sums, context)
