"""Histogram pre-warming (Shahrad et al., USENIX ATC'20): unload after a run, pre-warm before the next is likely.

Each function has 240 one-minute bins of idle time, from the end of a run to the next arrival.  Functions that are
mostly beyond the range keep the standard keep-alive here; the original forecasts them by ARIMA.
"""

from __future__ import annotations

from tyche_env.control.compiled import inner
from tyche_env.control.queue import NO_KEY
from tyche_env.control.quotient import quotient
from tyche_env.control.timers import set_prewarm
from tyche_env.state import ClusterState

BINS = 240
BIN_US = 60_000_000
FEWEST_SAMPLES = 10


@inner
def before_arrival(st: ClusterState, function: int) -> None:
    """Learn one idle time; a request makes the pre-warm timer pointless.  ``in_flight`` is still without it."""
    row = st.functions[function]
    row.prewarm_key = NO_KEY
    if row.in_flight == 0 and row.last_end_us >= 0:
        idle_bin = quotient(st.cluster[0].now_us - row.last_end_us, BIN_US)
        if idle_bin < BINS:
            before = st.idle_bins[function, idle_bin]
            st.idle_bins[function, idle_bin] = before + 1
            row.idle_squares += 2 * before + 1
            row.idle_total += 1
            row.head_below += idle_bin < row.head_bin
            row.tail_below += idle_bin < row.tail_bin
        else:
            row.idle_oob += 1


@inner
def percentile_bin(st: ClusterState, function: int, percent: int, near: int, below: int) -> tuple[int, int]:
    """The first bin whose cumulative count reaches ``percent`` of a total that is not 0.

    Args:
        st: the state.
        function: f.
        percent: the percentile.
        near: a bin from which it is looked for; it moves little from one idle time to the next.
        below: idle times in the bins below that one.

    Returns:
        The bin, and the idle times in the bins below it.
    """
    need = percent * st.functions[function].idle_total
    while (below + st.idle_bins[function, near]) * 100 < need:
        below += st.idle_bins[function, near]
        near += 1
    while below * 100 >= need:
        near -= 1
        below -= st.idle_bins[function, near]
    return near, below


@inner
def keep_alive_us(st: ClusterState, function: int) -> int:
    """After a run: how long the container lives (0: unload now); may set the function's pre-warm timer."""
    s = st.cluster[0]
    row = st.functions[function]
    row.last_end_us = s.now_us
    total = row.idle_total
    representative = (
        total >= FEWEST_SAMPLES
        and 240 * row.idle_squares >= 5 * total * total
        and 2 * row.idle_oob <= total + row.idle_oob
    )
    if not representative:
        return BINS * BIN_US
    head, row.head_below = percentile_bin(st, function, 5, row.head_bin, row.head_below)
    tail, row.tail_below = percentile_bin(st, function, 99, row.tail_bin, row.tail_below)
    row.head_bin, row.tail_bin = head, tail
    tail_us = (tail + 1) * BIN_US * 11 // 10
    if head == 0:
        return tail_us
    prewarm_us = head * BIN_US * 9 // 10
    if row.in_flight == 0:
        row.prewarm_keep_us = tail_us - prewarm_us
        set_prewarm(st, function, s.now_us + prewarm_us)
    return 0
