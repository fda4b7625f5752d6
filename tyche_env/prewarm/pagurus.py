"""Pagurus (Li et al., USENIX ATC'22) as the Tyche paper sets it up: private first, then shareable for twice as long.

An idle container is its owner's alone for the keep-alive; after that any function that isolation lets in may rent it,
which saves the container's initialisation but none of the loading.
"""

from __future__ import annotations

from tyche_env.codes import Isolation
from tyche_env.control.compiled import inner
from tyche_env.state import ClusterState


@inner
def keep_alive_us(st: ClusterState) -> int:
    """How long an idle container lives: its private period, and twice that to be shared."""
    return 3 * st.cluster[0].keep_alive_us


@inner
def to_rent(st: ClusterState, function: int, node: int) -> int:
    """The longest idle container of a node that f may rent, or -1."""
    s = st.cluster[0]
    f = st.functions[function]
    at = st.nodes[node].idle_head
    while at >= 0:
        c = st.containers[at]
        if c.idle_since_us + s.keep_alive_us > s.now_us:
            return -1
        if c.size_mb >= f.peak_mb and (s.isolation != Isolation.TENANT or c.tenant == f.tenant):
            return at
        at = c.idle_next
    return -1
