"""The decision core, one event at a time, for a backend that lives in real time.

The simulator runs the core inside its compiled loop.  A real backend calls the same handler once for each thing that
happens, reads the commands it left in ``state.commands``, and carries them out.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import ARRIVAL, FINISH, OFFLOADED
from tyche_env.control import controller
from tyche_env.control.compiled import outer
from tyche_env.control.controller import handle
from tyche_env.control.handles import handles_of, open_state
from tyche_env.control.interval import take_priorities
from tyche_env.control.packing import offload
from tyche_env.control.queue import (
    ENTITY_BITS,
    ENTITY_MASK,
    KIND_MASK,
    NO_KEY,
    TIME_SHIFT,
)
from tyche_env.control.timers import next_timer_key, take_timer
from tyche_env.state import new_state
from tyche_env.world import FUNCTION_FIELDS, AfterRun, FunctionTable, Kernel, Settings, World

NONE_DUE = -1
"""No timer is due."""


@outer
def on_event(handles: NDArray[np.int64], now_us: int, kind: int, entity: int, request: int) -> int:
    """Tell the core that something happened.

    Args:
        handles: of the state.
        now_us: the time of the event; it may not lie before the last one's.
        kind: an ``Event``: ARRIVAL, FINISH, CREATED, EXPIRY, LOADED, LOAD_FAILED, OFFLOADED, TIMER, PREWARM_TIMER or
            PRIORITIES.
        entity: function (arrival, timers), container (finish, created, expiry) or resident slot (loaded, load failed,
            off-loaded); 0 for priorities.
        request: row of the arrival table, for an arrival.

    Returns:
        Number of commands now in ``state.commands``; -1 if a pool overflowed.
    """
    st = open_state(handles)
    s = st.cluster[0]
    s.now_us = max(s.now_us, now_us)
    s.command_count = 0
    if kind == ARRIVAL:
        s.next_arrival = request + 1
    handle(st, kind, entity, request)
    return -1 if s.overflow != 0 else s.command_count


@outer
def next_timer(handles: NDArray[np.int64], now_us: int) -> tuple[int, int]:
    """Take the core's next due timer off its queue.

    Returns:
        (kind, entity) for :func:`on_event`, or (NONE_DUE, time in us at which to look again; -1 for never).
    """
    st = open_state(handles)
    while True:
        key = next_timer_key(st)
        if key == NO_KEY:
            return NONE_DUE, -1
        if (key >> TIME_SHIFT) > now_us:
            return NONE_DUE, key >> TIME_SHIFT
        if take_timer(st, key):
            return (key >> ENTITY_BITS) & KIND_MASK, key & ENTITY_MASK


@outer
def begin(handles: NDArray[np.int64]) -> None:
    """Time 0."""
    controller.begin(open_state(handles))


@outer
def give_up(handles: NDArray[np.int64], resident: int) -> None:
    """A held resident of an idle container is no longer there: an OFFLOADED event about it is to follow.

    The command to off-load it, which this leaves, is not to be carried out.
    """
    offload(open_state(handles), resident)


@cache
def warm_up() -> None:
    """Compile everything here, or read it from the cache, before a run's time begins; once a process."""
    row = dict.fromkeys(FUNCTION_FIELDS, 1)
    world = World(
        functions=FunctionTable.from_rows([row]),
        node_memory_mb=np.array([1]),
        gpu_node=np.zeros(0, np.int64),
        gpu_memory_mb=np.zeros(0, np.int64),
        arrival_us=np.zeros(1, np.int64),
        arrival_function=np.zeros(1, np.int32),
        arrival_duration_us=np.zeros(0, np.int64),
        score_from_us=0,
        end_us=1,
        settings=Settings(kernel=Kernel.TYCHE, after_run_preloader=AfterRun.KEEP),
    )
    state = new_state(world, features=True)
    handles = handles_of(state)
    take_priorities(handles, np.zeros((1, 2), np.int8), np.zeros((1, 2), np.int64))
    begin(handles)
    on_event(handles, 0, ARRIVAL, 0, 0)
    started = state.commands[0]
    on_event(handles, 1, FINISH, int(started["container"]), 0)
    give_up(handles, int(started["resident"]))
    on_event(handles, 2, OFFLOADED, int(started["resident"]), 0)
    next_timer(handles, 3)
