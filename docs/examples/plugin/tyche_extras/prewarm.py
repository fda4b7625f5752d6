"""A pre-warming policy: keep a container for a minute, make a new one when nine tenths of a usual gap have passed."""

from tyche_env.control.hooks import prewarm_at
from tyche_env.rules import PrewarmPolicy

MINUTE_US = 60_000_000


def keep_alive(st, function):
    """Called when a run ends; returns how long its container stays."""
    row = st.functions[function]
    gap_us = st.prewarm_memory[function, 0]
    if gap_us > 2 * MINUTE_US and row.in_flight == 0:
        prewarm_at(st, function, row.last_arrival_us + gap_us * 9 // 10, gap_us // 2)
    return MINUTE_US


def on_arrival(st, function):
    """Called at each request; remembers the smoothed gap in the first column of the policy's memory."""
    row = st.functions[function]
    if row.arrivals > 0:
        gap_us = st.cluster[0].now_us - row.last_arrival_us
        st.prewarm_memory[function, 0] += (gap_us - st.prewarm_memory[function, 0]) // min(4, row.arrivals)
    return 0


half_gap = PrewarmPolicy(keep_alive, on_arrival, memory=1)
