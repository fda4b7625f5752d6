"""Who sits where: the moves of containers and residents, with every list and counter that follows them.

Nothing here decides; the rules that call these moves live in ``packing``, ``routing`` and ``controller``.
"""

from __future__ import annotations

from tyche_env.codes import (
    ABSENT,
    DO_DEMOTE,
    DO_REMOVE,
    HELD,
    IDLE,
    IN_GPU,
    IN_MEMORY,
    IN_NONE,
    LOADING,
    OFFLOADING,
    UNUSED,
    Prewarm,
)
from tyche_env.control.compiled import inner
from tyche_env.control.queue import NO_KEY
from tyche_env.control.vacancies import note_vacancy
from tyche_env.control.worth import look_at_opening, refresh_candidate
from tyche_env.prewarm.faascache import container_worth, enter_heap, leave_heap
from tyche_env.state import RANK_BITS, ClusterState

NODE_SHIFT = 32
"""Where the node stands in an entry of ``lost``."""

# -- categories: where an idle container can serve a function ----------------------------------------------------------


@inner
def category_head(st: ClusterState, function: int, category: int) -> int:
    """First entry of a function's list, or -1."""
    row = st.functions[function]
    if category == IN_GPU:
        return row.gpu_head
    if category == IN_MEMORY:
        return row.memory_head
    return row.loading_head


@inner
def set_category_head(st: ClusterState, function: int, category: int, resident: int) -> None:
    """Set the first entry of a function's list."""
    row = st.functions[function]
    if category == IN_GPU:
        row.gpu_head = resident
    elif category == IN_MEMORY:
        row.memory_head = resident
    else:
        row.loading_head = resident


@inner
def leave_category(st: ClusterState, resident: int) -> None:
    """Take a resident out of the list it is in, if any."""
    r = st.residents[resident]
    if r.category == IN_NONE:
        return
    before, after = r.category_previous, r.category_next
    if before >= 0:
        st.residents[before].category_next = after
    else:
        set_category_head(st, r.function, r.category, after)
    if after >= 0:
        st.residents[after].category_previous = before
    row = st.functions[r.function]
    if r.category == IN_GPU:
        row.gpu_copies -= 1
    elif r.category == IN_MEMORY:
        row.held_copies -= 1
    else:
        row.loading_copies -= 1
        row.loading_weighted -= st.cluster[0].now_us
    r.category = IN_NONE


@inner
def enter_category(st: ClusterState, resident: int, category: int) -> None:
    """Put a resident of an idle container at the head of its new list: the latest entry."""
    r = st.residents[resident]
    if r.category != IN_NONE:
        leave_category(st, resident)
    if category == IN_MEMORY:
        look_at_opening(st, r.function)
    head = category_head(st, r.function, category)
    r.category_previous = -1
    r.category_next = head
    if head >= 0:
        st.residents[head].category_previous = resident
    set_category_head(st, r.function, category, resident)
    row = st.functions[r.function]
    if category == IN_GPU:
        row.gpu_copies += 1
    elif category == IN_MEMORY:
        row.held_copies += 1
    else:
        row.loading_copies += 1
        row.loading_weighted += st.cluster[0].now_us
    r.category = category


@inner
def leave_warm(st: ClusterState, container: int) -> None:
    """The container is no longer "own warm" for its owner."""
    c = st.containers[container]
    if c.warm == 0:
        return
    before, after = c.warm_previous, c.warm_next
    if before >= 0:
        st.containers[before].warm_next = after
    else:
        st.functions[c.owner].warm_head = after
    if after >= 0:
        st.containers[after].warm_previous = before
    c.warm = 0


@inner
def enter_warm(st: ClusterState, container: int) -> None:
    """The container is "own warm" for its owner: idle, and the owner is not loaded in it."""
    c = st.containers[container]
    owner = st.functions[c.owner]
    c.warm = 1
    c.warm_previous = -1
    c.warm_next = owner.warm_head
    if owner.warm_head >= 0:
        st.containers[owner.warm_head].warm_previous = container
    owner.warm_head = container


# -- models that a GPU could hold: residents held in idle containers bound to it ---------------------------------------


@inner
def enter_models(st: ClusterState, resident: int) -> None:
    """List a held resident of an idle container with its GPU."""
    r = st.residents[resident]
    gpu = st.containers[r.container].gpu
    if gpu < 0 or r.in_models != 0 or st.functions[r.function].gpu_mb == 0:
        return
    head = st.gpus[gpu].model_head
    r.in_models = 1
    r.model_previous = -1
    r.model_next = head
    if head >= 0:
        st.residents[head].model_previous = resident
    st.gpus[gpu].model_head = resident


