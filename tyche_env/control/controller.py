"""The Controller: what happens at each event (``docs/engine.md``, 5 and 6).

One handler an event.  A handler changes the state at once and appends commands; whoever hosts the core (the simulator's
loop, the real backend's task) carries them out and reports back with later events.
"""

from __future__ import annotations

import numpy as np

from tyche_env.control.arrivals import record_arrival
from tyche_env.control.codes import (
    ABSENT,
    BUSY,
    CREATING,
    DO_CREATE,
    DO_KILL,
    DO_START,
    HELD,
    HOLD,
    IDLE,
    IN_GPU,
    IN_MEMORY,
    LEAVE,
    LOADING,
    NODE_SHIFT,
    OFFLOAD,
    WORKER,
)
from tyche_env.control.compiled import apart, inner
from tyche_env.control.interval import prepare_pack, try_gpus
from tyche_env.control.kernels import NO_TIMER, ask, window_end_us
from tyche_env.control.ledger import (
    add_busy,
    become_idle,
    command,
    demote,
    enter_category,
    enter_models,
    enter_warm,
    free_resident,
    leave_category,
    leave_idle,
    leave_models,
    make_room,
    new_container,
    new_resident,
    note_freed,
    note_lost,
    remove_container,
    reserve,
    reserve_gpu,
    take_ownership,
)
from tyche_env.control.packing import (
    OWN,
    SINGLE,
    drop_idle,
    fill,
    gpu_try,
    load,
    next_gpu_victim,
    offload,
    place,
    promote,
)
from tyche_env.control.queue import (
    ARRIVAL,
    CREATED,
    EXPIRY,
    FINISH,
    LOAD_FAILED,
    LOADED,
    NO_KEY,
    OFFLOADED,
    PRIORITIES,
    TIMER,
    key_of,
)
from tyche_env.control.queue import PREWARM as PREWARM_TIMER
from tyche_env.control.routing import OVERFLOWED, has_room, route, select
from tyche_env.control.timers import set_expiry, set_timer, timer_key
from tyche_env.control.vacancies import note_vacancy
from tyche_env.control.worth import copies, opens_for_nothing, refresh_candidate, set_gpu_priority, set_priority
from tyche_env.prewarm import faascache
from tyche_env.prewarm import policy as prewarming
from tyche_env.state import ClusterState
from tyche_env.world import Kernel, StartType

GPU, MEMORY, MET_LOAD, WARM, COLD = (int(start) for start in StartType)
KEEP, RELOAD = 0, 1
NOTHING, ARRIVED, WAITING, PREWARM = 0, 1, 2, 3
"""What ``serve`` is asked for."""
_GREEDY_DUAL = int(Kernel.GREEDY_DUAL)


# -- serving -----------------------------------------------------------------------------------------------------------


@inner
def claim_gpu(st: ClusterState, function: int, gpu: int) -> bool:
    """Reserve GPU memory for a run, demoting idle models if that makes it fit.

    Returns:
        Whether it fits.  Whatever was demoted has been noted as freed memory by the caller's flag.
    """
    need = st.functions[function].gpu_mb
    g = st.gpus[gpu]
    if g.free_mb < need:
        free = g.free_mb
        at = g.model_head
        while at >= 0:
            r = st.residents[at]
            if r.gpu_state == HELD:
                free += st.functions[r.function].gpu_mb
            at = r.model_next
        if free < need:
            return False
        while g.free_mb < need:
            demote(st, next_gpu_victim(st, gpu, -1, -1, -1))
    reserve_gpu(st, gpu, need)
    return True


