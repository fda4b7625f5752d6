"""The core's own events: when a container expires, a policy is asked again, a container is to be pre-warmed."""

from __future__ import annotations

from tyche_env.codes import EXPIRY, PREWARM_TIMER, TIMER
from tyche_env.control.compiled import inner
from tyche_env.control.queue import (
    ENTITY_BITS,
    ENTITY_MASK,
    KIND_MASK,
    LAST_US,
    NO_KEY,
    key_of,
    pop,
    push,
    sift,
)
from tyche_env.state import ClusterState


@inner
def push_timer(st: ClusterState, key: int) -> None:
    """Queue a key of the core's own."""
    s = st.cluster[0]
    push(st.timers, s.timer_count, key)
    s.timer_count += 1


@inner
def timer_key(time_us: int, kind: int, entity: int) -> int:
    """The key of a timer, or none if it lies beyond the time that keys can say, which no world reaches."""
    if time_us >= LAST_US:
        return NO_KEY
    return key_of(time_us, kind, entity)


@inner
def set_expiry(st: ClusterState, container: int, time_us: int) -> None:
    """Let an idle container expire then."""
    row = st.containers[container]
    row.expiry_key = timer_key(time_us, EXPIRY, container)
    if row.expiry_key < row.expiry_queued:
        row.expiry_queued = row.expiry_key
        push_timer(st, row.expiry_key)


@inner
def set_timer(st: ClusterState, function: int, time_us: int) -> None:
    """Ask the policy about this function again then.

    A function with a key in ``timers`` that wants an earlier one gets it in ``soon``.  That heap stays small, and the
    late key need not be queued anew when the early one has been used: policies look soon after a request, then late.
    """
    s = st.cluster[0]
    row = st.functions[function]
    key = timer_key(time_us, TIMER, function)
    row.timer_key = key
    if key >= row.timer_queued or key >= row.timer_soon:
        return
    if row.timer_queued == NO_KEY:
        row.timer_queued = key
        push_timer(st, key)
    else:
        row.timer_soon = key
        push(st.soon, s.soon_count, key)
        s.soon_count += 1


@inner
def set_prewarm(st: ClusterState, function: int, time_us: int) -> None:
    """Create a container for this function then."""
    row = st.functions[function]
    row.prewarm_key = timer_key(time_us, PREWARM_TIMER, function)
    if row.prewarm_key < row.prewarm_queued:
        row.prewarm_queued = row.prewarm_key
        push_timer(st, row.prewarm_key)


@inner
def next_timer_key(st: ClusterState) -> int:
    """The least of the core's own keys, or none."""
    s = st.cluster[0]
    late = st.timers[0] if s.timer_count > 0 else NO_KEY
    soon = st.soon[0] if s.soon_count > 0 else NO_KEY
    return min(late, soon)


@inner
def take_timer(st: ClusterState, key: int) -> bool:
    """Take the least of the core's own keys off its heap; returns whether it is the one its entity waits for.

    A key that was put off meanwhile is queued again at its present time; one that was cancelled is forgotten.
    """
    s = st.cluster[0]
    kind = (key >> ENTITY_BITS) & KIND_MASK
    entity = key & ENTITY_MASK
    if s.soon_count > 0 and st.soon[0] == key:
        pop(st.soon, s.soon_count)
        s.soon_count -= 1
        f = st.functions[entity]
        if key != f.timer_soon:
            return False
        f.timer_soon = NO_KEY
        if f.timer_key < f.timer_queued and f.timer_key != key:
            f.timer_queued = f.timer_key
            push_timer(st, f.timer_key)
        return f.timer_key == key
    wanted = NO_KEY
    queued = NO_KEY
    if kind == EXPIRY:
        c = st.containers[entity]
        wanted = c.expiry_key
        queued = c.expiry_queued
        if queued == key:
            c.expiry_queued = NO_KEY if wanted == key else wanted
    elif kind == TIMER:
        f = st.functions[entity]
        wanted = f.timer_key
        queued = f.timer_queued
        if queued == key:
            f.timer_queued = NO_KEY if wanted == key else wanted
    else:
        f = st.functions[entity]
        wanted = f.prewarm_key
        queued = f.prewarm_queued
        if queued == key:
            f.prewarm_queued = NO_KEY if wanted == key else wanted
    if queued == key and wanted != key and wanted != NO_KEY:
        sift(st.timers, s.timer_count, wanted)
        return False
    pop(st.timers, s.timer_count)
    s.timer_count -= 1
    return queued == key and wanted == key