@inner
def leave_models(st: ClusterState, resident: int) -> None:
    """Take a resident off its GPU's list."""
    r = st.residents[resident]
    if r.in_models == 0:
        return
    before, after = r.model_previous, r.model_next
    if before >= 0:
        st.residents[before].model_next = after
    else:
        st.gpus[st.containers[r.container].gpu].model_head = after
    if after >= 0:
        st.residents[after].model_previous = before
    r.in_models = 0


# -- memory x time -----------------------------------------------------------------------------------------------------


@inner
def add_busy(st: ClusterState, node: int, mb: int) -> None:
    """Memory of busy and creating containers."""
    n = st.nodes[node]
    n.busy_mb += mb
    n.busy_weighted += mb * st.cluster[0].now_us
    note_vacancy(st, node)


@inner
def add_idle(st: ClusterState, node: int, mb: int) -> None:
    """Memory of idle containers."""
    n = st.nodes[node]
    n.idle_mb += mb
    n.idle_weighted += mb * st.cluster[0].now_us


@inner
def add_preload(st: ClusterState, node: int, mb: int) -> None:
    """Memory that residents reserve in idle containers."""
    n = st.nodes[node]
    n.preload_mb += mb
    n.preload_weighted += mb * st.cluster[0].now_us


@inner
def reserve_gpu(st: ClusterState, gpu: int, mb: int) -> None:
    """Reserve (or, negative, release) memory on a GPU."""
    g = st.gpus[gpu]
    g.free_mb -= mb
    n = st.nodes[g.node]
    n.gpu_mb += mb
    n.gpu_weighted += mb * st.cluster[0].now_us


@inner
def reserve(st: ClusterState, container: int, mb: int) -> None:
    """Reserve (or, negative, release) memory inside an idle container."""
    c = st.containers[container]
    c.free_mb -= mb
    note_room(st, container)
    add_preload(st, c.node, mb)


@inner
def note_room(st: ClusterState, container: int) -> None:
    """An idle container is there, or has other free memory than before: ``roomiest_mb`` and ``rooms`` follow."""
    c = st.containers[container]
    n = st.nodes[c.node]
    n.roomiest_mb = max(n.roomiest_mb, c.free_mb)
    if n.listed_at == st.cluster[0].events:
        st.rooms[c.room] = fit_order(c.free_mb, c.rank)


@inner
def fit_order(free_mb: int, rank: int) -> int:
    """What the best fit has least of: the free memory of a container, and among equals that of the latest rank."""
    return (free_mb << RANK_BITS) + (1 << RANK_BITS) - 1 - rank


@inner
def list_rooms(st: ClusterState) -> None:
    """List the idle containers of each node by what the best fit looks at, for this event, which begins many loads."""
    s = st.cluster[0]
    room = 0
    for node in range(s.nodes):
        n = st.nodes[node]
        n.room_first = room
        container = n.idle_head
        while container >= 0:
            c = st.containers[container]
            c.room = room
            st.rooms[room] = fit_order(c.free_mb, c.rank)
            st.room_container[room] = container
            room += 1
            container = c.idle_next
        n.room_end = room
        n.listed_at = s.events


# -- commands ----------------------------------------------------------------------------------------------------------


@inner
def command(st: ClusterState, kind: int, function: int, container: int, resident: int, ordinal: int) -> None:
    """Tell the backend something; a start fills in the rest of its row."""
    s = st.cluster[0]
    if s.command_count >= len(st.commands):
        s.overflow = 1
        return
    row = st.commands[s.command_count]
    row.kind = kind
    row.function = function
    row.container = container
    row.resident = resident
    row.ordinal = ordinal
    s.command_count += 1


@inner
def note_lost(st: ClusterState, function: int, node: int) -> None:
    """Remember a function that lost a resident on a node against its will, or (-1) is to be placed anywhere."""
    s = st.cluster[0]
    if s.preloads == 0:
        return
    if s.lost_count >= len(st.lost):
        s.overflow = 1
        return
    st.lost[s.lost_count] = function + ((node + 1) << NODE_SHIFT)
    s.lost_count += 1


@inner
def note_freed(st: ClusterState, gpu: int) -> None:
    """Remember a GPU on which memory came free."""
    s = st.cluster[0]
    if s.preloads == 0:
        return
    if s.freed_count >= len(st.freed):
        s.overflow = 1
        return
    st.freed[s.freed_count] = gpu
    s.freed_count += 1


# -- residents ---------------------------------------------------------------------------------------------------------


