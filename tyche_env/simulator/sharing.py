"""Contention: jobs share processors, disks and links, and so take longer (``docs/engine.md``, 12).

A resource keeps *virtual* time: the work that a job on it all the time would have got, in units of 2^-10 us.  All jobs
on it run at the same speed, so a job is done when virtual time has grown by its work, and a heap of these times with
one event for the first of them does, however many jobs come and go.

A job is the work in progress of a resident (number: its slot; a load or a transfer) or of a container (number: all
residents + its slot; a run or its creation), one stage after the other.
"""

from __future__ import annotations

from tyche_env.codes import (
    COMPUTING,
    CREATED,
    DO_CREATE,
    DO_KILL,
    DO_LOAD,
    DO_OFFLOAD,
    DO_REMOVE,
    DO_START,
    FINISH,
    INFERENCE,
    LIBRARY,
    LOAD_BEGINS,
    LOADED,
    LOADING,
    OFFLOADED,
    READING,
    RUN_BEGINS,
    STAGES_END,
    TRANSFER,
    WARMING,
    StartType,
)
from tyche_env.control.compiled import apart, inner
from tyche_env.control.queue import NO_KEY, SPARE, key_of, pop, push, sift
from tyche_env.simulator.serving import (
    add_totals,
    begin_row,
    draw_creation,
    draw_load,
    draw_stages,
    draw_transfer,
    end_row,
    is_wanted,
    push_completion,
)
from tyche_env.state import STAGES, ClusterState

BEFORE = -1
CLOSED = -1
"""Earliest key of a resource whose event is being handled: nothing is queued for it meanwhile."""
NOBODY = -1
"""The request that a container is created for ahead of all requests."""
UNIT_SHIFT = 10
"""log2 of ``world.UNITS_PER_US``."""


# -- resources ---------------------------------------------------------------------------------------------------------


@inner
def get_on(st: ClusterState, resource: int) -> None:
    """Bring the virtual time of a resource up to the present."""
    q = st.resources[resource]
    now_us = st.cluster[0].now_us
    units = (now_us - q.updated_us) << UNIT_SHIFT
    q.updated_us = now_us
    if q.jobs > q.capacity:
        units = units * q.capacity // q.jobs
    q.virtual += units


@inner
def expect(st: ClusterState, resource: int) -> None:
    """Let the event of a resource be at the time at which the first of its jobs is done."""
    q = st.resources[resource]
    q.key = next_key(st, resource)
    if q.key < q.queued:
        q.queued = q.key
        push_completion(st, q.key)


@inner
def next_key(st: ClusterState, resource: int) -> int:
    """The key of the time at which the first job of a resource is done, as things are."""
    q = st.resources[resource]
    if q.jobs == 0:
        return int(NO_KEY)
    left = max(0, st.entries[q.first].finish - q.virtual)
    if q.jobs > q.capacity:
        speed = q.capacity << UNIT_SHIFT
        wait_us = (left * q.jobs + speed - 1) // speed
    else:
        wait_us = (left + (1 << UNIT_SHIFT) - 1) >> UNIT_SHIFT
    return key_of(st.cluster[0].now_us + wait_us, STAGES_END, resource)


@inner
def stages_are_due(st: ClusterState, resource: int, key: int) -> bool:
    """Whether the least key of the heap is the one that a resource waits for; then it stays until ``open_again``.

    One that was put off is queued again at its present time.
    """
    s = st.cluster[0]
    q = st.resources[resource]
    wanted = q.key
    if key == q.queued and key == wanted:
        q.queued = CLOSED
        return True
    if key == q.queued and wanted != NO_KEY:
        q.queued = wanted
        sift(st.completions, s.completion_count, wanted)
        return False
    if key == q.queued:
        q.queued = NO_KEY
    pop(st.completions, s.completion_count)
    s.completion_count -= 1
    return False


@inner
def put_entry(st: ClusterState, resource: int, hole: int, finish: int, job: int) -> None:
    """Put a job where an entry of the heap is free, and move others until the heap is in order."""
    q = st.resources[resource]
    first = q.first
    while hole > 0:
        parent = (hole - 1) >> 1
        above = st.entries[first + parent]
        if above.finish <= finish:
            break
        entry = st.entries[first + hole]
        entry.finish = above.finish
        entry.job = above.job
        st.jobs[above.job].place = hole
        hole = parent
    child = 2 * hole + 1
    while child < q.jobs:
        if child + 1 < q.jobs and st.entries[first + child + 1].finish < st.entries[first + child].finish:
            child += 1
        below = st.entries[first + child]
        if below.finish >= finish:
            break
        entry = st.entries[first + hole]
        entry.finish = below.finish
        entry.job = below.job
        st.jobs[below.job].place = hole
        hole = child
        child = 2 * hole + 1
    entry = st.entries[first + hole]
    entry.finish = finish
    entry.job = job
    st.jobs[job].place = hole


