"""Interval mode: all decisions are new at once, and are carried out in the order of worth (``docs/engine.md``, 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import HELD, HOLD, IDLE, LEAVE, OFFLOAD, Scope
from tyche_env.control.compiled import inner, outer
from tyche_env.control.handles import open_state
from tyche_env.control.ledger import demote, list_rooms, note_lost
from tyche_env.control.packing import gpu_try, offload_all
from tyche_env.control.worth import look_at_opening, take_decision
from tyche_env.state import ClusterState

KEEP_PRIORITY = -1
"""Instead of a priority: the one that there is stays."""


# -- taking decisions --------------------------------------------------------------------------------------------------


@inner
def priority_of(decision: int, priority: int) -> int:
    """The priority that comes with a decision: LEAVE changes none, OFFLOAD sets it to 0, HOLD sets it."""
    if decision == LEAVE:
        return KEEP_PRIORITY
    return max(0, priority) if decision == HOLD else 0


@outer
def take_priorities(handles: NDArray[np.int64], decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
    """Write new decisions for all functions into the state; nothing acts on them before the event PRIORITIES.

    Args:
        handles: of the state.
        decision: (F, 2) LEAVE, HOLD or OFFLOAD, for container memory and GPU.
        priority: (F, 2) in 2^-20, read where the decision is HOLD.
    """
    st = open_state(handles)
    st.cluster[0].new_priorities = 1
    for function in range(st.cluster[0].functions):
        look_at_opening(st, function)
        of_memory, of_gpu = decision[function, 0], decision[function, 1]
        p = priority_of(of_memory, priority[function, 0])
        gpu_p = priority_of(of_gpu, priority[function, 1])
        take_decision(st, function, of_memory, p, of_gpu, gpu_p)


# -- sorting functions -------------------------------------------------------------------------------------------------


@inner
def comes_after(st: ClusterState, a: int, b: int) -> bool:
    """Whether entry a of ``order`` is served after entry b: the lesser key last, the greater index among equals."""
    later = (st.order_key[a] == st.order_key[b]) & (st.order[a] > st.order[b])
    return bool((st.order_key[a] < st.order_key[b]) | later)


@inner
def sink(st: ClusterState, root: int, end: int, key: int, function: int) -> None:
    """Put an entry into the heap below ``root``, whose top is served last; the hole at the root sinks first.

    Like ``queue.sift``: which child sinks is computed, not branched on.
    """
    hole = root
    child = 2 * hole + 1
    while child < end:
        if child + 1 < end:
            child += np.int64(comes_after(st, child + 1, child))
        st.order_key[hole] = st.order_key[child]
        st.order[hole] = st.order[child]
        hole = child
        child = 2 * hole + 1
    while hole > root:
        parent = (hole - 1) >> 1
        above = st.order_key[parent]
        if above < key or (above == key and st.order[parent] > function):
            break
        st.order_key[hole] = above
        st.order[hole] = st.order[parent]
        hole = parent
    st.order_key[hole] = key
    st.order[hole] = function


@inner
def sort_order(st: ClusterState, count: int) -> None:
    """Heap-sort the first ``count`` functions of ``order`` by ``order_key``, both in place."""
    for root in range(count // 2 - 1, -1, -1):
        sink(st, root, count, st.order_key[root], st.order[root])
    for end in range(count - 1, 0, -1):
        key, function = st.order_key[end], st.order[end]
        st.order_key[end] = st.order_key[0]
        st.order[end] = st.order[0]
        sink(st, 0, end, key, function)


# -- acting on them ----------------------------------------------------------------------------------------------------


@inner
def prepare_pack(st: ClusterState) -> None:
    """All decisions are new: off-load, demote, and list what to place, densest first (``docs/engine.md``, pack)."""
    s = st.cluster[0]
    list_rooms(st)
    count = 0
    for function in range(s.functions):
        row = st.functions[function]
        if row.decision == OFFLOAD:
            offload_all(st, function)
        elif row.gpu_decision == OFFLOAD:
            at = row.resident_head
            while at >= 0:
                r = st.residents[at]
                if r.gpu_state == HELD and r.state == HELD and st.containers[r.container].state == IDLE:
                    demote(st, at)
                at = r.function_next
        worth = st.candidate_density[row.slot]
        if worth > 0:
            st.order_key[count] = worth
            st.order[count] = function
            count += 1
    sort_order(st, count)
    for at in range(count):
        function = st.order[at]
        # once for each copy that it may have: of those that it has now, denser functions may displace some before
        for _ in range(1 if s.scope == Scope.WORKER else s.copies):
            note_lost(st, function, -1)


@inner
def try_gpus(st: ClusterState) -> None:
    """Bring held models onto their GPUs, densest first."""
    s = st.cluster[0]
    count = 0
    for function in range(s.functions):
        row = st.functions[function]
        worth = row.gpu_density
        if row.gpu_decision == HOLD and row.residents > 0 and worth > 0:
            st.order_key[count] = worth
            st.order[count] = function
            count += 1
    sort_order(st, count)
    for at in range(count):
        resident = st.functions[st.order[at]].resident_head
        while resident >= 0:
            gpu_try(st, resident)
            resident = st.residents[resident].function_next
