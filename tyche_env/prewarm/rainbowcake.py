"""RainbowCake (Yu et al., ASPLOS'24): a container loses one layer after the other, and is shared more and more widely.

User layer: f's own container with its process.  Lang layer: the process is gone, any function of the tenant may take
the container.  All functions here speak one language, and containers keep their size, so that a Bare layer would cost
as much as a Lang layer and save less: it is left out.  The arrival of f's next request is expected at the 0.8 quantile
of an exponential with the mean of its last six arrivals.
"""

from __future__ import annotations

from tyche_env.codes import DO_KILL, Isolation
from tyche_env.control.compiled import inner
from tyche_env.control.ledger import command, enter_warm, free, note_freed, resident_of
from tyche_env.control.timers import set_expiry, set_prewarm
from tyche_env.state import GAPS, ClusterState

SHARED_US = 60_000_000
"""Life of a Lang layer: its upper limit, below, is less than this lower one for any layer above 2.2 MB."""
_FIRST_US = 120_000_000
_SHORTEST_US = 60_000_000
_ARRIVALS = 6
_QUANTILE_PPM = 1_609_438
"""-ln(1 - 0.8) in 1e-6."""
_SECONDS_PER_MB = 249
"""alpha / (1 - alpha), alpha = 0.996: seconds that a layer may be kept for each second it saves and MB it holds."""


@inner
def expect_next(st: ClusterState, function: int) -> None:
    """Expect the next request of f; its last gap is already recorded."""
    row = st.functions[function]
    count = min(_ARRIVALS - 1, row.gap_count)
    span_us = 0
    for k in range(1, count + 1):
        span_us += st.gaps[function, (row.gap_next - k + GAPS) % GAPS]
    if count == 0:
        row.prewarm_keep_us = _FIRST_US
        return
    next_us = span_us // (count + 1) * _QUANTILE_PPM // 1_000_000
    longest_us = _SECONDS_PER_MB * row.saved_us // row.hold_mb
    row.prewarm_keep_us = max(_SHORTEST_US, min(next_us, longest_us))
    set_prewarm(st, function, st.cluster[0].now_us + next_us)


@inner
def peel(st: ClusterState, container: int) -> None:
    """A container loses its owner's process, and is there for any function of its tenant."""
    c = st.containers[container]
    c.shared = 1
    own = resident_of(st, c.owner, container)
    if own >= 0:
        command(st, DO_KILL, c.owner, container, own, 0)
        if free(st, own) > 0:
            note_freed(st, c.gpu)
    if c.warm == 0:
        enter_warm(st, container)
    set_expiry(st, container, st.cluster[0].now_us + SHARED_US)


@inner
def keep_alive_us(st: ClusterState, function: int) -> int:
    """How long a User layer lives."""
    return st.functions[function].prewarm_keep_us


@inner
def to_rent(st: ClusterState, function: int, node: int) -> int:
    """The longest idle Lang layer of a node that f may take, or -1."""
    isolation = st.cluster[0].isolation
    f = st.functions[function]
    at = st.nodes[node].idle_head
    while at >= 0:
        c = st.containers[at]
        if c.shared != 0 and c.size_mb >= f.peak_mb and (isolation != Isolation.TENANT or c.tenant == f.tenant):
            return at
        at = c.idle_next
    return -1
