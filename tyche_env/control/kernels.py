"""Row kernels: what a policy wants for one function, from that function's row alone (``docs/engine.md``, 8).

:func:`ask` is the one place where a policy kernel is chosen; the controller calls it for one function at its own
events, interval mode calls it for all functions.  The rules themselves are small functions of plain integers, so that
``predict`` can apply the same ones to the rows of an observation.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import HOLD, LEAVE, OFFLOAD, Kernel, Scope
from tyche_env.control.arrivals import BIN_US, BINS
from tyche_env.control.compiled import apart, inner, outer
from tyche_env.control.draws import draw_u64
from tyche_env.control.hooks import ask_rule
from tyche_env.control.network import FLOOR, score
from tyche_env.control.quotient import quotient
from tyche_env.control.worth import p60
from tyche_env.draws import Concern
from tyche_env.rules import NEVER
from tyche_env.state import ClusterState
from tyche_env.tables import ONE_Q20
from tyche_env.world import LONGEST_GAP_US

DEAD_ZONE = 0.05
"""Actions within +-0.05 of zero leave a function as it is; above, the rest of (0, 1] is a priority."""
_EDGE = float(np.float32(DEAD_ZONE))
_SECOND_US = 1_000_000
_MINUTE_US = 60_000_000
_COUNT_LIMIT = 64
_POLICY = int(Concern.POLICY)
_FREQUENCY_LIMIT = 1024


@inner
def tyche(
    tables: NDArray[np.int64], load_ppm: int, offload_ppm: int, count: int, gap_us: int, age_us: int
) -> tuple[int, int, int]:
    """Tyche's rule (paper, Proactive Pre-Loader): open between T_load and T_offload after the last request."""
    load_us = 0 if count == 1 else quotient(gap_us * load_ppm, 1_000_000)
    offload_us = quotient(gap_us * offload_ppm, 1_000_000)
    p = p60(tables, gap_us)
    if age_us < load_us:
        return LEAVE, p, load_us - age_us
    if age_us < offload_us:
        return HOLD, p, offload_us - age_us
    return OFFLOAD, 0, NEVER


