"""What is known about a function's arrivals: the sliding window and the histogram of its gaps (paper, Pre-Loader)."""

from __future__ import annotations

import math

import numpy as np

from tyche_env.codes import Kernel, Routing
from tyche_env.control.compiled import inner
from tyche_env.control.quotient import quotient
from tyche_env.state import GAPS, ClusterState

BINS = 240
BIN_US = 60_000_000


@inner
def record_arrival(st: ClusterState, function: int) -> None:
    """Take one arrival of f at the present time into its history, and set the size of its routing group."""
    s = st.cluster[0]
    row = st.functions[function]
    if row.arrivals > 0 and (s.kernel == Kernel.HISTOGRAM or s.features != 0):
        gap_bin = quotient(s.now_us - row.last_arrival_us, BIN_US)
        if gap_bin < BINS:
            st.gap_bins[function, gap_bin] += 1
            row.gap_total += 1
        else:
            row.gap_oob += 1
        row.age_bin, row.age_below = 0, 0
    if row.arrivals > 0:
        gap_us = s.now_us - row.last_arrival_us
        if s.keeps_gaps != 0:
            st.gaps[function, row.gap_next] = gap_us
            row.gap_next = (row.gap_next + 1) % GAPS
            row.gap_count = min(GAPS, row.gap_count + 1)
        if s.kernel == Kernel.EWMA:
            row.smooth_gap_us = gap_us if row.arrivals == 1 else smooth(row.smooth_gap_us, gap_us)
    if s.features != 0:
        record_features(st, function)
    row.arrivals += 1
    if s.kernel == Kernel.GREEDY_DUAL:
        row.credit = s.load_clock
    window = s.window
    st.windows[function, row.window_next] = s.now_us
    row.window_next += 1
    if row.window_next == window:
        row.window_next = 0
    if row.window_count < window:
        row.window_count += 1
        row.first_arrival_us = st.windows[function, 0]
    else:
        row.first_arrival_us = st.windows[function, row.window_next]
    row.last_arrival_us = s.now_us
    row.gap_us = mean_gap_us(st, function)
    if s.routing == Routing.RING and s.nodes > 1:
        set_group(st, function)


@inner
def smooth(smoothed_us: int, gap_us: int) -> int:
    """EWMA's gap after another one."""
    return smoothed_us + (gap_us - smoothed_us) // 4


@inner
def mean_gap_us(st: ClusterState, function: int) -> int:
    """Mean gap between the arrivals in f's window; ``functions.gap_us`` keeps it."""
    row = st.functions[function]
    if row.window_count == 1:
        return st.cluster[0].prior_gap_us
    return max(1, quotient(row.last_arrival_us - row.first_arrival_us, row.window_count))


@inner
def record_features(st: ClusterState, function: int) -> None:
    """What only observations look at: last gaps, and rates that forget exponentially; before the window is updated."""
    row = st.functions[function]
    if row.arrivals > 0:
        summarize_gaps(st, function)
        gap_s = (st.cluster[0].now_us - row.last_arrival_us) * 1e-6
        row.rate_1min *= math.exp(-gap_s / 60.0)
        row.rate_10min *= math.exp(-gap_s / 600.0)
        row.rate_60min *= math.exp(-gap_s / 3600.0)
    row.rate_1min += 1.0 / 60.0
    row.rate_10min += 1.0 / 600.0
    row.rate_60min += 1.0 / 3600.0


@inner
def summarize_gaps(st: ClusterState, function: int) -> None:
    """Mean of the last three gaps, and coefficient of variation of all that are kept."""
    row = st.functions[function]
    count = row.gap_count
    total = 0.0
    squares = 0.0
    for k in range(count):
        gap_s = st.gaps[function, k] * 1e-6
        total += gap_s
        squares += gap_s * gap_s
    take = min(3, count)
    recent = 0.0
    for k in range(1, take + 1):
        recent += st.gaps[function, (row.gap_next - k + GAPS) % GAPS] * 1e-6
    row.gap_mean_3 = recent / take
    mean = total / count
    row.gap_cov = 0.0
    if mean > 0.0:
        row.gap_cov = min(100.0, math.sqrt(max(0.0, squares / count - mean * mean)) / mean)


@inner
def group_size(st: ClusterState, function: int) -> int:
    """Nodes of the ring that f's present load needs: lambda x execution time x memory (paper, routing)."""
    s = st.cluster[0]
    row = st.functions[function]
    demand_mb = 0
    if row.window_count >= 2:
        span = max(1, row.last_arrival_us - row.first_arrival_us)
        demand_mb = quotient(row.window_count * row.inference_us * row.container_mb, span)
    collected = 0
    size = 0
    while size < s.nodes and collected <= demand_mb:
        collected += st.nodes[walk(st, function, size)].memory_mb
        size += 1
    return size


@inner
def set_group(st: ClusterState, function: int) -> None:
    """Set the size of f's routing group; those with more than one node are listed as well."""
    s = st.cluster[0]
    row = st.functions[function]
    size = group_size(st, function)
    row.group = size
    if size > 1 and row.wide < 0:
        row.wide = s.wide_count
        st.wide[s.wide_count] = function
        s.wide_count += 1
    elif size == 1 and row.wide >= 0:
        s.wide_count -= 1
        last = st.wide[s.wide_count]
        st.wide[row.wide] = last
        st.functions[last].wide = row.wide
        row.wide = -1


@inner
def walk(st: ClusterState, function: int, step: int) -> int:
    """The ``step``-th node of f's walk (``docs/engine.md``, walk)."""
    row = st.functions[function]
    if step == 0:
        return np.int64(row.home_node)  # most walks are this short, and dividing takes longer than all the rest
    return st.node_order[(row.home_position + step * row.step) % len(st.node_order)]


@inner
def in_group(st: ClusterState, function: int, node: int) -> bool:
    """Whether a node belongs to f's routing group."""
    row = st.functions[function]
    if row.group == 1:
        return row.home_node == node
    count = len(st.node_order)
    return (st.nodes[node].position - row.home_position + count) % count < row.group
