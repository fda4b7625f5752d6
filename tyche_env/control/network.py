"""The row network inside the loop: one function's features and their score, without allocation or Python.

The plain twins are ``tyche_env.features`` and ``tyche_env.network``.  Features are kept up to date at each arrival
(``arrivals.record_features``); a look costs one pass over the last 32 gaps and about 5,000 multiplications.
"""

from __future__ import annotations

import math

import numpy as np

from tyche_env.control.compiled import inner
from tyche_env.network import HIDDEN, INPUTS, MOST_ARRIVALS
from tyche_env.state import GAPS, ClusterState

_FIRST_BIAS = INPUTS * HIDDEN
_SECOND = _FIRST_BIAS + HIDDEN
_SECOND_BIAS = _SECOND + HIDDEN * HIDDEN
_OUTPUT = _SECOND_BIAS + HIDDEN
_OUTPUT_BIAS = _OUTPUT + HIDDEN
FLOOR = _OUTPUT_BIAS + 1
_LAYER_1 = INPUTS
_LAYER_2 = INPUTS + HIDDEN


@inner
def write_features(st: ClusterState, function: int) -> None:
    """Features of a function that was requested before, in the order of ``network.FEATURES``, into ``activations``."""
    out = st.activations
    row = st.functions[function]
    now_us = st.cluster[0].now_us
    age_us = now_us - row.last_arrival_us
    age_s = age_us * 1e-6
    since_first_us = now_us - row.first_arrival_us
    censored_us = max(1, since_first_us // row.window_count)
    if row.window_count == 1:
        censored_us = max(since_first_us, 60_000_000)
    longer = 0
    soon = 0
    later = 0
    for k in range(row.gap_count):
        gap_us = st.gaps[function, k]
        longer += gap_us > age_us
        soon += gap_us > age_us + 10_000_000
        later += gap_us > age_us + 60_000_000
    last_gap_s = 0.0
    mean_gap_3_s = 0.0
    cov = 0.0
    if row.gap_count > 0:
        last_gap_s = st.gaps[function, (row.gap_next + GAPS - 1) % GAPS] * 1e-6
        mean_gap_3_s = row.gap_mean_3
        cov = row.gap_cov
    mean_gap_s = row.gap_us * 1e-6
    out[0] = math.log1p(age_s)
    out[1] = math.log1p(mean_gap_s)
    out[2] = math.log1p(mean_gap_3_s)
    out[3] = math.log1p(last_gap_s)
    out[4] = math.log1p(cov)
    out[5] = math.log1p(censored_us * 1e-6)
    out[6] = math.log1p(3600.0 * row.rate_1min * math.exp(-age_s / 60.0))
    out[7] = math.log1p(3600.0 * row.rate_10min * math.exp(-age_s / 600.0))
    out[8] = math.log1p(3600.0 * row.rate_60min * math.exp(-age_s / 3600.0))
    out[9] = (longer - soon) / longer if longer > 0 else 0.0
    out[10] = (longer - later) / longer if longer > 0 else 0.0
    out[11] = longer / row.gap_count if row.gap_count > 0 else 1.0
    out[12] = math.log1p(min(MOST_ARRIVALS, row.arrivals))
    out[13] = math.log1p(age_s / max(1.0, mean_gap_s))
    out[14] = math.log1p(age_s / max(1.0, last_gap_s))
    out[15] = 1.0 if row.idle_copies + row.running > 0 else 0.0


@inner
def score(st: ClusterState, function: int) -> float:
    """The network's output for a function that was requested before; its logistic function is the priority."""
    write_features(st, function)
    a = st.activations
    w = st.network
    for j in range(HIDDEN):
        a[_LAYER_1 + j] = w[_FIRST_BIAS + j]
        a[_LAYER_2 + j] = w[_SECOND_BIAS + j]
    for i in range(INPUTS):
        x = a[i]
        for j in range(HIDDEN):
            a[_LAYER_1 + j] += x * w[i * HIDDEN + j]
    for i in range(HIDDEN):
        x = a[_LAYER_1 + i]
        if x > np.float32(0.0):
            for j in range(HIDDEN):
                a[_LAYER_2 + j] += x * w[_SECOND + i * HIDDEN + j]
    z = w[_OUTPUT_BIAS]
    for i in range(HIDDEN):
        x = a[_LAYER_2 + i]
        if x > np.float32(0.0):
            z += x * w[_OUTPUT + i]
    return z