@inner
def censored(tables: NDArray[np.int64], count: int, since_first_us: int, age_us: int) -> tuple[int, int, int]:
    """Rate over the whole time since the window began, silence included; never off-loads by itself."""
    gap_us = max(since_first_us, _MINUTE_US) if count == 1 else max(1, since_first_us // count)
    return HOLD, p60(tables, gap_us), max(10 * _SECOND_US, age_us // 2)


@inner
def histogram(st: ClusterState, function: int, now_us: int) -> tuple[int, int, int]:
    """Share of the function's own gaps that end within the next minute or two, among those that lasted this long."""
    row = st.functions[function]
    age_us = now_us - row.last_arrival_us
    if row.gap_total + row.gap_oob < 4:
        return censored(st.tables, row.window_count, now_us - row.first_arrival_us, age_us)
    age_bin = age_us // BIN_US
    if age_bin >= BINS:
        return OFFLOAD, 0, NEVER
    while row.age_bin < age_bin:  # time goes on from one look to the next
        row.age_below += st.gap_bins[function, row.age_bin]
        row.age_bin += 1
    survivors = row.gap_oob + row.gap_total - row.age_below
    if survivors == 0:
        return OFFLOAD, 0, NEVER
    hits = np.int64(st.gap_bins[function, age_bin])
    if age_bin + 1 < BINS:
        hits += st.gap_bins[function, age_bin + 1]
    return HOLD, min(ONE_Q20, (hits << 20) // survivors), (age_bin + 1) * BIN_US - age_us


@inner
def empirical(st: ClusterState, function: int, now_us: int) -> tuple[int, int, int]:
    """Hazard of the function's own last gaps at the present age (Kaplan-Meier without ties to a shape)."""
    row = st.functions[function]
    age_us = now_us - row.last_arrival_us
    if row.gap_count < 4:
        return censored(st.tables, row.window_count, now_us - row.first_arrival_us, age_us)
    longer = 0
    later = 0
    for k in range(row.gap_count):
        gap_us = st.gaps[function, k]
        longer += gap_us > age_us
        later += gap_us > age_us + _MINUTE_US
    if longer == 0:
        return HOLD, p60(st.tables, max(1, age_us)), max(10 * _SECOND_US, age_us // 2)
    return HOLD, ((longer - later) << 20) // longer, max(5 * _SECOND_US, age_us // 4)


@apart
def network(st: ClusterState, function: int) -> tuple[int, int, int]:
    """What a trained network makes of the function's features; never off-loads by itself."""
    p = 1.0 / (1.0 + math.exp(-score(st, function)))
    return LEAVE if p < st.network[FLOOR] else HOLD, max(1, np.int64(p * ONE_Q20 + 0.5)), 10 * _SECOND_US


@apart
def foreseen_gap_us(st: ClusterState, function: int, now_us: int, exact: bool) -> int:
    """Privileged: time to the next arrival, exact or as known from counts per minute; -1 if there is none."""
    at = st.own_first[function] + st.functions[function].arrivals
    end = st.own_first[function + 1]
    if at >= end:
        return -1
    if exact:
        return st.own_arrival_us[at] - now_us
    minute = now_us // _MINUTE_US
    left = count_within(st, at, end, (minute + 1) * _MINUTE_US)
    if left > 0:
        return ((minute + 1) * _MINUTE_US - now_us) // (left + 1)
    minute = st.own_arrival_us[at] // _MINUTE_US
    left = count_within(st, at, end, (minute + 1) * _MINUTE_US)
    return minute * _MINUTE_US - now_us + _MINUTE_US // (left + 1)


@inner
def count_within(st: ClusterState, at: int, end: int, before_us: int) -> int:
    """Arrivals from row ``at`` on that come before a time, counted up to 64."""
    count = 0
    while count < _COUNT_LIMIT and at + count < end and st.own_arrival_us[at + count] < before_us:
        count += 1
    return count


@inner
def gap_seen_us(st: ClusterState, function: int) -> int:
    """The mean gap that rules with a window take for f."""
    s = st.cluster[0]
    row = st.functions[function]
    gap_us = max(1, row.smooth_gap_us) if s.kernel == Kernel.EWMA and row.window_count > 1 else row.gap_us
    # a worker that decides alone takes requests to be spread evenly over the workers (InstaInfer)
    return min(LONGEST_GAP_US, gap_us * s.nodes if s.scope == Scope.WORKER else gap_us)


@inner
def window_end_us(st: ClusterState, function: int) -> int:
    """After how long the window of f closes, from now on."""
    s = st.cluster[0]
    closes_us = quotient(gap_seen_us(st, function) * s.offload_ppm, 1_000_000)
    return closes_us - (s.now_us - st.functions[function].last_arrival_us)


@inner
def no_timers(st: ClusterState, function: int) -> tuple[int, int, int]:
    """Hold for ever."""
    return HOLD, p60(st.tables, gap_seen_us(st, function)), NEVER


@inner
def greedy_dual(st: ClusterState, function: int) -> tuple[int, int, int]:
    """Hold for ever, by how often f was requested."""
    return HOLD, min(_FREQUENCY_LIMIT, st.functions[function].arrivals) << 10, NEVER


@inner
def table(st: ClusterState, function: int) -> tuple[int, int, int]:
    """What the forecast says of this minute."""
    now_us = st.cluster[0].now_us
    minute = now_us // _MINUTE_US
    p = np.int64(st.forecast[function, min(minute, st.forecast.shape[1] - 1)])
    return (HOLD if p > 0 else LEAVE), p, (minute + 1) * _MINUTE_US - now_us


@inner
def random(st: ClusterState, function: int) -> tuple[int, int, int]:
    """Anything, drawn anew every ten seconds."""
    row = st.functions[function]
    u = draw_u64(st.cluster[0].seed, _POLICY, function, row.decide_count)
    row.decide_count += 1
    choice = np.int64(u % np.uint64(3))
    if choice == 0:
        return OFFLOAD, 0, 10 * _SECOND_US
    if choice == 1:
        return LEAVE, 0, 10 * _SECOND_US
    return HOLD, np.int64(u >> np.uint64(44)), 10 * _SECOND_US


@inner
def oracle(st: ClusterState, function: int, exact: bool) -> tuple[int, int, int]:
    """Privileged: hold what comes after a known gap."""
    gap_us = foreseen_gap_us(st, function, st.cluster[0].now_us, exact)
    if gap_us < 0:
        return OFFLOAD, 0, NEVER
    return HOLD, p60(st.tables, max(1, gap_us)), max(_SECOND_US, gap_us // 2)


@inner
def ask(st: ClusterState, function: int) -> tuple[int, int, int]:
    """Ask the policy about one function now.

    Returns:
        Decision (LEAVE, HOLD, OFFLOAD), priority in 2^-20, and after how many microseconds to ask again, or NEVER.
    """
    s = st.cluster[0]
    row = st.functions[function]
    kernel = s.kernel
    if kernel == Kernel.OWN:
        return ask_rule(st, function)
    if kernel == Kernel.RANDOM:
        return random(st, function)
    if kernel == Kernel.ORACLE or kernel == Kernel.MINUTE_ORACLE:
        return oracle(st, function, kernel == Kernel.ORACLE)
    if row.window_count == 0:
        return LEAVE, 0, NEVER
    age_us = s.now_us - row.last_arrival_us
    if kernel == Kernel.TYCHE or kernel == Kernel.EWMA:
        return tyche(st.tables, s.load_ppm, s.offload_ppm, row.window_count, gap_seen_us(st, function), age_us)
    if kernel == Kernel.NO_TIMERS:
        return no_timers(st, function)
    if kernel == Kernel.CENSORED:
        return censored(st.tables, row.window_count, s.now_us - row.first_arrival_us, age_us)
    if kernel == Kernel.HISTOGRAM:
        return histogram(st, function, s.now_us)
    if kernel == Kernel.EMPIRICAL:
        return empirical(st, function, s.now_us)
    if kernel == Kernel.GREEDY_DUAL:
        return greedy_dual(st, function)
    if kernel == Kernel.NETWORK:
        return network(st, function)
    if kernel == Kernel.TABLE:
        return table(st, function)
    return LEAVE, 0, NEVER


@outer
def decide_rows(
    kernel: int,
    tables: NDArray[np.int64],
    load_ppm: int,
    offload_ppm: int,
    count: NDArray[np.int64],
    gap_us: NDArray[np.int64],
    since_first_us: NDArray[np.int64],
    age_us: NDArray[np.int64],
    decision: NDArray[np.int8],
    priority: NDArray[np.int64],
) -> None:
    """Apply a row kernel that needs no more than the window to every row; the last two arrays, (F,), take the answer.

    Args:
        kernel: TYCHE or CENSORED; any other leaves every function as it is.
        tables: see ``tyche_env.tables``.
        load_ppm: -ln(1 - P_load) in 1e-6.
        offload_ppm: -ln(1 - P_offload) in 1e-6.
        count: arrivals in the window, (F,).
        gap_us: mean gap, (F,).
        since_first_us: time since the first arrival of the window, (F,).
        age_us: time since the last arrival, (F,).
        decision: receives LEAVE, HOLD or OFFLOAD.
        priority: receives priorities in 2^-20.
    """
    for f in range(len(count)):
        answer, p = LEAVE, 0
        if count[f] > 0 and kernel == Kernel.TYCHE:
            answer, p, _ = tyche(tables, load_ppm, offload_ppm, count[f], gap_us[f], age_us[f])
        elif count[f] > 0 and kernel == Kernel.CENSORED:
            answer, p, _ = censored(tables, count[f], since_first_us[f], age_us[f])
        decision[f] = answer
        priority[f] = p


@inner
def meaning(a: float) -> tuple[int, int, bool]:
    """One component of an action: decision, priority in 2^-20, whether it was finite (``docs/engine.md``, 6)."""
    value = np.float64(a)
    if not math.isfinite(value):
        return LEAVE, 0, False
    if value > _EDGE:
        return HOLD, np.int64(min(1.0, (value - DEAD_ZONE) / (1.0 - DEAD_ZONE)) * ONE_Q20 + 0.5), True
    if value < -_EDGE:
        return OFFLOAD, 0, True
    return LEAVE, 0, True


@outer
def read_action(action: NDArray[np.float32], decision: NDArray[np.int8], priority: NDArray[np.int64]) -> bool:
    """What an action means to the decision core.

    Args:
        action: at least (F, 2) in [-1, 1].
        decision: (F, 2), receives LEAVE, HOLD or OFFLOAD.
        priority: (F, 2), receives priorities in 2^-20.

    Returns:
        Whether every value was finite.
    """
    finite = True
    # flat, so that the compiler makes vectors of it: which way each value goes is not to be predicted
    values, decisions, priorities = action.reshape(-1), decision.reshape(-1), priority.reshape(-1)
    for at in range(len(decisions)):
        answer, p, good = meaning(values[at])
        decisions[at] = answer
        priorities[at] = p
        finite = finite and good
    return finite
