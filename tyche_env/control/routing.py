"""Which node, and which container there, serves a request (``docs/engine.md``, 4)."""

from __future__ import annotations

import numpy as np

from tyche_env.control.arrivals import walk
from tyche_env.control.compiled import inner
from tyche_env.control.draws import draw_u64
from tyche_env.control.hooks import route_by_rule
from tyche_env.draws import Concern
from tyche_env.prewarm import pagurus, rainbowcake
from tyche_env.state import ClusterState
from tyche_env.world import Routing

_OVERFLOW = int(Concern.OVERFLOW)
_RING, _FEWEST_BUSY, _OWN, _FEWEST_BUSY_FIRST = (
    int(r) for r in (Routing.RING, Routing.FEWEST_BUSY, Routing.OWN, Routing.FEWEST_BUSY_FIRST)
)
OVERFLOWED = 1 << 40
"""Added to the node of a request that must queue there."""


@inner
def first_on_node(st: ClusterState, resident: int, node: int) -> int:
    """The first container of a category list that is on a node, or -1."""
    while resident >= 0:
        r = st.residents[resident]
        if st.containers[r.container].node == node:
            return r.container
        resident = r.category_next
    return -1


@inner
def last_on_node(st: ClusterState, resident: int, node: int) -> int:
    """The last container of a category list that is on a node, or -1: the load that has run longest."""
    found = -1
    while resident >= 0:
        r = st.residents[resident]
        if st.containers[r.container].node == node:
            found = r.container
        resident = r.category_next
    return found


@inner
def select(st: ClusterState, function: int, node: int) -> int:
    """The idle container of a node that serves f best: on the GPU, in memory, loading, own warm, rented; or -1."""
    row = st.functions[function]
    container = first_on_node(st, row.gpu_head, node)
    if container < 0:
        container = first_on_node(st, row.memory_head, node)
    if container < 0:
        container = last_on_node(st, row.loading_head, node)
    if container < 0:
        at = row.warm_head
        while at >= 0 and st.containers[at].node != node:
            at = st.containers[at].warm_next
        container = at
    if container < 0 and st.cluster[0].prewarm == pagurus.PAGURUS:
        container = pagurus.rentable(st, function, node)
    elif container < 0 and st.cluster[0].prewarm == rainbowcake.RAINBOWCAKE:
        container = rainbowcake.rentable(st, function, node)
    return container


@inner
def lists(st: ClusterState, function: int, node: int) -> bool:
    """Whether an idle container of a node holds or loads f."""
    row = st.functions[function]
    return (
        first_on_node(st, row.gpu_head, node) >= 0
        or first_on_node(st, row.memory_head, node) >= 0
        or first_on_node(st, row.loading_head, node) >= 0
    )


@inner
def fewest_busy(st: ClusterState, function: int, listed: bool) -> int:
    """Among nodes that list f, or that can serve it at all, the one with the fewest runs, or -1.

    Ties go to the first on f's walk, or, with FEWEST_BUSY_FIRST, to the first of the cluster.
    """
    in_order = st.cluster[0].routing == _FEWEST_BUSY_FIRST
    best = -1
    for step in range(len(st.nodes)):
        node = step if in_order else walk(st, function, step)
        n = st.nodes[node]
        if n.queue_length == 0 and (best < 0 or n.runs < st.nodes[best].runs):
            if listed:
                serves = lists(st, function, node)
            else:
                serves = has_room(st, function, node) or select(st, function, node) >= 0
            if serves:
                best = node
    return best


@inner
def has_room(st: ClusterState, function: int, node: int) -> bool:
    """Whether a new container for f fits on a node once its idle containers are gone."""
    n = st.nodes[node]
    return n.busy_mb + st.functions[function].container_mb <= n.memory_mb


@inner
def route(st: ClusterState, function: int, ordinal: int) -> int:
    """The node of a request; ``OVERFLOWED`` is added when it has to queue there."""
    s = st.cluster[0]
    row = st.functions[function]
    scans = s.routing == _FEWEST_BUSY or s.routing == _FEWEST_BUSY_FIRST
    if scans:
        node = fewest_busy(st, function, True)
        if node < 0:
            node = fewest_busy(st, function, False)
        if node >= 0:
            return node
    elif s.routing == _RING:
        if row.gpu_head >= 0:
            for step in range(row.group):
                node = walk(st, function, step)
                if st.nodes[node].queue_length == 0 and first_on_node(st, row.gpu_head, node) >= 0:
                    return node
        if row.memory_head >= 0:
            best = -1
            most = -1
            for step in range(row.group):
                node = walk(st, function, step)
                n = st.nodes[node]
                left = n.memory_mb - n.busy_mb
                if left > most and n.queue_length == 0 and first_on_node(st, row.memory_head, node) >= 0:
                    best = node
                    most = left
            if best >= 0:
                return best
    chosen = route_by_rule(st, function) if s.routing == _OWN else -1
    for step in range(0 if chosen < 0 else -1, 0 if scans else s.nodes):
        node = chosen if step < 0 else walk(st, function, step)
        if st.nodes[node].queue_length == 0 and (has_room(st, function, node) or select(st, function, node) >= 0):
            return node
    return np.int64(draw_u64(s.seed, _OVERFLOW, function, ordinal) % np.uint64(s.nodes)) + OVERFLOWED
