"""FaasCache (Fuerst and Sharma, ASPLOS'21): keep every container, evict by greedy-dual worth.

Worth = clock + frequency x cost of a cold start / size; the clock is the worth of the last evicted.  It is computed
when a container becomes idle; ``make_room`` evicts the least.
"""

from __future__ import annotations

from tyche_env.control.compiled import inner
from tyche_env.state import ClusterState
from tyche_env.world import Prewarm

FAASCACHE = int(Prewarm.FAASCACHE)
FOREVER = -1
"""No expiry."""


@inner
def worth(st: ClusterState, container: int) -> int:
    """Worth of a container that becomes idle, in microseconds saved per MB."""
    s = st.cluster[0]
    c = st.containers[container]
    owner = st.functions[c.owner]
    cost_us = owner.init_us + (owner.saved_us if s.after_run == 0 else 0)
    return s.clock + owner.freq * cost_us // c.size_mb


@inner
def least_worth(st: ClusterState, node: int) -> int:
    """The idle container of a node with the least worth, the longest idle among equals."""
    victim = st.nodes[node].idle_head
    at = st.containers[victim].idle_next
    while at >= 0:  # ascending rank, so that only less worth displaces
        if st.containers[at].worth < st.containers[victim].worth:
            victim = at
        at = st.containers[at].idle_next
    return victim