@inner
def take_out(st: ClusterState, resource: int, place: int) -> None:
    """Take a job out of the heap of a resource, whose virtual time is up to date."""
    q = st.resources[resource]
    st.jobs[st.entries[q.first + place].job].place = -1
    q.jobs -= 1
    if place < q.jobs:
        last = st.entries[q.first + q.jobs]
        put_entry(st, resource, place, last.finish, last.job)


@inner
def join(st: ClusterState, job: int, resource: int, work_us: int) -> None:
    """A job begins to work on a resource."""
    get_on(st, resource)
    q = st.resources[resource]
    st.jobs[job].resource = resource
    q.jobs += 1
    put_entry(st, resource, q.jobs - 1, q.virtual + (work_us << UNIT_SHIFT), job)
    if q.queued != CLOSED:
        expect(st, resource)


@inner
def on_stages_end(st: ClusterState, resource: int) -> None:
    """The event of a resource: who is done leaves it, and is ready for what follows; then ``open_again`` is due."""
    s = st.cluster[0]
    get_on(st, resource)
    q = st.resources[resource]
    while q.jobs > 0 and st.entries[q.first].finish <= q.virtual:
        st.ready[s.ready_count] = st.entries[q.first].job
        s.ready_count += 1
        take_out(st, resource, 0)


@inner
def open_again(st: ClusterState, resource: int) -> None:
    """The event of a resource is over, and it waits for its next one, whose key replaces the old one in the heap."""
    s = st.cluster[0]
    q = st.resources[resource]
    old = key_of(s.now_us, STAGES_END, resource)
    q.key = next_key(st, resource)
    q.queued = q.key
    if st.completions[0] != old:  # something less came meanwhile; the old key will be found to be nobody's
        if q.key != NO_KEY:
            push_completion(st, q.key)
    elif q.key != NO_KEY:
        sift(st.completions, s.completion_count, q.key)
    else:
        pop(st.completions, s.completion_count)
        s.completion_count -= 1


# -- jobs --------------------------------------------------------------------------------------------------------------


@inner
def new_job(st: ClusterState, job: int, function: int, container: int, resident: int) -> None:
    """A job without work so far."""
    j = st.jobs[job]
    j.stage = BEFORE
    j.function = function
    j.container = container
    j.resident = resident
    j.taken = 0
    j.waits = 0
    for stage in range(STAGES):
        st.job_work[job, stage] = 0


@inner
def begin_load(st: ClusterState, job: int, begin_us: int) -> None:
    """A load or transfer is commanded: it begins then, which may be now."""
    s = st.cluster[0]
    j = st.jobs[job]
    j.next = st.container_jobs[j.container]
    st.container_jobs[j.container] = job
    j.begin_key = key_of(begin_us, LOAD_BEGINS, job)
    if begin_us == s.now_us:
        st.ready[s.ready_count] = -1 - job  # unless it is cancelled in this very event
        s.ready_count += 1
        return
    push_completion(st, j.begin_key)


@inner
def unlist(st: ClusterState, job: int) -> None:
    """Take a load or transfer off the list of its container."""
    j = st.jobs[job]
    if st.container_jobs[j.container] == job:
        st.container_jobs[j.container] = j.next
        return
    at = st.container_jobs[j.container]
    while st.jobs[at].next != job:
        at = st.jobs[at].next
    st.jobs[at].next = j.next


@inner
def cancel_loads(st: ClusterState, container: int, function: int, others: bool) -> int:
    """Cancel loads and transfers in progress in a container.

    Args:
        st: the state.
        container: the container.
        function: f.
        others: cancel all but f's own, else only f's own.

    Returns:
        f's own that goes on, or -1.
    """
    own = -1
    job = st.container_jobs[container]
    while job >= 0:
        j = st.jobs[job]
        after = j.next
        if (j.function == function) == others:
            own = job
        else:
            j.begin_key = NO_KEY
            if j.place >= 0:
                get_on(st, j.resource)
                take_out(st, j.resource, j.place)
                expect(st, j.resource)
            unlist(st, job)
        job = after
    return own


