"""The Controller: what happens at each event (``docs/engine.md``, 5 and 6).

One handler an event.  A handler changes the state at once and appends commands; whoever hosts the core (the simulator's
loop, the real backend's task) carries them out and reports back with later events.
"""

from __future__ import annotations

import numpy as np

from tyche_env.codes import (
    ABSENT,
    ARRIVAL,
    BUSY,
    CREATED,
    CREATING,
    DO_CREATE,
    DO_KILL,
    DO_START,
    EXPIRY,
    FINISH,
    HELD,
    HOLD,
    IDLE,
    IN_GPU,
    IN_MEMORY,
    LEAVE,
    LOAD_FAILED,
    LOADED,
    LOADING,
    OFFLOAD,
    OFFLOADED,
    PREWARM_TIMER,
    PRIORITIES,
    TIMER,
    AfterRun,
    Kernel,
    Packing,
    Scope,
    StartType,
)
from tyche_env.control.arrivals import record_arrival
from tyche_env.control.compiled import apart, inner
from tyche_env.control.interval import prepare_pack, try_gpus
from tyche_env.control.kernels import ask, window_end_us
from tyche_env.control.ledger import (
    NODE_SHIFT,
    add_busy,
    allocate,
    become_idle,
    command,
    create,
    demote,
    enter_category,
    enter_models,
    enter_warm,
    evict,
    free,
    leave_category,
    leave_idle,
    leave_models,
    note_freed,
    note_lost,
    remove,
    reserve,
    reserve_gpu,
    take_ownership,
)
from tyche_env.control.packing import (
    fill,
    gpu_try,
    load,
    next_gpu_victim,
    offload,
    offload_all,
    place,
    promote,
)
from tyche_env.control.queue import NO_KEY, key_of
from tyche_env.control.routing import OVERFLOWED, has_room, route, select
from tyche_env.control.timers import set_expiry, set_timer, timer_key
from tyche_env.control.vacancies import note_vacancy
from tyche_env.control.worth import copies, opens_for_nothing, refresh_candidate, take_decision
from tyche_env.prewarm import policy as prewarming
from tyche_env.rules import FOREVER, NEVER
from tyche_env.state import ClusterState

NOTHING, ARRIVED, WAITING, PREWARM = 0, 1, 2, 3
"""What ``dispatch`` is asked for."""


# -- serving -----------------------------------------------------------------------------------------------------------


@inner
def gpu_of_the_run(st: ClusterState, function: int, gpu: int, gpu_before: int) -> tuple[bool, bool]:
    """Find GPU memory for a run that begins, demoting idle models if that makes it fit, and reserve it.

    Args:
        st: the state.
        function: f.
        gpu: of its container, or -1.
        gpu_before: what there is of f on it: ABSENT, LOADING or HELD.

    Returns:
        Whether the run is on the GPU, and whether models were demoted for it.
    """
    need_mb = st.functions[function].gpu_mb
    if need_mb == 0 or gpu < 0:
        return False, False
    if gpu_before != ABSENT:
        return True, False
    g = st.gpus[gpu]
    demoted = g.free_mb < need_mb
    if demoted:
        room_mb = g.free_mb
        at = g.model_head
        while at >= 0:
            r = st.residents[at]
            if r.gpu_state == HELD:
                room_mb += st.functions[r.function].gpu_mb
            at = r.model_next
        if room_mb < need_mb:
            return False, False
        while g.free_mb < need_mb:
            demote(st, next_gpu_victim(st, gpu, -1, -1, -1))
    reserve_gpu(st, gpu, need_mb)
    return True, bool(demoted)


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
    start_type = StartType.COLD
    if not cold:
        start_type = StartType.WARM
        at = c.resident_head
        while at >= 0:
            r = st.residents[at]
            after = r.container_next
            if r.function == function and (r.state == LOADING or r.state == HELD):
                own = at
            else:
                other = r.function
                released += free(st, at)
                cleared = 1
                if other != function:
                    note_lost(st, other, c.node)
            at = after
        if own >= 0:
            r = st.residents[own]
            if r.state == LOADING:
                start_type = StartType.LOADING
                s.ended_load_us += s.now_us - r.command_us
                reserve(st, container, -f.peak_mb)
            else:
                start_type = StartType.GPU if r.gpu_state == HELD else StartType.MEMORY
                reserve(st, container, -f.hold_mb)
            f.idle_copies -= 1
            leave_category(st, own)
            leave_models(st, own)
        leave_idle(st, container)
    if own < 0:
        own = allocate(st, function, container)
    r = st.residents[own]
    kept = r.kept if start_type <= StartType.MEMORY else 0
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
    on_gpu, demoted = gpu_of_the_run(st, function, gpu, gpu_before)
    released += demoted
    r.gpu_state = HELD if on_gpu else ABSENT
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
def dispatch(st: ClusterState, mode: int, node: int, function: int, request: int, ordinal: int) -> None:
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
            evict(st, node, st.functions[function].container_mb)
            container = create(st, function, node)
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
    row.opening_key = NO_KEY
    take_decision(st, function, decision, priority, decision, priority)
    if again_us == NEVER:
        row.timer_key = NO_KEY
    else:
        if decision == LEAVE and opens_for_nothing(st, function):
            closes_us = window_end_us(st, function)
            if again_us < closes_us:
                row.opening_key = timer_key(s.now_us + again_us, TIMER, function)
                again_us = closes_us
        set_timer(st, function, s.now_us + again_us)


@inner
def settle_and_apply(st: ClusterState, to_apply: int, gpu_step: bool) -> None:
    """What an event leaves to do: re-place what was lost, hand out freed GPU memory, act on the decision about f.

    Three rules (settle, replace, apply) in one function, since placing is large and so has to be compiled once.

    Args:
        st: the state.
        to_apply: the function f, or -1.
        gpu_step: also try to bring held copies of f onto their GPUs.
    """
    s = st.cluster[0]
    alone = s.scope == Scope.WORKER
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
            if node >= 0 and s.packing in (Packing.SINGLE, Packing.OWN):
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
        offload_all(st, to_apply)
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
    if s.after_run == AfterRun.KEEP:
        st.residents[own].kept = 1
    else:
        released = free(st, own)
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
    r.loaded_us = s.now_us
    s.ended_load_us += s.now_us - r.command_us
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
    free(st, resident)
    if st.containers[container].owner == function:
        enter_warm(st, container)


@apart
def handle(st: ClusterState, kind: int, entity: int, request: int) -> None:
    """One event: change the state, and leave commands for the backend (``docs/engine.md``, 6).

    Args:
        st: the state; ``cluster.now_us`` is the time of the event.
        kind: an ``Event``.
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
        elif s.copies > 1 or s.kernel == Kernel.GREEDY_DUAL:
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
        if free(st, entity) > 0:
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
        dispatch(st, mode, node, function, request, ordinal)
    if idle >= 0 and st.containers[idle].state == IDLE and st.containers[idle].rank == rank:
        if keep_us == 0:
            s.expiries += 1
            to_remove = idle
        else:
            if keep_us != FOREVER:
                set_expiry(st, idle, s.now_us + keep_us)
            to_fill = idle
            if kind == FINISH and s.after_run == AfterRun.RELOAD and s.preloads != 0:
                load(st, st.containers[idle].owner, idle)
    if to_remove >= 0:
        remove(st, to_remove)
    if s.preloads != 0:
        if to_fill >= 0:
            fill(st, to_fill)
        settle_and_apply(st, to_apply, gpu_step)
        if kind == PRIORITIES and s.gpus > 0:
            try_gpus(st)