@inner
def allocate(st: ClusterState, function: int, container: int) -> int:
    """A slot for f in c, linked into both lists; state and memory are the caller's."""
    s = st.cluster[0]
    if s.resident_free > 0:
        s.resident_free -= 1
        resident = st.free_residents[s.resident_free]
    else:
        resident = s.resident_fresh
        if resident >= len(st.residents):
            s.overflow = 1
            return 0
        s.resident_fresh += 1
    r = st.residents[resident]
    c = st.containers[container]
    f = st.functions[function]
    r.function = function
    r.container = container
    r.state = ABSENT
    r.gpu_state = ABSENT
    r.category = IN_NONE
    r.in_models = 0
    r.kept = 0
    r.from_load = 0
    r.served = 0
    r.due_key = NO_KEY
    r.container_next = c.resident_head
    c.resident_head = resident
    c.residents += 1
    r.function_previous = -1
    r.function_next = f.resident_head
    if f.resident_head >= 0:
        st.residents[f.resident_head].function_previous = resident
    f.resident_head = resident
    f.residents += 1
    return resident


@inner
def waste(st: ClusterState, resident: int) -> int:
    """How much of the scored window went into the load of a resident that is freed before it served a request."""
    s = st.cluster[0]
    r = st.residents[resident]
    ended_us = s.now_us if r.state == LOADING else r.loaded_us
    return max(0, ended_us - max(r.command_us, s.score_from_us))


@inner
def free(st: ClusterState, resident: int) -> int:
    """End a resident of an idle or a just finished container: lists, memory, counters.

    Returns:
        The GPU memory it released, in MB.
    """
    s = st.cluster[0]
    r = st.residents[resident]
    c = st.containers[r.container]
    f = st.functions[r.function]
    leave_category(st, resident)
    leave_models(st, resident)
    released = 0
    if r.gpu_state != ABSENT:
        released = f.gpu_mb
        reserve_gpu(st, c.gpu, -released)
        r.gpu_state = ABSENT
    if r.state == LOADING:
        s.ended_load_us += s.now_us - r.command_us
    if r.from_load != 0 and r.served == 0:
        s.wasted_loads += 1
        s.wasted_load_us += waste(st, resident)
    mb = f.peak_mb if r.state == LOADING else f.hold_mb
    if c.state == IDLE:
        reserve(st, r.container, -mb)
        if r.state != OFFLOADING:
            f.idle_copies -= 1
    else:
        c.free_mb += mb
    r.state = ABSENT
    r.due_key = NO_KEY
    # unlink from the container's list (short) and the function's
    if c.resident_head == resident:
        c.resident_head = r.container_next
    else:
        at = c.resident_head
        while st.residents[at].container_next != resident:
            at = st.residents[at].container_next
        st.residents[at].container_next = r.container_next
    c.residents -= 1
    if r.function_previous >= 0:
        st.residents[r.function_previous].function_next = r.function_next
    else:
        f.resident_head = r.function_next
    if r.function_next >= 0:
        st.residents[r.function_next].function_previous = r.function_previous
    f.residents -= 1
    st.free_residents[s.resident_free] = resident
    s.resident_free += 1
    refresh_candidate(st, r.function)
    return released


@inner
def resident_of(st: ClusterState, function: int, container: int) -> int:
    """The resident of f in c, or -1."""
    at = st.containers[container].resident_head
    while at >= 0 and st.residents[at].function != function:
        at = st.residents[at].container_next
    return at


# -- ownership ---------------------------------------------------------------------------------------------------------


@inner
def take_ownership(st: ClusterState, container: int, function: int) -> None:
    """The container now follows f: f's keep-alive, f's statistics."""
    c = st.containers[container]
    if c.owner != function:
        disown(st, container)
        st.functions[function].owned += 1
        c.owner = function


@inner
def disown(st: ClusterState, container: int) -> None:
    """Its owner loses the container; how often an owner of nothing was used is forgotten (FaasCache)."""
    owner = st.functions[st.containers[container].owner]
    owner.owned -= 1
    if owner.owned == 0:
        owner.freq = 0


# -- containers --------------------------------------------------------------------------------------------------------