@inner
def resource_of(st: ClusterState, container: int, stage: int) -> int:
    """Where a stage in a container works."""
    s = st.cluster[0]
    c = st.containers[container]
    resource = s.nodes + c.node
    if stage == TRANSFER:
        resource = 2 * s.nodes + c.gpu
    elif stage != READING:
        resource -= s.nodes
    return int(resource)


@inner
def next_stage(st: ClusterState, job: int) -> None:
    """What a job was at has ended: note it, and begin its next stage that takes time, or be done."""
    s = st.cluster[0]
    now_us = s.now_us
    residents = len(st.residents)
    j = st.jobs[job]
    is_load = job < residents
    if not is_load and j.stage == BEFORE:
        j.since_us = now_us
        if j.request != NOBODY:
            r = st.residents[j.resident]
            if j.start_type == StartType.LOADING:
                j.library_us = max(0, r.library_end_us - j.begin_us)
                j.model_us = max(0, r.ready_us - max(j.begin_us, r.library_end_us))
            if j.met_transfer != 0:
                j.transfer_us = max(0, r.ready_us - j.begin_us)
    while True:
        took_us = now_us - j.since_us
        j.since_us = now_us
        if is_load:
            if j.stage == LIBRARY:
                st.residents[job].library_end_us = now_us
        elif j.stage == WARMING:
            j.warming_us += took_us
        elif j.stage == LIBRARY:
            j.library_us += took_us
        elif j.stage == READING or j.stage == COMPUTING:
            j.model_us += took_us
        elif j.stage == TRANSFER:
            j.transfer_us += took_us
        elif j.stage == INFERENCE:
            j.inference_us = took_us
        j.stage += 1
        if j.stage == STAGES:
            break
        if j.stage == INFERENCE and not is_load and j.request != NOBODY and s.features != 0:
            st.rewards[j.function] -= (now_us - st.arrival_us[j.request]) * 1e-6
        work_us = st.job_work[job, j.stage]
        if work_us == 0:
            continue
        if j.stage == INFERENCE and j.on_gpu != 0:
            j.inference_us = work_us
            push_completion(st, key_of(now_us + work_us, FINISH, j.container))
            return
        join(st, job, resource_of(st, j.container, j.stage), work_us)
        return
    kind = FINISH
    entity = j.container
    if is_load:
        unlist(st, job)
        r = st.residents[job]
        r.ready_us = now_us
        if j.taken != 0:
            stop_waiting(st, j.container)
            return
        kind = LOADED
        entity = job
        r.due_key = key_of(now_us, LOADED, job)
    elif j.request == NOBODY:
        kind = CREATED
    if s.instant_count + SPARE >= len(st.instants):
        s.overflow = 1
        return
    push(st.instants, s.instant_count, key_of(now_us, kind, entity))
    s.instant_count += 1


@inner
def stop_waiting(st: ClusterState, container: int) -> None:
    """One of the things is there for which a run waits before it begins."""
    s = st.cluster[0]
    job = len(st.residents) + container
    st.jobs[job].waits -= 1
    if st.jobs[job].waits <= 0:
        st.ready[s.ready_count] = job
        s.ready_count += 1


@inner
def go_on_all(st: ClusterState) -> None:
    """Let every job go on that is ready."""
    s = st.cluster[0]
    at = 0
    while at < s.ready_count:
        job = st.ready[at]
        at += 1
        if job < 0:
            job = -1 - job
            if st.jobs[job].begin_key == NO_KEY:
                continue
            st.jobs[job].begin_key = NO_KEY
        next_stage(st, job)
    s.ready_count = 0


# -- commands and events -----------------------------------------------------------------------------------------------


@inner
def set_model_parts(st: ClusterState, job: int, model_us: int, read_ppm: int) -> None:
    """Split a model stage into reading and computing."""
    reading_us = model_us * read_ppm // 1_000_000
    st.job_work[job, READING] = reading_us
    st.job_work[job, COMPUTING] = model_us - reading_us


