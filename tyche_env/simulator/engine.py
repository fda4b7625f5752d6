"""The compiled engine: an event loop around the decision core, and nothing that decides.

Arrivals are read straight from the sorted table; completions (a run, a container, a load, an off-load) come from one
heap, the core's own timers from another.  After each handler the loop carries out the commands that the core left.
Under contention the completions are those of single stages (``sharing``), and the core hears of the last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env import accounting
from tyche_env.codes import (
    CREATED,
    DO_CREATE,
    DO_LOAD,
    DO_START,
    DO_TRANSFER,
    FINISH,
    LOAD_BEGINS,
    LOADED,
    LOADING,
    OFFLOADED,
    PRIORITIES,
    STAGES_END,
    StartType,
)
from tyche_env.control import controller
from tyche_env.control.compiled import inner, outer
from tyche_env.control.controller import handle
from tyche_env.control.handles import handles_of, open_state, open_state_at
from tyche_env.control.hooks import check_rules, install
from tyche_env.control.interval import take_priorities
from tyche_env.control.kernels import ask
from tyche_env.control.prefetch import prefetch
from tyche_env.control.queue import (
    ENTITY_BITS,
    ENTITY_MASK,
    KIND_MASK,
    NO_KEY,
    TIME_SHIFT,
    key_of,
    pop,
)
from tyche_env.control.timers import next_timer_key, take_timer
from tyche_env.metrics import totals_from_log
from tyche_env.observe import observe
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
from tyche_env.simulator.sharing import contend, stages_are_due
from tyche_env.state import ClusterState, new_state
from tyche_env.world import FUNCTION_FIELDS, FunctionTable, Kernel, Settings, World

Handles = NDArray[np.int64]

DONE, OVERFLOW, MORE_TIMERS, MORE_SOON, MORE_COMPLETIONS, MORE_WAITING = 0, 1, 2, 3, 4, 5
"""Why the loop returned: the time is reached; a pool overflowed (a bug); a pool or heap is nearly full."""
_GROWING = {
    MORE_TIMERS: ("timers",),
    MORE_SOON: ("soon",),
    MORE_COMPLETIONS: ("completions",),
    MORE_WAITING: ("waiting", "free_waiting"),
}
_TIMER_MARGIN = 8
LARGE = 1_000
"""Functions from which on their rows, of half a kilobyte, are no longer all near."""
_AHEAD = 3
"""Which request after the present one has its function's rows asked for."""


# -- carrying out commands ---------------------------------------------------------------------------------------------


@inner
def serve(st: ClusterState, at: int, until_us: int) -> None:
    """A request starts: draw its stages, log it, and let it finish (``docs/engine.md``, 5, stages)."""
    s = st.cluster[0]
    order = st.commands[at]
    r = st.residents[order.resident]
    function, kind = order.function, order.start_type
    arrival_us = st.arrival_us[order.request]
    begin_us = s.now_us + order.delay_us
    warming, library, model, transfer, inference = draw_stages(st, at)
    if kind == StartType.LOADING:
        library = max(0, r.library_end_us - begin_us)
        model = max(0, r.ready_us - max(begin_us, r.library_end_us))
    if order.on_gpu == 1 and order.gpu_before == LOADING:
        transfer = max(0, r.ready_us - begin_us)
    loading = warming + library + model + transfer
    inference_start_us = begin_us + loading
    end_us = inference_start_us + inference
    push_completion(st, key_of(end_us, FINISH, order.container))

    if s.features == 0:
        pass
    elif inference_start_us <= until_us:
        st.rewards[function] -= (inference_start_us - arrival_us) * 1e-6
    else:
        p = st.pending[s.pending_count]
        p.inference_start_us = inference_start_us
        p.latency_us = inference_start_us - arrival_us
        p.function = function
        s.pending_count += 1

    if s.record != 0:
        row = begin_row(st, at)
        end_row(st, row, warming, library, model, transfer, inference, end_us)
    elif arrival_us >= s.score_from_us:
        queue_us, delay_us, latency_us = s.now_us - arrival_us, order.delay_us, end_us - arrival_us
        add_totals(st, function, kind, order.kept, queue_us, delay_us, warming, library, model, transfer, latency_us)