@inner
def start(st: ClusterState, function: int, container: int, cold: bool, request: int, ordinal: int) -> None:
    """Serve a request of f in a container: clear everything else out of it, and take what is there of f."""
    s = st.cluster[0]
    f = st.functions[function]
    c = st.containers[container]
    gpu = c.gpu
    own = -1
    cleared = 0
    released = 0
    start_type = COLD
    if not cold:
        start_type = WARM
        at = c.resident_head
        while at >= 0:
            r = st.residents[at]
            after = r.container_next
            if r.function == function and (r.state == LOADING or r.state == HELD):
                own = at
            else:
                other = r.function
                released += free_resident(st, at)
                cleared = 1
                if other != function:
                    note_lost(st, other, c.node)
            at = after
        if own >= 0:
            r = st.residents[own]
            if r.state == LOADING:
                start_type = MET_LOAD
                s.load_us += s.now_us - r.command_us
                reserve(st, container, -f.peak_mb)
            else:
                start_type = GPU if r.gpu_state == HELD else MEMORY
                reserve(st, container, -f.hold_mb)
            f.idle_copies -= 1
            leave_category(st, own)
            leave_models(st, own)
        leave_idle(st, container)
    if own < 0:
        own = new_resident(st, function, container)
    r = st.residents[own]
    kept = r.kept if start_type <= MEMORY else 0
    gpu_before = r.gpu_state
    r.state = HELD
    r.served = 1
    r.due_key = NO_KEY
    c.state = BUSY
    take_ownership(st, container, function)
    f.freq += 1
    st.nodes[c.node].runs += 1
    c.free_mb = c.size_mb - f.hold_mb
    add_busy(st, c.node, c.size_mb)
    f.running += 1
    on_gpu = 0
    if f.gpu_mb > 0 and gpu >= 0:
        if gpu_before != ABSENT:
            on_gpu = 1
        else:
            needs_demotion = st.gpus[gpu].free_mb < f.gpu_mb
            if claim_gpu(st, function, gpu):
                on_gpu = 1
                if needs_demotion:
                    released += 1
    r.gpu_state = HELD if on_gpu == 1 else ABSENT
    if released > 0:
        note_freed(st, gpu)
    refresh_candidate(st, function)
    command(st, DO_START, function, container, own, ordinal)
    row = st.commands[s.command_count - 1]
    row.request = request
    row.delay_us = s.scheduling_us + (s.clear_us if cleared == 1 else 0)
    row.start_type = start_type
    row.on_gpu = on_gpu
    row.gpu_before = gpu_before
    row.kept = kept


@inner
def enqueue(st: ClusterState, function: int, node: int, request: int, ordinal: int) -> None:
    """Let a request wait on a node; the backend keeps the pool of waiting requests large enough."""
    s = st.cluster[0]
    if s.waiting_free > 0:
        s.waiting_free -= 1
        slot = st.free_waiting[s.waiting_free]
    else:
        slot = s.waiting_fresh
        if slot >= len(st.waiting):
            s.overflow = 1
            return
        s.waiting_fresh += 1
    w = st.waiting[slot]
    w.request = request
    w.ordinal = ordinal
    w.function = function
    w.next = -1
    n = st.nodes[node]
    if n.queue_tail >= 0:
        st.waiting[n.queue_tail].next = slot
    else:
        n.queue_head = slot
    n.queue_tail = slot
    n.queue_length += 1
    note_vacancy(st, node)
    s.queued += 1
    st.functions[function].queued += 1


@inner
def serve(st: ClusterState, mode: int, node: int, function: int, request: int, ordinal: int) -> None:
    """Find or make a container on a node.

    Args:
        st: the state.
        mode: ARRIVED: for the given request, which the node can serve; WAITING: for the node's waiting requests, in
            order, as far as its memory goes; PREWARM: for nobody yet.
        node: the node.
        function: of the request, or to pre-warm.
        request: row of the arrival table.
        ordinal: of the request among the arrivals of its function, or of the pre-warm.
    """
    s = st.cluster[0]
    n = st.nodes[node]
    while True:
        container = -1
        if mode == WAITING:
            if n.queue_head < 0:
                return
            w = st.waiting[n.queue_head]
            function, request, ordinal = w.function, w.request, w.ordinal
        if mode != PREWARM:
            container = select(st, function, node)
        cold = container < 0
        if cold:
            if mode == WAITING and not has_room(st, function, node):
                return
            make_room(st, node, st.functions[function].container_mb)
            container = new_container(st, function, node)
        if mode == PREWARM:
            c = st.containers[container]
            c.state = CREATING
            c.keep_us = st.functions[function].prewarm_keep_us
            add_busy(st, node, c.size_mb)
            s.prewarms += 1
            command(st, DO_CREATE, function, container, -1, ordinal)
            return
        if mode == WAITING:
            leave_queue(st, node)
        start(st, function, container, cold, request, ordinal)
        if mode == ARRIVED:
            return


@inner
def leave_queue(st: ClusterState, node: int) -> None:
    """Take the first waiting request off a node's queue."""
    s = st.cluster[0]
    n = st.nodes[node]
    slot = n.queue_head
    w = st.waiting[slot]
    n.queue_head = w.next
    if n.queue_head < 0:
        n.queue_tail = -1
    n.queue_length -= 1
    note_vacancy(st, node)
    s.queued -= 1
    st.functions[w.function].queued -= 1
    st.free_waiting[s.waiting_free] = slot
    s.waiting_free += 1


