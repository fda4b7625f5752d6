"""Which nodes have room for a new container, found without asking each.

A request that the nodes nearest to its home cannot take goes on along its walk.  In a cluster that is full it would ask
every node, and so would the next one; instead, room is then kept in a tree over the nodes in walk order: each entry is
the most that any node below it has, so that the next node with enough is found in log n steps.  The tree is made when
a request first comes so far, follows every change from then on, and is given up after as many changes as there are
nodes without a request that needed it.
"""

from __future__ import annotations

import numpy as np

from tyche_env.control.compiled import apart, inner
from tyche_env.state import ClusterState

NOWHERE = -1
UNKNOWN = -2
"""Only asking all nodes tells."""


@inner
def room_mb(st: ClusterState, node: int) -> int:
    """What new containers may take on a node once its idle ones are gone; -1 where requests wait already."""
    n = st.nodes[node]
    return n.memory_mb - n.busy_mb if n.queue_length == 0 else -1


@inner
def note_vacancy(st: ClusterState, node: int) -> None:
    """The room of a node, or its queue, has changed."""
    s = st.cluster[0]
    if s.vacancies_kept > 0:
        s.vacancies_kept -= 1
        change_vacancy(st, node)


@apart
def change_vacancy(st: ClusterState, node: int) -> None:
    """Carry the room of a node up the tree, as far as it matters."""
    at = len(st.vacancies) // 2 + st.nodes[node].position
    room = room_mb(st, node)
    st.vacancies[at] = room
    while at > 1:
        most = max(st.vacancies[at], st.vacancies[at ^ 1])
        at >>= 1
        if st.vacancies[at] == most:
            return
        st.vacancies[at] = most


@inner
def keep_vacancies(st: ClusterState) -> None:
    """Have the tree at hand: it is needed now."""
    s = st.cluster[0]
    leaves = len(st.vacancies) // 2
    if s.vacancies_kept == 0:
        for position in range(s.nodes):
            st.vacancies[leaves + position] = room_mb(st, st.node_order[position])
        for at in range(leaves - 1, 0, -1):
            st.vacancies[at] = max(st.vacancies[2 * at], st.vacancies[2 * at + 1])
    s.vacancies_kept = s.nodes


@inner
def next_vacancy(st: ClusterState, position: int, mb: int) -> int:
    """The first position from the given one on, up to the last, whose node has room, or -1."""
    leaves = len(st.vacancies) // 2
    at = leaves + position
    while st.vacancies[at] < mb:
        while at & 1:
            at >>= 1
        if at == 0:
            return -1
        at += 1
    while at < leaves:
        at *= 2
        if st.vacancies[at] < mb:
            at += 1
    return at - leaves


@inner
def steps_to(st: ClusterState, function: int, node: int) -> int:
    """How far along f's walk, whose step is 1, a node lies; past the end where requests wait."""
    s = st.cluster[0]
    n = st.nodes[node]
    if n.queue_length > 0:
        return np.int64(s.nodes)
    return (n.position - st.functions[function].home_position + s.nodes) % s.nodes


@inner
def steps_to_listed(st: ClusterState, function: int, resident: int) -> int:
    """Steps to the nearest node of a category list."""
    nearest = st.cluster[0].nodes
    while resident >= 0:
        r = st.residents[resident]
        nearest = min(nearest, steps_to(st, function, st.containers[r.container].node))
        resident = r.category_next
    return nearest


@apart
def far_vacancy(st: ClusterState, function: int) -> int:
    """The first node on f's walk that can serve a request, by room or by an idle container that is f's or holds f.

    Returns:
        The node, ``NOWHERE``, or ``UNKNOWN``, if the walk steps over nodes and one of them may be able to.
    """
    s = st.cluster[0]
    row = st.functions[function]
    keep_vacancies(st)
    nearest = steps_to_listed(st, function, row.gpu_head)
    nearest = min(nearest, steps_to_listed(st, function, row.memory_head))
    nearest = min(nearest, steps_to_listed(st, function, row.loading_head))
    container = row.warm_head
    while container >= 0:
        nearest = min(nearest, steps_to(st, function, st.containers[container].node))
        container = st.containers[container].warm_next
    if row.step != 1:
        return NOWHERE if nearest == s.nodes and st.vacancies[1] < row.container_mb else UNKNOWN
    position = next_vacancy(st, row.home_position, row.container_mb)
    if position < 0:
        position = next_vacancy(st, 0, row.container_mb)
    if position >= 0:
        nearest = min(nearest, (position - row.home_position + s.nodes) % s.nodes)
    if nearest == s.nodes:
        return NOWHERE
    return np.int64(st.node_order[(row.home_position + nearest) % s.nodes])
