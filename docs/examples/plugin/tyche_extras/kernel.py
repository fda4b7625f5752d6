"""The same policy as a row kernel: compiled, asked about one function at its own requests and timers."""

from tyche_env.rules import CERTAIN, HOLD, LEAVE, NEVER, OFFLOAD, RowKernel

PATIENCE_US = 300_000_000


def rule(st, function):
    """Decision, priority in 2^-20, and when to ask again."""
    row = st.functions[function]
    if row.window_count < 2:
        return LEAVE, 0, NEVER
    age_us = st.cluster[0].now_us - row.last_arrival_us
    if age_us < PATIENCE_US:
        return HOLD, CERTAIN * min(row.window_count, 10) // 16, PATIENCE_US - age_us
    return OFFLOAD, 0, NEVER


patient = RowKernel(rule)