# -- decisions ---------------------------------------------------------------------------------------------------------


@inner
def decide(st: ClusterState, function: int) -> None:
    """Ask the policy about f, and when to ask again: an opening that would change nothing needs no event."""
    s = st.cluster[0]
    row = st.functions[function]
    decision, priority, again_us = ask(st, function)
    row.decision = decision
    row.gpu_decision = decision
    set_priority(st, function, priority)
    set_gpu_priority(st, function, priority)
    row.opening_key = NO_KEY
    if again_us == NO_TIMER:
        row.timer_key = NO_KEY
    else:
        if decision == LEAVE and opens_for_nothing(st, function):
            closes_us = window_end_us(st, function)
            if again_us < closes_us:
                row.opening_key = timer_key(s.now_us + again_us, TIMER, function)
                again_us = closes_us
        set_timer(st, function, s.now_us + again_us)
    refresh_candidate(st, function)


@inner
def place_wanted(st: ClusterState, to_apply: int, gpu_step: bool) -> None:
    """What an event leaves to do: re-place what was lost, hand out freed GPU memory, act on the decision about f.

    Args:
        st: the state.
        to_apply: the function f, or -1.
        gpu_step: also try to bring held copies of f onto their GPUs.
    """
    s = st.cluster[0]
    alone = s.scope == WORKER
    at = 0
    while True:
        applying = at >= s.lost_count
        if applying:
            for g in range(s.freed_count):
                promote(st, st.freed[g])
            s.freed_count = 0
            if to_apply < 0 or st.functions[to_apply].decision != HOLD:
                break
            function = to_apply
            node = -1
        else:
            function = st.lost[at] & ((1 << NODE_SHIFT) - 1)
            node = (st.lost[at] >> NODE_SHIFT) - 1
            at += 1
            if node >= 0 and s.packing in (SINGLE, OWN):
                continue  # without packing, what is lost stays lost
        f = st.functions[function]
        placed = False
        if f.decision != OFFLOAD and f.priority > 0 and (alone or copies(st, function) < s.copies):
            placed = place(st, function, node)
        if applying and (alone or not placed):
            break
    s.lost_count = 0
    if to_apply < 0:
        return
    if st.functions[to_apply].decision == OFFLOAD:
        drop_idle(st, to_apply)
    elif st.functions[to_apply].decision == HOLD and gpu_step:
        at = st.functions[to_apply].resident_head
        while at >= 0:
            gpu_try(st, at)
            at = st.residents[at].function_next


# -- events ------------------------------------------------------------------------------------------------------------


@inner
def on_finish(st: ClusterState, container: int) -> int:
    """The run in a container ends; returns how long the platform keeps it (0: not at all, negative: for ever)."""
    s = st.cluster[0]
    c = st.containers[container]
    function = c.owner
    f = st.functions[function]
    s.finished += 1
    f.in_flight -= 1
    f.running -= 1
    st.nodes[c.node].runs -= 1
    keep_us = prewarming.keep_alive_us(st, function)
    own = c.resident_head
    if s.after_run == KEEP:
        st.residents[own].kept = 1
    else:
        released = free_resident(st, own)
        command(st, DO_KILL, function, container, own, 0)
        if released > 0:
            note_freed(st, c.gpu)
    become_idle(st, container)
    refresh_candidate(st, function)
    return keep_us


@inner
def begin(st: ClusterState) -> None:
    """Time 0: timers of the platform, and in event mode the policy is asked once about every function."""
    s = st.cluster[0]
    prewarming.begin(st)
    if s.event_mode != 0 and s.preloads != 0:
        for function in range(s.functions):
            decide(st, function)


@inner
def on_loaded(st: ClusterState, resident: int) -> int:
    """A load, or a transfer to the GPU, is done; returns the container if memory came free in it, else -1."""
    s = st.cluster[0]
    r = st.residents[resident]
    f = st.functions[r.function]
    if r.state == HELD:
        r.gpu_state = HELD
        enter_category(st, resident, IN_GPU)
        return -1
    r.state = HELD
    s.load_us += s.now_us - r.command_us
    reserve(st, r.container, f.hold_mb - f.peak_mb)
    enter_category(st, resident, IN_MEMORY)
    enter_models(st, resident)
    if f.decision == OFFLOAD:
        offload(st, resident)
    else:
        gpu_try(st, resident)
    return r.container if f.peak_mb > f.hold_mb else -1