@inner
def complete_record(st: ClusterState, container: int) -> None:
    """The run in a container has ended, so its record can be completed."""
    s = st.cluster[0]
    j = st.jobs[len(st.residents) + container]
    if s.record != 0:
        end_row(st, j.row, j.warming_us, j.library_us, j.model_us, j.transfer_us, j.inference_us, s.now_us)
        return
    arrival_us = st.arrival_us[j.request]
    if arrival_us >= s.score_from_us:
        add_totals(
            st,
            j.function,
            j.start_type,
            j.kept,
            j.queue_us,
            j.begin_us - arrival_us - j.queue_us,
            j.warming_us,
            j.library_us,
            j.model_us,
            j.transfer_us,
            s.now_us - arrival_us,
        )


@inner
def begin_run(st: ClusterState, at: int, own: int) -> None:
    """A request starts: it gets a record and a job, which waits for its delay and for a load that it met.

    Args:
        st: the state.
        at: row of the command.
        own: the job of its function's load or transfer that it met in progress, or -1.
    """
    s = st.cluster[0]
    order = st.commands[at]
    warming, library, model, transfer, inference = draw_stages(st, at)
    job = len(st.residents) + order.container
    new_job(st, job, order.function, order.container, order.resident)
    st.job_work[job, WARMING] = warming
    st.job_work[job, LIBRARY] = library
    set_model_parts(st, job, model, st.functions[order.function].read_ppm)
    st.job_work[job, TRANSFER] = transfer
    st.job_work[job, INFERENCE] = inference
    j = st.jobs[job]
    j.warming_us = j.library_us = j.model_us = j.transfer_us = j.inference_us = 0
    j.begin_us = s.now_us + order.delay_us
    j.request = order.request
    j.queue_us = s.now_us - st.arrival_us[order.request]
    j.start_type = order.start_type
    j.met_transfer = order.gpu_before == LOADING
    j.kept = order.kept
    j.on_gpu = order.on_gpu
    if s.record != 0:
        j.row = begin_row(st, at)
    if own >= 0:
        st.jobs[own].taken = 1
        j.waits += 1
    if order.delay_us > 0:
        j.waits += 1
        push_completion(st, key_of(j.begin_us, RUN_BEGINS, order.container))
    if j.waits == 0:
        j.waits = 1
        stop_waiting(st, order.container)


@inner
def carry_out_shared(st: ClusterState) -> None:
    """Carry out the commands of one handler, as ``engine.carry_out``, by jobs."""
    s = st.cluster[0]
    for at in range(s.command_count):
        order = st.commands[at]
        kind = order.kind
        own = -1
        if kind in (DO_START, DO_REMOVE, DO_KILL, DO_OFFLOAD):
            everybody = kind == DO_REMOVE
            own = cancel_loads(st, order.container, -1 if everybody else order.function, everybody or kind == DO_START)
        if kind == DO_START:
            begin_run(st, at, own)
            continue
        wanted = is_wanted(st, at)
        if wanted and kind == DO_OFFLOAD:
            r = st.residents[order.resident]
            r.due_key = key_of(s.now_us + s.offload_us, OFFLOADED, order.resident)
            push_completion(st, r.due_key)
        elif wanted or kind == DO_CREATE:
            job = len(st.residents) + order.container if kind == DO_CREATE else order.resident
            new_job(st, job, order.function, order.container, order.resident)
            if kind == DO_CREATE:
                st.job_work[job, WARMING] = draw_creation(st, at)
                st.jobs[job].request = NOBODY
                stop_waiting(st, order.container)
                continue
            if kind == DO_LOAD:
                library, model = draw_load(st, at)
                st.job_work[job, LIBRARY] = library
                set_model_parts(st, job, model, st.functions[order.function].read_ppm)
            else:
                st.job_work[job, TRANSFER] = draw_transfer(st, at)
            begin_load(st, job, s.now_us + s.command_us)
    s.command_count = 0


@apart
def contend(st: ClusterState, kind: int, entity: int) -> None:
    """What follows an event of the core, or the whole of an event that only this module knows.

    Args:
        st: the state; the core has handled its event and left its commands.
        kind: of the event.
        entity: of the event.
    """
    s = st.cluster[0]
    if kind == STAGES_END:
        on_stages_end(st, entity)
    elif kind == RUN_BEGINS:
        stop_waiting(st, entity)
    elif kind == LOAD_BEGINS:
        st.ready[0] = entity
        s.ready_count = 1
    else:
        if kind == FINISH:
            complete_record(st, entity)
        carry_out_shared(st)
    go_on_all(st)
    if kind == STAGES_END:
        open_again(st, entity)
