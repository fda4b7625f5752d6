"""Which node, and which container there, serves a request (``docs/engine.md``, 4)."""

from __future__ import annotations

import numpy as np

from tyche_env.codes import Prewarm, Routing
from tyche_env.control.arrivals import walk
from tyche_env.control.compiled import inner
from tyche_env.control.draws import draw_u64
from tyche_env.control.hooks import route_by_rule
from tyche_env.control.vacancies import NOWHERE, far_vacancy, steps_to
from tyche_env.draws import Concern
from tyche_env.prewarm import pagurus, rainbowcake
from tyche_env.state import ClusterState

_OVERFLOW = int(Concern.OVERFLOW)
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
    if container < 0 and st.cluster[0].prewarm == Prewarm.PAGURUS:
        container = pagurus.to_rent(st, function, node)
    elif container < 0 and st.cluster[0].prewarm == Prewarm.RAINBOWCAKE:
        container = rainbowcake.to_rent(st, function, node)
    return container


@inner
def fewer_busy(st: ClusterState, function: int, a: int, b: int) -> int:
    """That one of two nodes, or -1, that has fewer runs.

    Ties go to the first on f's walk, or, with FEWEST_BUSY_FIRST, to the first of the cluster.
    """
    if a < 0 or b < 0:
        return max(a, b)
    of_a, of_b = st.nodes[a].runs, st.nodes[b].runs
    if of_a != of_b:
        return a if of_a < of_b else b
    if st.cluster[0].routing == Routing.FEWEST_BUSY_FIRST:
        return min(a, b)
    return a if steps_to(st, function, a) <= steps_to(st, function, b) else b


@inner
def fewest_busy_of(st: ClusterState, function: int, best: int, resident: int) -> int:
    """The one with the fewest runs of a node, or -1, and of the open ones on which a category list has containers."""
    while resident >= 0:
        r = st.residents[resident]
        node = st.containers[r.container].node
        if st.nodes[node].queue_length == 0:
            best = fewer_busy(st, function, best, node)
        resident = r.category_next
    return best


@inner
def fewest_busy(st: ClusterState, function: int) -> int:
    """Of the nodes whose idle containers hold or load f, or if there is none, of all that can serve it, or -1."""
    row = st.functions[function]
    best = fewest_busy_of(st, function, -1, row.gpu_head)
    best = fewest_busy_of(st, function, best, row.memory_head)
    best = fewest_busy_of(st, function, best, row.loading_head)
    if best >= 0:
        return best
    for node in range(len(st.nodes)):
        n = st.nodes[node]
        if n.queue_length > 0 or (best >= 0 and n.runs > st.nodes[best].runs):
            continue
        if can_serve(st, function, node):
            best = fewer_busy(st, function, best, node)
    return best


@inner
def has_room(st: ClusterState, function: int, node: int) -> bool:
    """Whether a new container for f fits on a node once its idle containers are gone."""
    n = st.nodes[node]
    return n.busy_mb + st.functions[function].container_mb <= n.memory_mb


@inner
def can_serve(st: ClusterState, function: int, node: int) -> bool:
    """Whether a request of f could be dispatched to a node at once, whatever its queue."""
    return has_room(st, function, node) or select(st, function, node) >= 0


@inner
def is_open(st: ClusterState, function: int, node: int) -> bool:
    """Whether a node takes a request of f: nobody waits there, and it could be dispatched at once."""
    return st.nodes[node].queue_length == 0 and can_serve(st, function, node)


@inner
def route(st: ClusterState, function: int, ordinal: int) -> int:
    """The node of a request; ``OVERFLOWED`` is added when it has to queue there."""
    s = st.cluster[0]
    row = st.functions[function]
    scans = s.routing == Routing.FEWEST_BUSY or s.routing == Routing.FEWEST_BUSY_FIRST
    if scans:
        node = fewest_busy(st, function)
        if node >= 0:
            return node
    elif s.routing == Routing.RING:
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
    chosen = route_by_rule(st, function) if s.routing == Routing.OWN else -1
    step = np.int64(0 if chosen < 0 else -1)
    end = np.int64(0 if scans else s.nodes)
    while step < end:
        if step == s.near_nodes:
            node = far_vacancy(st, function)
            if node >= 0:
                return node
            if node == NOWHERE:
                break
        node = chosen if step < 0 else walk(st, function, step)
        if is_open(st, function, node):
            return node
        step += 1
    return np.int64(draw_u64(s.seed, _OVERFLOW, function, ordinal) % np.uint64(s.nodes)) + OVERFLOWED
