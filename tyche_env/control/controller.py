"""The Controller: what happens at each event (``docs/engine.md``, 5 and 6).

One handler an event.  A handler changes the state at once and appends commands; whoever hosts the core (the simulator's
loop, the real backend's task) carries them out and reports back with later events.
"""

from __future__ import annotations

from tyche_env.control.arrivals import record_arrival, walk
from tyche_env.control.compiled import inner
from tyche_env.control.kernels import NO_TIMER, ask
from tyche_env.control.ledger import (
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
    LOADING,
    OFFLOAD,
    add_busy,
    become_idle,
    command,
    copies,
    demote,
    density,
    enter_category,
    enter_models,
    enter_warm,
    free_resident,
    gpu_density,
    leave_category,
    leave_idle,
    leave_models,
    make_room,
    new_container,
    new_resident,
    note_freed,
    note_lost,
    refresh_candidate,
    remove_container,
    reserve,
    reserve_gpu,
    set_expiry,
    set_timer,
)
from tyche_env.control.packing import fill, gpu_try, load, next_gpu_victim, offload, place, promote
from tyche_env.control.queue import NO_KEY
from tyche_env.control.routing import OVERFLOWED, has_room, route, select
from tyche_env.prewarm import histogram, keep_alive
from tyche_env.state import ClusterState

GPU, MEMORY, MET_LOAD, WARM, COLD = 0, 1, 2, 3, 4
KEEP, RELOAD = 0, 1
_HISTOGRAM_PREWARM = 1


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
                    note_lost(st, other)
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
    c.owner = function
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
def dispatch(st: ClusterState, function: int, node: int, request: int, ordinal: int) -> None:
    """Serve a request on a node that can: in the best idle container, or in a new one, after evictions if need be."""
    container = select(st, function, node)
    cold = container < 0
    if cold:
        need = st.functions[function].container_mb
        make_room(st, node, need)
        container = new_container(st, function, node)
    start(st, function, container, cold, request, ordinal)


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
    s.queued += 1
    st.functions[function].queued += 1


@inner
def drain_queue(st: ClusterState, node: int) -> None:
    """Serve a node's waiting requests in order, as far as its memory goes."""
    s = st.cluster[0]
    n = st.nodes[node]
    while n.queue_head >= 0:
        slot = n.queue_head
        w = st.waiting[slot]
        if select(st, w.function, node) < 0 and not has_room(st, w.function, node):
            return
        n.queue_head = w.next
        if n.queue_head < 0:
            n.queue_tail = -1
        n.queue_length -= 1
        s.queued -= 1
        st.functions[w.function].queued -= 1
        st.free_waiting[s.waiting_free] = slot
        s.waiting_free += 1
        dispatch(st, w.function, node, w.request, w.ordinal)


# -- decisions ---------------------------------------------------------------------------------------------------------


@inner
def decide(st: ClusterState, function: int) -> None:
    """Ask the policy about f, and when to ask again."""
    row = st.functions[function]
    decision, priority, again_us = ask(st, function)
    row.decision = decision
    row.gpu_decision = decision
    row.priority = priority
    row.gpu_priority = priority
    if again_us == NO_TIMER:
        row.timer_key = NO_KEY
    else:
        set_timer(st, function, st.cluster[0].now_us + again_us)
    refresh_candidate(st, function)


@inner
def apply_decision(st: ClusterState, function: int, gpu_step: bool) -> None:
    """Act on the decision about f: drop its idle copies, or load what is missing."""
    row = st.functions[function]
    if row.decision == OFFLOAD:
        at = row.resident_head
        while at >= 0:
            r = st.residents[at]
            after = r.function_next
            if r.state == HELD and st.containers[r.container].state == IDLE:
                offload(st, at)
            at = after
    elif row.decision == HOLD:
        while copies(st, function) < st.cluster[0].copies:
            if not place(st, function):
                break
        if gpu_step:
            at = row.resident_head
            while at >= 0:
                gpu_try(st, at)
                at = st.residents[at].function_next


@inner
def settle(st: ClusterState) -> None:
    """Re-place what was lost, then hand out the GPU memory that came free."""
    s = st.cluster[0]
    if s.preloads == 0:
        return
    for at in range(s.lost_count):
        function = st.lost[at]
        row = st.functions[function]
        if row.decision != OFFLOAD and row.priority > 0 and copies(st, function) < s.copies:
            place(st, function)
    s.lost_count = 0
    for at in range(s.freed_count):
        promote(st, st.freed[at])
    s.freed_count = 0


# -- handlers: each returns the container to fill afterwards, or -1 ----------------------------------------------------


@inner
def on_arrival(st: ClusterState, function: int, request: int) -> None:
    """A request of f arrives."""
    s = st.cluster[0]
    row = st.functions[function]
    ordinal = row.arrivals
    if s.prewarm == _HISTOGRAM_PREWARM:
        histogram.on_arrival(st, function)
    row.in_flight += 1
    record_arrival(st, function)
    if s.event_mode != 0 and s.preloads != 0:
        decide(st, function)
    node = route(st, function, ordinal)
    if node >= OVERFLOWED:
        enqueue(st, function, node - OVERFLOWED, request, ordinal)
    else:
        dispatch(st, function, node, request, ordinal)