@inner
def on_load_failed(st: ClusterState, resident: int) -> None:
    """A load, or a transfer, failed: its memory is free again, and the function stays wanted."""
    r = st.residents[resident]
    container, function = r.container, r.function
    if r.state == HELD:
        reserve_gpu(st, st.containers[container].gpu, -st.functions[function].gpu_mb)
        r.gpu_state = ABSENT
        return
    free_resident(st, resident)
    if st.containers[container].owner == function:
        enter_warm(st, container)


@apart
def handle(st: ClusterState, kind: int, entity: int, request: int) -> None:
    """One event: change the state, and leave commands for the backend (``docs/engine.md``, 6).

    Args:
        st: the state; ``cluster.now_us`` is the time of the event.
        kind: of ``control.queue``.
        entity: function (arrival, timers), container (finish, created, expiry), resident slot (loaded, off-loaded), or
            nothing (priorities set).
        request: row of the arrival table, for an arrival.
    """
    s = st.cluster[0]
    s.events += 1
    s.passed_key = max(s.passed_key, key_of(s.now_us, kind, entity))
    mode = NOTHING
    node = -1
    function = -1
    ordinal = np.int64(0)
    idle = -1
    rank = np.int64(0)
    keep_us = np.int64(0)
    to_remove = -1
    to_fill = -1
    to_apply = -1
    gpu_step = False
    if kind == ARRIVAL:
        function = entity
        row = st.functions[function]
        ordinal = row.arrivals
        prewarming.before_arrival(st, function)
        row.in_flight += 1
        record_arrival(st, function)
        prewarming.after_arrival(st, function)
        if s.event_mode != 0 and s.preloads != 0:
            decide(st, function)
            to_apply = function
        elif s.copies > 1 or s.kernel == _GREEDY_DUAL:
            refresh_candidate(st, function)  # the worth of a second copy follows the rate, greedy-dual's any
        node = route(st, function, ordinal)
        mode = ARRIVED
        if node >= OVERFLOWED:
            mode = NOTHING
            enqueue(st, function, node - OVERFLOWED, request, ordinal)
    elif kind == FINISH:
        idle = entity
        keep_us = on_finish(st, entity)
    elif kind == CREATED:
        idle = entity
        keep_us = st.containers[entity].keep_us
        become_idle(st, entity)
    elif kind == EXPIRY:
        if prewarming.outlives(st, entity):
            to_fill = entity
        else:
            s.expiries += 1
            to_remove = entity
    elif kind == LOADED:
        to_fill = on_loaded(st, entity)
    elif kind == LOAD_FAILED:
        on_load_failed(st, entity)
    elif kind == OFFLOADED:
        to_fill = st.residents[entity].container
        if free_resident(st, entity) > 0:
            note_freed(st, st.containers[to_fill].gpu)
    elif kind == TIMER:
        decide(st, entity)
        to_apply = entity
        gpu_step = True
    elif kind == PRIORITIES:
        s.new_priorities = 0
        prepare_pack(st)
    elif kind == PREWARM_TIMER:
        row = st.functions[entity]
        node = row.home_node
        if prewarming.wants_container(st, entity):
            mode = PREWARM
            function = entity
            ordinal = row.prewarm_count
            row.prewarm_count += 1

    if idle >= 0:
        node = st.containers[idle].node
        rank = st.containers[idle].rank
        mode = WAITING
    if mode != NOTHING:
        serve(st, mode, node, function, request, ordinal)
    if idle >= 0 and st.containers[idle].state == IDLE and st.containers[idle].rank == rank:
        if keep_us == 0:
            s.expiries += 1
            to_remove = idle
        else:
            if keep_us != faascache.FOREVER:
                set_expiry(st, idle, s.now_us + keep_us)
            to_fill = idle
            if kind == FINISH and s.after_run == RELOAD and s.preloads != 0:
                load(st, st.containers[idle].owner, idle)
    if to_remove >= 0:
        remove_container(st, to_remove)
    if s.preloads != 0:
        if to_fill >= 0:
            fill(st, to_fill)
        place_wanted(st, to_apply, gpu_step)
        if kind == PRIORITIES and s.gpus > 0:
            try_gpus(st)