@inner
def carry_out(st: ClusterState, until_us: int) -> None:
    """Carry out the commands of one handler; a load, transfer or off-load whose resident is gone again never began."""
    s = st.cluster[0]
    for at in range(s.command_count):
        order = st.commands[at]
        if order.kind == DO_START:
            serve(st, at, until_us)
        elif order.kind == DO_CREATE:
            push_completion(st, key_of(s.now_us + draw_creation(st, at), CREATED, order.container))
        elif is_wanted(st, at):
            r = st.residents[order.resident]
            begin_us = s.now_us + s.command_us
            if order.kind == DO_LOAD:
                library_us, model_us = draw_load(st, at)
                r.library_end_us = begin_us + library_us
                r.ready_us = r.library_end_us + model_us
                r.due_key = key_of(r.ready_us, LOADED, order.resident)
            elif order.kind == DO_TRANSFER:
                r.ready_us = begin_us + draw_transfer(st, at)
                r.due_key = key_of(r.ready_us, LOADED, order.resident)
            else:
                r.due_key = key_of(s.now_us + s.offload_us, OFFLOADED, order.resident)
            push_completion(st, r.due_key)
    s.command_count = 0


# -- the loop ----------------------------------------------------------------------------------------------------------


@inner
def collect_rewards(st: ClusterState, until_us: int) -> None:
    """Move what fell due by now from ``pending`` to ``rewards``."""
    s = st.cluster[0]
    at = 0
    while at < s.pending_count:
        p = st.pending[at]
        if p.inference_start_us <= until_us:
            st.rewards[p.function] -= p.latency_us * 1e-6
            s.pending_count -= 1
            last = st.pending[s.pending_count]
            p.inference_start_us = last.inference_start_us
            p.latency_us = last.latency_us
            p.function = last.function
        else:
            at += 1


@inner
def look_ahead(st: ClusterState, request: int) -> None:
    """Bring near what the arrival of a later request will look at: mostly the first lines of each row."""
    if request < len(st.arrival_function):
        function = np.int64(st.arrival_function[request])
        prefetch(st.functions, function, 8)
        prefetch(st.windows, function, 2)
        if len(st.idle_bins) > 1:
            prefetch(st.idle_bins, function, 2)


@inner
def look_at_next(st: ClusterState) -> None:
    """Bring near what the completion that is due next will look at."""
    key = st.completions[0]
    if (key >> ENTITY_BITS) & KIND_MASK >= LOADED:
        prefetch(st.residents, key & ENTITY_MASK, 2)
    else:
        prefetch(st.containers, key & ENTITY_MASK, 2)


@outer
def begin(handles: Handles) -> None:
    """Time 0."""
    controller.begin(open_state(handles))


