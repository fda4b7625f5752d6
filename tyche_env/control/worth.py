"""What memory is worth to a function, and whether one more copy of it is wanted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import HELD, HOLD, IDLE, LOADING, Scope
from tyche_env.control.compiled import inner
from tyche_env.control.queue import NO_KEY, TIME_SHIFT
from tyche_env.control.quotient import quotient
from tyche_env.control.timers import set_timer
from tyche_env.control.tournament import play_again
from tyche_env.state import ClusterState
from tyche_env.tables import PROBABILITY, PROBABILITY_FINE, TAIL


@inner
def p60(tables: NDArray[np.int64], gap_us: int) -> int:
    """P(an arrival within 60 s) at a mean gap >= 1 us, in 2^-20 (``docs/engine.md``, p60)."""
    x = quotient(60_000_000 << 16, gap_us)
    if x < 4096:
        return tables[PROBABILITY_FINE, x]
    return tables[PROBABILITY, min(4095, x >> 8)]


@inner
def set_priority(st: ClusterState, function: int, priority: int) -> None:
    """Take a new priority, and the worth per MB of a first copy: priority x latency saved / memory (paper, packing)."""
    row = st.functions[function]
    row.priority = priority
    row.first_density = quotient(priority * row.saved_us, row.hold_mb)


@inner
def set_gpu_priority(st: ClusterState, function: int, priority: int) -> None:
    """Take a new priority for the GPU, and the worth of its memory: priority x transfer time / GPU memory."""
    row = st.functions[function]
    row.gpu_priority = priority
    row.gpu_density = gpu_density(st, function)


@inner
def gpu_density(st: ClusterState, function: int) -> int:
    """Worth per MB of f on a GPU; ``functions.gpu_density`` keeps it."""
    row = st.functions[function]
    return quotient(row.gpu_priority * row.transfer_us, row.gpu_mb) if row.gpu_mb > 0 else 0


@inner
def displaces(st: ClusterState, a: int, b: int) -> bool:
    """Whether a density is so much greater than another that it may take its place."""
    h = st.cluster[0].displace_percent
    return bool((h >= 0) & (100 * a > (100 + h) * b))


@inner
def density(st: ClusterState, function: int, copy: int) -> int:
    """Worth per MB of the ``copy``-th copy, from 1: a further one is worth what is likely to go to it.

    GREEDY_DUAL adds what the clock said at the last request, if f is wanted; the credit of other kernels is 0.
    """
    row = st.functions[function]
    worth = row.first_density
    p = row.priority
    if copy > 1 and st.cluster[0].scope != Scope.WORKER:
        rho = 0
        span = row.last_arrival_us - row.first_arrival_us
        if row.window_count >= 2 and span > 0:
            rho = min(4095, quotient(row.inference_us * 256 * row.window_count, span))
        p = (p * st.tables[TAIL + min(copy, 8) - 2, rho]) >> 20
        worth = quotient(p * row.saved_us, row.hold_mb)
    return worth + (row.credit if p > 0 else 0)


@inner
def copies(st: ClusterState, function: int) -> int:
    """Copies that count as held."""
    row = st.functions[function]
    if st.cluster[0].busy_counts != 0:
        return row.idle_copies + row.running
    return row.idle_copies


@inner
def copies_on(st: ClusterState, function: int, node: int) -> int:
    """Copies on one node that count as held."""
    busy_counts = st.cluster[0].busy_counts
    count = 0
    at = st.functions[function].resident_head
    while at >= 0:
        r = st.residents[at]
        c = st.containers[r.container]
        if c.node == node and (r.state == LOADING or r.state == HELD) and (c.state == IDLE or busy_counts != 0):
            count += 1
        at = r.function_next
    return count


@inner
def opens_for_nothing(st: ClusterState, function: int) -> bool:
    """Whether a window that opened now would change nothing: f has its copies, and none of them is to go to a GPU."""
    s = st.cluster[0]
    if s.unseen_openings == 0 or st.functions[function].memory_head >= 0:
        return False
    return copies(st, function) >= s.copies


@inner
def look_at_opening(st: ClusterState, function: int) -> None:
    """The opening of f's window, for which no timer was set, matters: it has passed, or is an event like any other.

    Called before anything for which it matters can be seen: a copy fewer, or one in memory that may go to a GPU.
    """
    row = st.functions[function]
    key = row.opening_key
    if key == NO_KEY:
        return
    row.opening_key = NO_KEY
    if key <= st.cluster[0].passed_key:
        row.decision = HOLD
        row.gpu_decision = HOLD
    else:
        set_timer(st, function, key >> TIME_SHIFT)


@inner
def refresh_candidate(st: ClusterState, function: int) -> None:
    """Say again whether, and at what density, one more copy of this function is wanted."""
    s = st.cluster[0]
    if s.preloads == 0:
        return
    row = st.functions[function]
    value = 0
    have = 0 if s.scope == Scope.WORKER else copies(st, function)
    if have < s.copies:
        look_at_opening(st, function)
        if row.decision == HOLD:
            value = density(st, function, have + 1)
    st.candidate_density[row.slot] = value
    if row.rivals > 0:
        play_again(st, function)


@inner
def take_decision(
    st: ClusterState, function: int, decision: int, priority: int, gpu_decision: int, gpu_priority: int
) -> None:
    """Take new decisions about f for container memory and GPU; a priority below 0 leaves the one that there is."""
    row = st.functions[function]
    row.decision = decision
    row.gpu_decision = gpu_decision
    if priority >= 0:
        set_priority(st, function, priority)
    if gpu_priority >= 0:
        set_gpu_priority(st, function, gpu_priority)
    refresh_candidate(st, function)
