"""FaasCache (Fuerst and Sharma, ASPLOS'21): keep every container, evict by greedy-dual worth.

Worth = clock + frequency x cost of a cold start / size; the clock is the worth of the last evicted.  It is computed
when a container becomes idle; ``ledger.evict`` takes the least.
"""

from __future__ import annotations

import numpy as np

from tyche_env.codes import AfterRun
from tyche_env.control.compiled import apart, inner
from tyche_env.state import ClusterState

_CHILD, _NEXT, _BEFORE = 0, 1, 2
"""Columns of ``kin``: the first of those below, the next brother, the one before (the first brother's is above)."""


@inner
def container_worth(st: ClusterState, container: int) -> int:
    """Worth of a container that becomes idle, in microseconds saved per MB."""
    s = st.cluster[0]
    c = st.containers[container]
    owner = st.functions[c.owner]
    cost_us = owner.init_us + (owner.saved_us if s.after_run == AfterRun.KEEP else 0)
    return s.clock + owner.freq * cost_us // c.size_mb


# -- the idle containers of a node, a pairing heap by (worth, rank): the least is at hand, any other can leave --------


@inner
def meld(st: ClusterState, a: int, b: int) -> int:
    """One heap of two, by their roots; -1 is an empty one."""
    if a < 0 or b < 0:
        return max(a, b)
    one, other = st.containers[a], st.containers[b]
    if other.worth < one.worth or (other.worth == one.worth and other.rank < one.rank):
        a, b = b, a
    kin = st.kin
    child = kin[a, _CHILD]
    kin[b, _BEFORE] = a
    kin[b, _NEXT] = child
    if child >= 0:
        kin[child, _BEFORE] = b
    kin[a, _CHILD] = b
    return a


@inner
def meld_children(st: ClusterState, first: int) -> int:
    """One heap of brothers: of two and two from the first to the last, then of those from the last to the first."""
    kin = st.kin
    pairs = np.int64(-1)
    while first >= 0:
        second = np.int64(kin[first, _NEXT])
        rest = np.int64(kin[second, _NEXT]) if second >= 0 else -1
        pair = meld(st, first, second)
        kin[pair, _NEXT] = pairs
        pairs = pair
        first = rest
    root = np.int64(-1)
    while pairs >= 0:
        rest = np.int64(kin[pairs, _NEXT])
        root = meld(st, root, pairs)
        pairs = rest
    if root >= 0:
        kin[root, _NEXT] = -1
    return root


@apart
def enter_heap(st: ClusterState, container: int) -> None:
    """A container is idle; its worth and rank stay as they are until it no longer is."""
    n = st.nodes[st.containers[container].node]
    for place in (_CHILD, _NEXT, _BEFORE):
        st.kin[container, place] = -1
    n.worth_head = meld(st, n.worth_head, container)


@apart
def leave_heap(st: ClusterState, container: int) -> None:
    """A container is no longer idle."""
    kin = st.kin
    n = st.nodes[st.containers[container].node]
    children = meld_children(st, kin[container, _CHILD])
    if n.worth_head == container:
        n.worth_head = children
        return
    before, after = kin[container, _BEFORE], kin[container, _NEXT]
    if kin[before, _CHILD] == container:
        kin[before, _CHILD] = after
    else:
        kin[before, _NEXT] = after
    if after >= 0:
        kin[after, _BEFORE] = before
    n.worth_head = meld(st, n.worth_head, children)