@outer
def advance(addresses: NDArray[np.int64], until_us: NDArray[np.int64], drain: bool, first: int) -> tuple[int, int]:
    """Handle every event of some clusters up to and including a time, or, draining, until all requests have finished.

    New priorities are the first event, at the present time.  At the end the rewards that fell due are collected.

    Args:
        addresses: (n,) of the handles of each cluster.
        until_us: (n,) how far each is run.
        drain: whether to go on until every request has finished.
        first: the cluster to begin with.

    Returns:
        n and DONE; or the first cluster that stopped before its time, and why: OVERFLOW, or what there has to be more
        of before it goes on.
    """
    for at in range(first, len(addresses)):
        st = open_state_at(addresses[at])
        s = st.cluster[0]
        s.handles = addresses[at]  # for rules that are called by address, which open the tables again
        end_us = until_us[at]
        limit = ((end_us + 1) << TIME_SHIFT) - 1
        arrivals = len(st.arrival_us)
        contended = s.contention != 0
        large = s.functions >= LARGE
        reserve = len(st.residents) + len(st.containers) + 8
        if contended:
            reserve *= 4
        while True:
            if drain and s.finished == arrivals:
                break
            if s.timer_count + _TIMER_MARGIN > len(st.timers):
                return at, MORE_TIMERS
            if s.soon_count + _TIMER_MARGIN > len(st.soon):
                return at, MORE_SOON
            if s.completion_count + reserve > len(st.completions):
                return at, MORE_COMPLETIONS
            if s.waiting_free == 0 and s.waiting_fresh >= len(st.waiting):
                return at, MORE_WAITING
            arrival_key = NO_KEY
            if s.next_arrival < arrivals:
                arrival_key = st.arrival_us[s.next_arrival] << TIME_SHIFT
            completion_key = st.completions[0] if s.completion_count > 0 else NO_KEY
            at_once = contended and s.instant_count > 0 and st.instants[0] < completion_key
            if at_once:
                completion_key = st.instants[0]
            timer_key = next_timer_key(st)
            key = min(arrival_key, completion_key, timer_key)
            decided = s.new_priorities != 0
            if decided:
                key = key_of(s.now_us, PRIORITIES, 0)
            elif key > limit or key == NO_KEY:
                break
            kind = (key >> ENTITY_BITS) & KIND_MASK
            entity = key & ENTITY_MASK
            request = s.next_arrival
            if decided:
                pass  # in no heap
            elif arrival_key == key:
                entity = np.int64(st.arrival_function[request])
                s.next_arrival += 1
                if large:
                    look_ahead(st, request + _AHEAD)
            elif key == completion_key and kind == STAGES_END:
                if not stages_are_due(st, entity, key):
                    continue
            elif key == completion_key:
                if at_once:
                    pop(st.instants, s.instant_count)
                    s.instant_count -= 1
                else:
                    pop(st.completions, s.completion_count)
                    s.completion_count -= 1
                    if large:
                        look_at_next(st)
                if kind > PRIORITIES:
                    if kind == LOAD_BEGINS:
                        if st.jobs[entity].begin_key != key:
                            continue
                        st.jobs[entity].begin_key = NO_KEY
                elif kind >= LOADED:
                    r = st.residents[entity]
                    if r.due_key != key:
                        continue
                    r.due_key = NO_KEY
            elif not take_timer(st, key):
                continue
            s.now_us = key >> TIME_SHIFT
            if not contended or (kind != STAGES_END and kind <= PRIORITIES):
                handle(st, kind, entity, request)
            else:
                s.events += 1
            if contended:
                contend(st, kind, entity)
            elif s.command_count > 0:
                carry_out(st, end_us)
            if s.overflow != 0:
                return at, OVERFLOW
        if not drain and s.now_us < end_us:
            s.now_us = end_us
        collect_rewards(st, s.now_us if drain else end_us)
    return len(addresses), DONE