@inner
def create(st: ClusterState, function: int, node: int) -> int:
    """A container for f on n, not yet in any state; its memory leaves the node's free memory."""
    s = st.cluster[0]
    if s.container_free > 0:
        s.container_free -= 1
        container = st.free_containers[s.container_free]
    else:
        container = s.container_fresh
        if container >= len(st.containers):
            s.overflow = 1
            return 0
        s.container_fresh += 1
    c = st.containers[container]
    f = st.functions[function]
    n = st.nodes[node]
    c.size_mb = f.container_mb
    c.free_mb = f.container_mb
    c.node = node
    c.tenant = f.tenant
    c.owner = function
    c.created_for = function
    f.owned += 1
    c.resident_head = -1
    c.residents = 0
    c.warm = 0
    c.expiry_key = NO_KEY
    c.keep_us = 0
    c.gpu = -1
    fewest = 1 << 40
    for gpu in range(n.gpu_first, n.gpu_end):
        if st.gpus[gpu].containers < fewest:
            fewest = st.gpus[gpu].containers
            c.gpu = gpu
    if c.gpu >= 0:
        st.gpus[c.gpu].containers += 1
    n.free_mb -= f.container_mb
    s.created += 1
    return container


@inner
def leave_idle(st: ClusterState, container: int) -> None:
    """Take a container off its node's idle list; its memory's kind is the caller's."""
    c = st.containers[container]
    n = st.nodes[c.node]
    if c.idle_previous >= 0:
        st.containers[c.idle_previous].idle_next = c.idle_next
    else:
        n.idle_head = c.idle_next
    if c.idle_next >= 0:
        st.containers[c.idle_next].idle_previous = c.idle_previous
    else:
        n.idle_tail = c.idle_previous
    add_idle(st, c.node, -c.size_mb)
    st.functions[c.owner].owned_idle -= 1
    leave_warm(st, container)
    c.expiry_key = NO_KEY
    if st.cluster[0].prewarm == Prewarm.FAASCACHE:
        leave_heap(st, container)


@inner
def become_idle(st: ClusterState, container: int) -> None:
    """The container is idle: the youngest of its node's list, and an entry for what it holds."""
    s = st.cluster[0]
    c = st.containers[container]
    n = st.nodes[c.node]
    add_busy(st, c.node, -c.size_mb)
    add_idle(st, c.node, c.size_mb)
    c.state = IDLE
    c.rank = s.rank
    s.rank += 1
    c.idle_since_us = s.now_us
    c.shared = 0
    if s.prewarm == Prewarm.FAASCACHE:
        c.worth = container_worth(st, container)
        enter_heap(st, container)
    c.idle_next = -1
    c.idle_previous = n.idle_tail
    if n.idle_tail >= 0:
        st.containers[n.idle_tail].idle_next = container
    else:
        n.idle_head = container
    n.idle_tail = container
    note_room(st, container)
    st.functions[c.owner].owned_idle += 1
    resident = c.resident_head
    if resident >= 0:  # at most one: the function that just ran
        r = st.residents[resident]
        f = st.functions[r.function]
        add_preload(st, c.node, f.hold_mb)
        f.idle_copies += 1
        enter_category(st, resident, IN_GPU if r.gpu_state == HELD else IN_MEMORY)
        enter_models(st, resident)
    else:
        enter_warm(st, container)


@inner
def remove(st: ClusterState, container: int) -> None:
    """An idle container goes, with all it holds."""
    s = st.cluster[0]
    c = st.containers[container]
    gpu = c.gpu
    released = 0
    while c.resident_head >= 0:
        resident = c.resident_head
        function = st.residents[resident].function
        released += free(st, resident)
        note_lost(st, function, c.node)
    leave_idle(st, container)
    if gpu >= 0:
        st.gpus[gpu].containers -= 1
        if released > 0:
            note_freed(st, gpu)
    st.nodes[c.node].free_mb += c.size_mb
    disown(st, container)
    c.state = UNUSED
    st.free_containers[s.container_free] = container
    s.container_free += 1
    command(st, DO_REMOVE, c.owner, container, -1, 0)


@inner
def evict(st: ClusterState, node: int, mb: int) -> None:
    """Evict idle containers of a node until ``mb`` are free: the longest idle, or FaasCache's least worth, first."""
    s = st.cluster[0]
    n = st.nodes[node]
    while n.free_mb < mb:
        s.evictions += 1
        victim = n.idle_head
        if s.prewarm == Prewarm.FAASCACHE:
            victim = n.worth_head
            s.clock = st.containers[victim].worth
        remove(st, victim)


@inner
def demote(st: ClusterState, resident: int) -> None:
    """A model leaves its GPU and stays in container memory."""
    r = st.residents[resident]
    reserve_gpu(st, st.containers[r.container].gpu, -st.functions[r.function].gpu_mb)
    r.gpu_state = ABSENT
    enter_category(st, resident, IN_MEMORY)
    command(st, DO_DEMOTE, r.function, r.container, resident, 0)
