"""What goes where: placing one function, filling one container, promoting models onto one GPU (``docs/engine.md``, 6).

Greedy by density with best fit, after the paper's Pre-Loading Scheduler; incremental: each rule touches one function,
one container or one GPU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import (
    ABSENT,
    DISPLACED,
    DO_KILL,
    DO_LOAD,
    DO_OFFLOAD,
    DO_TRANSFER,
    HELD,
    IDLE,
    IN_LOADING,
    LOADING,
    OFFLOAD,
    OFFLOADING,
    STAYS,
    TAKEN,
    Isolation,
    Packing,
    Scope,
)
from tyche_env.control.arrivals import in_group, walk
from tyche_env.control.compiled import inner
from tyche_env.control.ledger import (
    allocate,
    command,
    demote,
    enter_category,
    enter_warm,
    free,
    leave_category,
    leave_models,
    leave_warm,
    reserve,
    reserve_gpu,
    resident_of,
)
from tyche_env.control.queue import NO_KEY
from tyche_env.control.tournament import densest_that_fits
from tyche_env.control.worth import copies, copies_on, density, displaces, refresh_candidate
from tyche_env.state import RANK_BITS, ClusterState

_SOME = 8
"""More functions of a node than this are looked at together before they are looked at one by one: mostly none fits."""


@inner
def may_host(st: ClusterState, container: int, function: int, emptied: bool) -> bool:
    """Whether isolation lets an idle container take f; ``emptied``: its residents will be gone."""
    isolation = st.cluster[0].isolation
    c = st.containers[container]
    if isolation == Isolation.TENANT and c.tenant != st.functions[function].tenant:
        return False
    if isolation == Isolation.STRICT and not emptied and c.residents > 0:
        return False
    return st.functions[function].residents == 0 or resident_of(st, function, container) < 0


@inner
def load(st: ClusterState, function: int, container: int) -> None:
    """Begin to load f into an idle container that has room for it."""
    s = st.cluster[0]
    f = st.functions[function]
    resident = allocate(st, function, container)
    r = st.residents[resident]
    r.state = LOADING
    r.from_load = 1
    r.command_us = s.now_us
    reserve(st, container, f.peak_mb)
    f.idle_copies += 1
    if st.containers[container].owner == function:
        leave_warm(st, container)
    enter_category(st, resident, IN_LOADING)
    s.loads += 1
    command(st, DO_LOAD, function, container, resident, f.load_count)
    f.load_count += 1
    refresh_candidate(st, function)


@inner
def offload(st: ClusterState, resident: int) -> None:
    """Begin to off-load a held resident of an idle container; its memory stays reserved until that is done."""
    r = st.residents[resident]
    leave_category(st, resident)
    leave_models(st, resident)
    r.state = OFFLOADING
    st.functions[r.function].idle_copies -= 1
    if st.containers[r.container].owner == r.function:
        enter_warm(st, r.container)
    command(st, DO_OFFLOAD, r.function, r.container, resident, 0)
    refresh_candidate(st, r.function)


@inner
def offload_all(st: ClusterState, function: int) -> None:
    """Off-load every idle held copy of f, newest first."""
    at = st.functions[function].resident_head
    while at >= 0:
        r = st.residents[at]
        if r.state == HELD and st.containers[r.container].state == IDLE:
            offload(st, at)
        at = r.function_next


@inner
def transfer(st: ClusterState, resident: int) -> None:
    """Begin to copy a held model to the GPU of its container."""
    r = st.residents[resident]
    f = st.functions[r.function]
    reserve_gpu(st, st.containers[r.container].gpu, f.gpu_mb)
    r.gpu_state = LOADING
    st.cluster[0].transfers += 1
    command(st, DO_TRANSFER, r.function, r.container, resident, f.transfer_count)
    f.transfer_count += 1


@inner
def promote(st: ClusterState, gpu: int) -> None:
    """Give free GPU memory to the densest models in container memory, one after the other, until none fits."""
    g = st.gpus[gpu]
    while True:
        best = -1
        best_density = 0
        at = g.model_head
        while at >= 0:
            r = st.residents[at]
            f = st.functions[r.function]
            if r.gpu_state == ABSENT and f.gpu_mb <= g.free_mb and f.decision != OFFLOAD:
                worth = f.gpu_density
                if worth > best_density or (worth == best_density and best >= 0 and at < best):
                    best = at
                    best_density = worth
            at = r.model_next
        if best < 0:
            return
        transfer(st, best)


@inner
def next_gpu_victim(st: ClusterState, gpu: int, above_density: int, above_slot: int, limit: int) -> int:
    """The model held on a GPU, in an idle container, next in order of (density, slot) after the given one.

    Only densities that ``limit`` displaces count; if it is negative, all do.
    """
    best = -1
    best_density = 0
    at = st.gpus[gpu].model_head
    while at >= 0:
        r = st.residents[at]
        if r.gpu_state == HELD:
            worth = st.functions[r.function].gpu_density
            if limit < 0 or displaces(st, limit, worth):
                later = worth > above_density or (worth == above_density and at > above_slot)
                if later and (best < 0 or worth < best_density or (worth == best_density and at < best)):
                    best = at
                    best_density = worth
        at = r.model_next
    return best


@inner
def gpu_try(st: ClusterState, resident: int) -> None:
    """Bring one held resident onto its GPU if it fits, or if what it displaces is worth less."""
    s = st.cluster[0]
    r = st.residents[resident]
    f = st.functions[r.function]
    c = st.containers[r.container]
    if r.state != HELD or r.gpu_state != ABSENT or c.state != IDLE or c.gpu < 0 or f.decision == OFFLOAD:
        return
    worth = f.gpu_density
    if worth <= 0:
        return
    g = st.gpus[c.gpu]
    if g.free_mb < f.gpu_mb and s.displace_percent < 0:
        return
    room_mb = g.free_mb
    cost = 0
    last_density = -1
    last_slot = -1
    pricing = True  # first add up who would have to go, then let them go
    while True:
        if pricing and room_mb >= f.gpu_mb:
            if cost >= worth * f.gpu_mb:
                return
            pricing = False
            last_density = -1
            last_slot = -1
        if not pricing and g.free_mb >= f.gpu_mb:
            break
        victim = next_gpu_victim(st, c.gpu, last_density, last_slot, worth)
        if victim < 0:
            return
        if pricing:
            other = st.residents[victim].function
            last_density = st.functions[other].gpu_density
            last_slot = victim
            room_mb += st.functions[other].gpu_mb
            cost += last_density * st.functions[other].gpu_mb
        else:
            demote(st, victim)
    transfer(st, resident)


@inner
def fitting_container(st: ClusterState, function: int, node: int) -> int:
    """The idle container of a node that takes f as it is: best, worst or empty; the youngest among equals."""
    s = st.cluster[0]
    packing = s.packing
    need = st.functions[function].peak_mb
    n = st.nodes[node]
    if need > n.roomiest_mb:
        return -1
    listed = n.listed_at == s.events and packing != Packing.SINGLE and packing != Packing.WORST
    if listed and s.isolation == Isolation.NONE and st.functions[function].residents == 0:
        return listed_container(st, node, need)
    best = -1
    best_free = np.int64(0)
    roomiest = np.int64(0)
    at = n.idle_tail
    while at >= 0:
        c = st.containers[at]
        roomiest = max(roomiest, c.free_mb)
        if packing == Packing.SINGLE:
            better = best < 0 and c.residents == 0
        elif packing == Packing.WORST:
            better = best < 0 or c.free_mb > best_free
        else:
            better = best < 0 or c.free_mb < best_free
        if better and c.free_mb >= need and may_host(st, at, function, False):
            best = at
            best_free = c.free_mb
            if best_free == need and packing != Packing.WORST and packing != Packing.SINGLE:
                return best
        at = c.idle_previous
    n.roomiest_mb = roomiest
    return best


@inner
def listed_container(st: ClusterState, node: int, need_mb: int) -> int:
    """The best fit of a node whose rooms are listed, for a function that any of its idle containers may host; or -1."""
    n = st.nodes[node]
    rooms = st.rooms[n.room_first : n.room_end]
    best, most = next_to(rooms, need_mb << RANK_BITS)
    if best == NO_KEY:
        n.roomiest_mb = most >> RANK_BITS
        return -1
    at = 0
    while rooms[at] != best:
        at += 1
    return np.int64(st.room_container[n.room_first + at])


@inner
def next_to(numbers: NDArray[np.int64], enough: int) -> tuple[int, int]:
    """The least of numbers that are not less than another, or NO_KEY, and the most of the others, or -1.

    Without branches, so that the compiler finds vectors.
    """
    above = NO_KEY
    below = np.int64(-1)
    for at in range(len(numbers)):
        number = numbers[at]
        above = min(above, number if number >= enough else NO_KEY)
        below = max(below, number if number < enough else -1)
    return above, below


@inner
def take_victims(st: ClusterState, function: int, container: int, worth: int) -> int:
    """Mark the residents that f, of a density, would displace in a container, take those that have to go, price them.

    ``residents.mark`` says what becomes of each, ``residents.density`` what a displaced or taken one is worth.  The
    node's ``least_density`` falls to that of the least held resident seen.

    Returns:
        The worth of all that are taken (their density x memory), or -1 if f cannot be made to fit.
    """
    s = st.cluster[0]
    f = st.functions[function]
    c = st.containers[container]
    n = st.nodes[c.node]
    at = c.resident_head
    while at >= 0:
        r = st.residents[at]
        r.mark = STAYS
        if r.state == HELD:
            other = density(st, r.function, max(1, copies(st, r.function)))
            if n.least_density < 0 or other < n.least_density:
                n.least_density = other
            if displaces(st, worth, other):
                r.mark = DISPLACED
                r.density = other
        at = r.container_next
    room_mb = c.free_mb
    left = c.residents
    cost = 0
    while room_mb < f.peak_mb or (s.isolation == Isolation.STRICT and left > 0):
        victim = least_marked(st, container, DISPLACED)
        if victim < 0:
            return -1
        r = st.residents[victim]
        room_mb += st.functions[r.function].hold_mb
        cost += r.density * st.functions[r.function].hold_mb
        r.mark = TAKEN
        left -= 1
    return cost


@inner
def least_marked(st: ClusterState, container: int, mark: int) -> int:
    """The resident with a mark that has the least (density, slot), or -1."""
    best = -1
    best_density = 0
    at = st.containers[container].resident_head
    while at >= 0:
        r = st.residents[at]
        if r.mark == mark and (best < 0 or r.density < best_density or (r.density == best_density and at < best)):
            best = at
            best_density = r.density
        at = r.container_next
    return best


@inner
def kill_victims(st: ClusterState, function: int, container: int, worth: int) -> int:
    """Kill what f displaces in a container, in ascending order of (density, slot); GREEDY_DUAL's clock follows.

    Returns:
        The GPU memory that this released, in MB.
    """
    take_victims(st, function, container, worth)
    released = 0
    while True:
        victim = least_marked(st, container, TAKEN)
        if victim < 0:
            return released
        st.cluster[0].load_clock = max(st.cluster[0].load_clock, st.residents[victim].density)
        other = st.residents[victim].function
        released += free(st, victim)
        command(st, DO_KILL, other, container, victim, 0)
        if st.containers[container].owner == other:
            enter_warm(st, container)


@inner
def displaceable_container(st: ClusterState, function: int, node: int, worth: int) -> int:
    """The idle container of a node where f displaces the least worth, the youngest among equals, or -1.

    Within one event, what is held only becomes less and worth no less, as long as a function has one copy: who is not
    worth enough for the least of a node, as last seen in the event, need not look again.
    """
    s = st.cluster[0]
    n = st.nodes[node]
    if n.least_at == s.events and (n.least_density < 0 or not displaces(st, worth, n.least_density)):
        return -1
    hold_mb = st.functions[function].hold_mb
    best = -1
    best_cost = np.int64(0)
    saw_all = s.copies == 1
    n.least_density = -1
    at = n.idle_tail
    while at >= 0:
        c = st.containers[at]
        if c.residents > 0:
            if may_host(st, at, function, True):
                cost = take_victims(st, function, at, worth)
                if cost >= 0 and cost < worth * hold_mb and (best < 0 or cost < best_cost):
                    best = at
                    best_cost = cost
            else:
                saw_all = False
        at = c.idle_previous
    n.least_at = s.events if saw_all else 0
    return best


@inner
def place(st: ClusterState, function: int, only: int) -> bool:
    """Load a copy of f into idle memory of its routing group, where it is worth it.

    One controller for all loads one copy: on the first node where it fits, else on the first where it displaces less
    worth.  A controller of each worker loads one on every node that has fewer than ``copies``, each node by itself.

    Args:
        st: the state.
        function: f.
        only: with a controller of each worker, the one node to look at; -1: all.

    Returns:
        Whether a load began.
    """
    s = st.cluster[0]
    f = st.functions[function]
    alone = s.scope == Scope.WORKER
    have = 0 if alone else copies(st, function)
    worth = density(st, function, have + 1)
    if worth <= 0 or s.packing == Packing.OWN:
        return False
    may_displace = s.displace_percent >= 0 and s.packing != Packing.SINGLE
    placed = False
    displacing = alone
    step = 0
    while True:
        if step == f.group:
            if displacing or not may_displace:
                return placed
            displacing = True
            step = 0
        node = walk(st, function, step)
        step += 1
        if alone and ((only >= 0 and node != only) or copies_on(st, function, node) >= s.copies):
            continue
        container = -1
        released = 0
        if alone or not displacing:
            container = fitting_container(st, function, node)
        if container < 0 and displacing and may_displace:
            container = displaceable_container(st, function, node, worth)
            if container >= 0:
                released = kill_victims(st, function, container, worth)
        if container < 0:
            continue
        load(st, function, container)
        if released > 0:
            promote(st, st.containers[container].gpu)
        if not alone:
            return True
        placed = True


@inner
def fills(st: ClusterState, function: int, container: int) -> bool:
    """Whether f, whose density is positive, may be loaded into the free memory of an idle container."""
    s = st.cluster[0]
    c = st.containers[container]
    if st.functions[function].peak_mb > c.free_mb:
        return False
    if s.scope == Scope.WORKER and copies_on(st, function, c.node) >= s.copies:
        return False
    return may_host(st, container, function, False)


@inner
def any_fits(density: NDArray[np.int64], peak_mb: NDArray[np.int64], free_mb: int) -> bool:
    """Whether the load of any function fits whose density is positive; without branches, so that vectors come of it."""
    found = False
    for at in range(len(density)):
        found |= (density[at] > 0) & (peak_mb[at] <= free_mb)
    return found


@inner
def fill(st: ClusterState, container: int) -> None:
    """Load the densest wanted functions into the free memory of one idle container."""
    s = st.cluster[0]
    c = st.containers[container]
    if c.state != IDLE:
        return
    n = st.nodes[c.node]
    while True:
        best = -1
        best_density = 0
        if s.packing == Packing.SINGLE or s.packing == Packing.OWN:
            worth = st.candidate_density[st.functions[c.owner].slot]
            if worth > 0 and c.residents == 0 and fills(st, c.owner, container):
                best = c.owner
        else:
            first, end = n.candidate_first, n.candidate_end
            if n.rivals > 0:
                winner = densest_that_fits(st, c.node, c.free_mb)
                if winner >= 0 and fills(st, st.candidate_function[winner], container):
                    best = np.int64(st.candidate_function[winner])
                    best_density = st.candidate_density[winner]
                if winner < 0 or best >= 0:
                    end = first  # else isolation or a worker refuses the winner, and all are looked at
            elif end - first > _SOME and not any_fits(
                st.candidate_density[first:end], st.candidate_peak_mb[first:end], c.free_mb
            ):
                end = first
            for slot in range(first, end):
                if st.candidate_peak_mb[slot] > c.free_mb:
                    break  # so do all that follow
                worth = st.candidate_density[slot]
                function = st.candidate_function[slot]
                denser = worth > best_density or (worth == best_density and best >= 0 and function < best)
                if denser and fills(st, function, container):
                    best = function
                    best_density = worth
            for at in range(s.wide_count):
                function = st.wide[at]
                worth = st.candidate_density[st.functions[function].slot]
                denser = worth > best_density or (worth == best_density and best >= 0 and function < best)
                if denser and in_group(st, function, c.node) and fills(st, function, container):
                    best = function
                    best_density = worth
        if best < 0:
            return
        load(st, best, container)