@outer
def ask_everything(handles: Handles, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
    """The kernel's present answer for every function, written into both columns."""
    st = open_state(handles)
    for function in range(st.cluster[0].functions):
        answer, p, _ = ask(st, function)
        decision[function, 0] = answer
        decision[function, 1] = answer
        priority[function, 0] = p
        priority[function, 1] = p


# -- the host ----------------------------------------------------------------------------------------------------------


class EngineError(RuntimeError):
    """A pool overflowed: a defect of the engine, never of the input."""


class CompiledEngine:
    """One run of the compiled engine over a world.

    Args:
        world: what happens.
        record: keep a log row for every request.
        features: keep what only observations need.
        validated: whether the world comes from who has looked at it already, as a scenario does.
        spent: an engine that nobody needs any more; its tables are used again where they fit.
    """

    def __init__(
        self,
        world: World,
        record: bool = True,
        features: bool = False,
        *,
        validated: bool = False,
        spent: CompiledEngine | None = None,
    ) -> None:
        self.world = world if validated else world.validate()
        if spent is None or spent.world.rules != world.rules:
            self.use(new_state(world, record, features))
        else:
            before = spent.state, spent.handles
            self.use(new_state(world, record, features, spent.state), before)
        begin(self.handles)

    def __setstate__(self, content: dict[str, Any]) -> None:
        # a copy has tables of its own, so their addresses are its own as well
        self.__dict__.update(content)
        self.use(self.state)

    def use(self, state: ClusterState, spent: tuple[ClusterState, Handles] | None = None) -> None:
        """Go on with other tables, or with the present ones where they are now; ``spent`` as for ``handles_of``."""
        install(state, self.world.rules)
        self.state = state
        self.handles: Handles = handles_of(state, spent)
        self.addresses = np.array([self.handles.ctypes.data])  # one, in the form that run_engines takes
        self._until_us = np.zeros(1, np.int64)

    @property
    def now_us(self) -> int:
        """The engine's clock."""
        return int(self.state.cluster["now_us"][0])

    @property
    def log(self) -> NDArray[Any]:
        """The log so far, in the order of the starts (LOG_DTYPE)."""
        return self.state.log[: int(self.state.cluster["log_count"][0])]

    def advance_until(self, t_us: int) -> None:
        """Handle every event up to and including ``t_us``."""
        self._run(t_us)

    def drain(self) -> None:
        """Go on until every request has finished."""
        self._run(int(NO_KEY >> TIME_SHIFT) - 1, drain=True)

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """Decisions and priorities (2^-20) of all functions, (F, 2): container memory and GPU."""
        take_priorities(self.handles, decision, priority)
        # up to the microsecond before now: what the decisions set off at once waits for the next advance
        self._run(self.now_us - 1)

    def ask_all(self) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """The policy kernel's answer for every function now, in the form of :meth:`set_priorities`.

        Raises:
            WorldError: there is no rule to ask, since an agent decides.
        """
        self.world.settings.require_rule()
        decision = np.zeros((self.world.function_count, 2), np.int8)
        priority = np.zeros((self.world.function_count, 2), np.int64)
        ask_everything(self.handles, decision, priority)
        check_rules()
        return decision, priority

    def counters(self) -> dict[str, int]:
        """Running totals (``docs/engine.md``, 9)."""
        return accounting.counters(self.state)

    def integrals(self) -> dict[str, NDArray[np.int64]]:
        """Memory x time by kind since time 0, in MB us, (N,) each."""
        return accounting.integrals(self.state)

    def _run(self, until_us: int, drain: bool = False) -> None:
        self._until_us[0] = until_us
        run_engines([self], self.addresses, self._until_us, drain)

    def grow(self, code: int) -> None:
        """Double what ``advance`` found nearly full: a heap of events, or the pool of waiting requests.

        Raises:
            EngineError: a pool overflowed that is large enough for all that can be there.
        """
        if code == OVERFLOW:
            raise EngineError("a pool of the engine overflowed; please report the scenario and seed")
        tables = {name: getattr(self.state, name) for name in _GROWING[code]}
        self.use(self.state._replace(**{n: np.concatenate([t, np.zeros_like(t)]) for n, t in tables.items()}))


def run_engines(
    engines: Sequence[CompiledEngine], addresses: NDArray[np.int64], until_us: NDArray[np.int64], drain: bool = False
) -> None:
    """Let engines handle every event up to and including a time of their own, after decisions that are new.

    Args:
        engines: n of them.
        addresses: (n,) of their handles; follows where tables grow.
        until_us: (n,).
        drain: instead go on until every request has finished.

    Raises:
        RuleError: a rule of the user's own has raised an error.
    """
    at = 0
    while True:
        at, code = advance(addresses, until_us, drain, at)
        if code == DONE:
            check_rules()
            return
        engines[at].grow(code)
        addresses[at] = engines[at].addresses[0]


def compile_all() -> None:
    """Load every kernel that Python calls from the cache, or compile it, by running a world of two requests."""
    row = dict.fromkeys(FUNCTION_FIELDS, 1)
    world = World(
        functions=FunctionTable.from_rows([row]),
        node_memory_mb=np.array([1]),
        gpu_node=np.zeros(1, np.int64),
        gpu_memory_mb=np.array([1]),
        arrival_us=np.array([0, 1]),
        arrival_function=np.zeros(2, np.int32),
        arrival_duration_us=np.zeros(0, np.int64),
        score_from_us=0,
        end_us=2,
        settings=Settings(kernel=Kernel.LRU, event_mode=False),
    )
    engine = CompiledEngine(world, features=True)
    engine.set_priorities(*engine.ask_all())
    observe(engine.handles, np.zeros(64, np.float32), 1, 1, 1)
    engine.drain()
    totals_from_log(engine.log, world.functions)