@inner
def on_finish(st: ClusterState, container: int) -> int:
    """The run in a container ends."""
    s = st.cluster[0]
    c = st.containers[container]
    function = c.owner
    f = st.functions[function]
    s.finished += 1
    f.in_flight -= 1
    f.running -= 1
    if s.prewarm == _HISTOGRAM_PREWARM:
        keep_us = histogram.keep_alive_us(st, function)
    else:
        keep_us = keep_alive.keep_alive_us(st)
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
    rank = c.rank
    drain_queue(st, c.node)
    if c.state != IDLE or c.rank != rank:
        return -1
    if keep_us == 0:
        s.expiries += 1
        remove_container(st, container)
        return -1
    set_expiry(st, container, s.now_us + keep_us)
    if s.preloads == 0:
        return -1
    if s.after_run == RELOAD and f.peak_mb <= c.free_mb:
        load(st, function, container)
    return container


@inner
def on_created(st: ClusterState, container: int) -> int:
    """A pre-warmed container is ready."""
    s = st.cluster[0]
    c = st.containers[container]
    become_idle(st, container)
    rank = c.rank
    drain_queue(st, c.node)
    if c.state != IDLE or c.rank != rank:
        return -1
    set_expiry(st, container, s.now_us + c.keep_us)
    return container


@inner
def on_expiry(st: ClusterState, container: int) -> None:
    """An idle container's keep-alive is over."""
    st.cluster[0].expiries += 1
    remove_container(st, container)


@inner
def on_loaded(st: ClusterState, resident: int) -> int:
    """A load, or a transfer to the GPU, is done."""
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
    """A load, or a transfer, failed: its memory is free again; the function stays wanted."""
    r = st.residents[resident]
    container = r.container
    function = r.function
    if r.state == HELD:
        reserve_gpu(st, st.containers[container].gpu, -st.functions[function].gpu_mb)
        r.gpu_state = ABSENT
        return
    free_resident(st, resident)
    if st.containers[container].owner == function:
        enter_warm(st, container)


@inner
def on_offloaded(st: ClusterState, resident: int) -> int:
    """An off-load is done: the memory goes to whoever is worth most."""
    r = st.residents[resident]
    container = r.container
    released = free_resident(st, resident)
    if released > 0:
        note_freed(st, st.containers[container].gpu)
    return container


@inner
def on_prewarm_timer(st: ClusterState, function: int) -> None:
    """Create a container for f ahead of its next request, if it has none and its home node can."""
    row = st.functions[function]
    node = walk(st, function, 0)
    if row.owned_idle > 0 or st.nodes[node].queue_length > 0 or not has_room(st, function, node):
        return
    make_room(st, node, row.container_mb)
    container = new_container(st, function, node)
    c = st.containers[container]
    c.state = CREATING
    c.keep_us = row.prewarm_keep_us
    add_busy(st, node, c.size_mb)
    st.cluster[0].prewarms += 1
    command(st, DO_CREATE, function, container, -1, row.prewarm_count)
    row.prewarm_count += 1


# -- interval mode -----------------------------------------------------------------------------------------------------


@inner
def sift(st: ClusterState, by_gpu: bool, root: int, count: int) -> None:
    """Heap-sort step over ``order``: the function that comes last sits on top."""
    at = root
    while True:
        child = 2 * at + 1
        if child >= count:
            return
        if child + 1 < count and comes_before(st, by_gpu, st.order[child], st.order[child + 1]):
            child += 1
        if not comes_before(st, by_gpu, st.order[at], st.order[child]):
            return
        held = st.order[at]
        st.order[at] = st.order[child]
        st.order[child] = held
        at = child


@inner
def comes_before(st: ClusterState, by_gpu: bool, a: int, b: int) -> bool:
    """Whether a is served before b: the greater density first, the lower index among equals."""
    if by_gpu:
        worth_a = gpu_density(st, a)
        worth_b = gpu_density(st, b)
    else:
        worth_a = st.candidate_density[st.functions[a].slot]
        worth_b = st.candidate_density[st.functions[b].slot]
    return worth_a > worth_b or (worth_a == worth_b and a < b)


@inner
def sort_order(st: ClusterState, by_gpu: bool, count: int) -> None:
    """Sort the first ``count`` functions of ``order`` in place."""
    for root in range(count // 2 - 1, -1, -1):
        sift(st, by_gpu, root, count)
    for end in range(count - 1, 0, -1):
        held = st.order[0]
        st.order[0] = st.order[end]
        st.order[end] = held
        sift(st, by_gpu, 0, end)


@inner
def pack_all(st: ClusterState) -> None:
    """All decisions are new: off-load, place by density, bring models onto GPUs (``docs/engine.md``, priorities set)."""
    s = st.cluster[0]
    for function in range(s.functions):
        row = st.functions[function]
        if row.decision == OFFLOAD:
            apply_decision(st, function, False)
        elif row.gpu_decision == OFFLOAD:
            at = row.resident_head
            while at >= 0:
                r = st.residents[at]
                if r.gpu_state == HELD and r.state == HELD and st.containers[r.container].state == IDLE:
                    demote(st, at)
                at = r.function_next
    count = 0
    for function in range(s.functions):
        if st.candidate_density[st.functions[function].slot] > 0:
            st.order[count] = function
            count += 1
    sort_order(st, False, count)
    for at in range(count):
        function = st.order[at]
        while copies(st, function) < s.copies:
            if not place(st, function):
                break
    if s.gpus == 0:
        return
    count = 0
    for function in range(s.functions):
        row = st.functions[function]
        if row.gpu_decision == HOLD and row.residents > 0 and gpu_density(st, function) > 0:
            st.order[count] = function
            count += 1
    sort_order(st, True, count)
    for at in range(count):
        resident = st.functions[st.order[at]].resident_head
        while resident >= 0:
            gpu_try(st, resident)
            resident = st.residents[resident].function_next
