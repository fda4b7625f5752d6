"""The engine in plain Python: slow, and as close to the words of ``docs/engine.md`` as code can be.

Nothing is cached or indexed here: sums are taken over lists each time, minima with ``min``, orders with ``sorted``.
The compiled engine is held against this one, so this module shares none of its code; only the world, the draws and
the tables are common.  Method names are those of the page, and ``§`` names its sections.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import (
    AfterRun,
    Category,
    ContainerState,
    Decision,
    Event,
    Isolation,
    Kernel,
    Packing,
    Prewarm,
    ResidentState,
    Routing,
    Scope,
    Stage,
    StartType,
)
from tyche_env.draws import Concern, draw_u64, noisy_us
from tyche_env.simulator.entities import (
    BINS,
    Container,
    Function,
    Gpu,
    Job,
    Node,
    Resident,
    Resource,
    Run,
    Slots,
)
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.tables import ONE_Q20, PROBABILITY, PROBABILITY_FINE, SIZE, TAIL, load_tables
from tyche_env.world import COUNTED_FIELDS, FUNCTION_FIELDS, LONGEST_GAP_US, UNITS_PER_US, IntArray, World

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
MAX_K = 8
"""Largest copy number that has a worth of its own: a copy beyond it is worth as much as this one."""
MINUTE_ORACLE_LIMIT = 64
"""Most arrivals in a minute that MINUTE_ORACLE counts."""
FREQUENCY_LIMIT = 1024
"""Requests that GREEDY_DUAL counts."""
ALWAYS_ON = 2
"""Containers that pre-warming ALWAYS_ON keeps for each function."""
FORECAST_THRESHOLD = 104_858
"""Chance of a request, in 2^-20, from which on ICEBREAKER warms a function."""
RAINBOW_GAPS = 5
"""Gaps that RAINBOWCAKE looks at."""
RAINBOW_QUANTILE_PPM = 1_609_438
RAINBOW_SECONDS_PER_MB = 249


class ReferenceEngine:
    """One run of one world, request by request."""

    def __init__(self, world: World, check: bool = False) -> None:
        """Set the world up and let time 0 happen.

        Args:
            world: what to run.
            check: assert the invariants after every event.

        Raises:
            WorldError: the world is not one that an engine can run.
        """
        self.world = world.validate()
        self.settings = world.settings
        self.check = check
        self.now = 0
        tables = load_tables()
        self._probability: list[int] = tables[PROBABILITY].tolist()
        self._probability_fine: list[int] = tables[PROBABILITY_FINE].tolist()
        self._tail: list[list[int]] = tables[TAIL:].tolist()

        order = world.node_order().tolist()
        home, step = world.home_position().tolist(), world.walk_step().tolist()
        read = [name for name in FUNCTION_FIELDS if name not in COUNTED_FIELDS]
        columns = {name: getattr(world.functions, name).tolist() for name in read}
        count = world.node_count
        self.functions = [
            Function(
                index=f,
                walk=[order[(home[f] + i * step[f]) % count] for i in range(count)],
                **{name: column[f] for name, column in columns.items()},
            )
            for f in range(world.function_count)
        ]
        self.nodes = [Node(n, memory) for n, memory in enumerate(world.node_memory_mb.tolist())]
        for g, (n, memory) in enumerate(zip(world.gpu_node.tolist(), world.gpu_memory_mb.tolist(), strict=True)):
            self.nodes[n].gpus.append(Gpu(g, memory))
        for f in self.functions:
            f.group_size = self.group_size(f)
        self.resources: list[Resource] = []
        if self.settings.contention:
            links = [1] * world.gpu_count
            capacities = [*world.node_cores.tolist(), *world.node_disk_streams.tolist(), *links]
            self.resources = [Resource(index, capacity) for index, capacity in enumerate(capacities)]
        self.forecast: list[list[int]] = world.forecast.tolist()
        self.arrival_us: list[int] = world.arrival_us.tolist()
        self.arrival_function: list[int] = world.arrival_function.tolist()
        self.arrival_duration_us: list[int] = world.arrival_duration_us.tolist()
        self.request_ordinal: list[int] = []
        for time, f in zip(self.arrival_us, self.arrival_function, strict=True):
            upcoming = self.functions[f].upcoming
            self.request_ordinal.append(len(upcoming))
            upcoming.append(time)

        self._containers: dict[int, Container] = {}
        self._residents: dict[int, Resident] = {}
        self._container_slots, self._resident_slots = Slots(), Slots()
        self._rank = 0
        self._stamp = 0
        self._clock = 0
        self._load_clock = 0
        self._lost: list[tuple[Function, Node]] = []
        self._freed: list[Gpu] = []
        self._heap: list[tuple[int, int, int]] = []
        self._pending: dict[tuple[int, int], int] = {}
        self._records: list[tuple[int, ...]] = []
        self._arrived = 0
        self._finished = 0
        self._counts = dict.fromkeys(
            ("loads", "wasted_loads", "wasted_load_us", "transfers", "evictions", "expiries", "created", "prewarms"), 0
        )
        self._integrals = {kind: [0] * count for kind in ("busy", "idle", "preload", "gpu")}
        self._free_integral = [0] * count

        for request, time in enumerate(self.arrival_us):
            self._schedule(time, Event.ARRIVAL, request)
        self.begin()

    def begin(self) -> None:
        """Time 0: timers of the platform, and in event mode the policy is asked once about every function (§6)."""
        for f in self.functions:
            if self.settings.prewarm in (Prewarm.ALWAYS_ON, Prewarm.ICEBREAKER):
                self._schedule(0, Event.PREWARM_TIMER, f.index)
            if self.settings.event_mode and self.settings.preloads:
                self.decide(f)

    # --- what a caller does -----------------------------------------------------------------------------------------

    def advance_until(self, t_us: int) -> None:
        """Handle every event with time <= ``t_us``; time then is ``t_us``.

        Raises:
            ValueError: time would run back.
        """
        if t_us < self.now:
            raise ValueError(f"advance_until: {t_us} us lies before the present, {self.now} us")
        while (event := self._next_event()) is not None and event[0] <= t_us:
            self._handle(event)
        self._pass_time(t_us)

    def drain(self) -> None:
        """Go on, event by event, until the last request has finished; time then is that of its finish."""
        while self._finished < len(self.arrival_us):
            event = self._next_event()
            assert event is not None, "requests wait, and nothing is to happen any more"
            self._handle(event)

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """Interval mode: take new decisions for every function, at the present instant, and act on them (§6).

        Args:
            decision: (F, 2) codes of :class:`~tyche_env.codes.Decision` for memory and GPU.
            priority: (F, 2) priorities in 2^-20, read where the decision is HOLD.

        Raises:
            ValueError: a shape is not (F, 2), or a value is out of range.
        """
        shape = (len(self.functions), 2)
        for name, array, top in (("decision", decision, int(Decision.OFFLOAD)), ("priority", priority, ONE_Q20)):
            if array.shape != shape:
                raise ValueError(f"set_priorities: {name} must have the shape {shape}, got {array.shape}")
            if array.min() < 0 or array.max() > top:
                raise ValueError(f"set_priorities: {name} must lie in 0..{top}")
        self.take_priorities(decision, priority)
        if self.settings.preloads:
            self.pack()
        if self.check:
            self._assert_invariants()

    def ask_all(self) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Ask the kernel for every function at the present instant, without timers.

        Returns:
            (F, 2) decisions and (F, 2) priorities for :meth:`set_priorities`; the columns, memory and GPU, are equal.

        Raises:
            WorldError: there is no rule to ask, since an agent decides.
        """
        self.settings.require_rule()
        rows = [self.ask(f) for f in self.functions]
        decision = np.array([[d, d] for d, _, _ in rows], dtype=np.int8)
        priority = np.array([[p, p] for _, p, _ in rows], dtype=np.int64)
        return decision, priority

    @property
    def log(self) -> NDArray[np.void]:
        """The records so far, of dtype :data:`~tyche_env.simulator.log.LOG_DTYPE`, in the order of the starts."""
        return np.array(self._records, dtype=LOG_DTYPE)

    def counters(self) -> dict[str, int]:
        """The counters of §9 so far."""
        return self._counts | {"load_us": sum(self.loading_us(f) for f in self.functions)}

    def loading_us(self, f: Function) -> int:
        """The time for which loads of f were in progress up to the present (§9)."""
        return f.loading_us

    def integrals(self) -> dict[str, IntArray]:
        """Memory x time by kind (MB us), each (N,) int64, up to the present (§9)."""
        return {kind: np.array(values, dtype=np.int64) for kind, values in self._integrals.items()}

    # --- events (§2) ------------------------------------------------------------------------------------------------

    def _schedule(self, time: int, kind: Event, index: int) -> None:
        """Let an event happen; an entity has at most one of a kind, so an earlier one is replaced."""
        self._pending[kind, index] = time
        heappush(self._heap, (time, kind, index))

    def _cancel(self, kind: Event, index: int) -> None:
        self._pending.pop((kind, index), None)

    def _next_event(self) -> tuple[int, int, int] | None:
        while self._heap:
            time, kind, index = self._heap[0]
            if self._pending.get((kind, index)) == time:
                return time, kind, index
            heappop(self._heap)
        return None

    def _pass_time(self, time: int) -> None:
        assert time >= self.now, "time runs back"
        duration = time - self.now
        if duration > 0:
            for node in self.nodes:
                self._integrals["busy"][node.index] += node.busy_mb * duration
                self._integrals["idle"][node.index] += node.idle_mb * duration
                self._integrals["preload"][node.index] += node.preload_mb * duration
                self._integrals["gpu"][node.index] += node.gpu_mb * duration
                self._free_integral[node.index] += node.free_mb * duration
            for r in self._residents.values():
                if r.state == ResidentState.LOADING:
                    r.function.loading_us += duration
        self.now = time

    def _handle(self, event: tuple[int, int, int]) -> None:
        time, kind, index = event
        heappop(self._heap)
        del self._pending[kind, index]
        self._pass_time(time)
        match kind:
            case Event.ARRIVAL:
                self.on_arrival(index)
            case Event.FINISH:
                self.on_finish(self._containers[index])
            case Event.CREATED:
                self.on_created(self._containers[index])
            case Event.EXPIRY:
                self.on_expiry(self._containers[index])
            case Event.LOADED:
                self.on_loaded(self._residents[index])
            case Event.OFFLOADED:
                self.on_offloaded(self._residents[index])
            case Event.TIMER:
                self.on_timer(self.functions[index])
            case Event.PREWARM_TIMER:
                self.on_prewarm_timer(self.functions[index])
            case Event.STAGES_END:
                self.on_stages_end(self.resources[index])
            case Event.LOAD_BEGINS:
                job = self._residents[index].job
                assert job is not None
                self.next_stage(job)
            case Event.RUN_BEGINS:
                self.on_run_begins(self._containers[index])
        assert not self._lost, "a handler left a lost function unplaced"
        assert not self._freed, "a handler left freed GPU memory unused"
        if self.check:
            self._assert_invariants()

    def settle(self) -> None:
        """Work through ``lost``, then ``freed`` (§2)."""
        for v, node in self._lost:
            self.replace(v, node)
        self._lost.clear()
        for g in self._freed:
            self.promote(g)
        self._freed.clear()

    # --- handlers (§6) ----------------------------------------------------------------------------------------------

    def on_arrival(self, request: int) -> None:
        """A request arrives."""
        f = self.functions[self.arrival_function[request]]
        f.upcoming.popleft()
        self._arrived += 1
        self.before_arrival(f)
        self.record_arrival(f)
        self.after_arrival(f)
        if self.settings.event_mode and self.settings.preloads:
            self.decide(f)
        node = self.route(f)
        if node is None:
            overflow = draw_u64(self.settings.seed, Concern.OVERFLOW, f.index, f.arrivals - 1) % len(self.nodes)
            self.nodes[overflow].queue.append(request)
        else:
            self.dispatch(request, node)
        self.settle()
        if self.settings.event_mode:
            self.apply(f, gpu_step=False)

    def on_finish(self, c: Container) -> None:
        """A request ends, and its container becomes idle."""
        f = c.owner
        self._finished += 1
        c.request = None
        self.complete_record(c)
        keep = self.keep_alive_us(f)
        r = c.resident_of(f)
        assert r is not None
        if self.settings.after_run == AfterRun.KEEP:
            r.kept = True
        else:
            if r.gpu != ResidentState.ABSENT and c.gpu is not None:
                self._freed.append(c.gpu)
            self.free(r)
        self.become_idle(c)
        self.serve_queue(c.node)
        if c.state == ContainerState.IDLE:
            if keep == 0:
                self._counts["expiries"] += 1
                self.remove(c)
            else:
                if keep is not None:
                    self._schedule(self.now + keep, Event.EXPIRY, c.slot)
                if self.settings.after_run == AfterRun.RELOAD and self.settings.preloads:
                    self.load(f, c)
                self.fill(c)
        self.settle()

    def on_created(self, c: Container) -> None:
        """A pre-warmed container is ready."""
        self.become_idle(c)
        self.serve_queue(c.node)
        if c.state == ContainerState.IDLE:
            self._schedule(self.now + c.keep_us, Event.EXPIRY, c.slot)
            self.fill(c)
        self.settle()

    def on_expiry(self, c: Container) -> None:
        """A container's keep-alive ends."""
        if self.outlives(c):
            self.fill(c)
        else:
            self._counts["expiries"] += 1
            self.remove(c)
        self.settle()

    def outlives(self, c: Container) -> bool:
        """Whether a container whose time is over stays, as something less or as it is (§10)."""
        if self.settings.prewarm == Prewarm.RAINBOWCAKE and not c.shared:
            self.peel(c)
            return True
        renewal = self.renewal_us(c.owner)
        if renewal is None:
            return False
        self._schedule(self.now + renewal, Event.EXPIRY, c.slot)
        return True

    def renewal_us(self, f: Function) -> int | None:
        """How long a container of f outlives its keep-alive (§10); None: not at all."""
        if self.settings.prewarm == Prewarm.ALWAYS_ON and len(self.owned(f)) <= ALWAYS_ON:
            return self.settings.keep_alive_us
        if self.settings.prewarm == Prewarm.ICEBREAKER and self.is_expected(f):
            return MINUTE_US
        return None

    def peel(self, c: Container) -> None:
        """RAINBOWCAKE: a container loses its owner's process, and is there for any function of its tenant (§10)."""
        c.shared = True
        r = c.resident_of(c.owner)
        if r is not None:
            if r.gpu != ResidentState.ABSENT and c.gpu is not None:
                self._freed.append(c.gpu)
            self.free(r)
        self._schedule(self.now + MINUTE_US, Event.EXPIRY, c.slot)

    def on_loaded(self, r: Resident) -> None:
        """A load or a transfer ends."""
        c, f = r.container, r.function
        if r.gpu == ResidentState.LOADING:
            r.gpu = ResidentState.HELD
            self.refresh_entry(c, f)
            return
        r.state, r.loaded_us = ResidentState.HELD, self.now
        self.refresh_entry(c, f)
        if f.decision == Decision.OFFLOAD:
            self.offload(r)
        else:
            self.gpu_try(r)
        if f.peak_mb > f.hold_mb:
            self.fill(c)

    def on_offloaded(self, r: Resident) -> None:
        """An off-load ends: its memory is free."""
        c = r.container
        gpu_released = r.gpu != ResidentState.ABSENT
        self.free(r)
        self.fill(c)
        if gpu_released and c.gpu is not None:
            self.promote(c.gpu)

    def on_timer(self, f: Function) -> None:
        """The policy wants to look at f again."""
        self.decide(f)
        self.apply(f, gpu_step=True)

    def on_prewarm_timer(self, f: Function) -> None:
        """The platform creates a container for f ahead of its next request (§7)."""
        node = self.nodes[f.walk[0]]
        if self.settings.prewarm in (Prewarm.ALWAYS_ON, Prewarm.ICEBREAKER):
            self._schedule(self.now + MINUTE_US, Event.PREWARM_TIMER, f.index)
            always = self.settings.prewarm == Prewarm.ALWAYS_ON
            f.prewarm_keep_us = self.settings.keep_alive_us if always else MINUTE_US
        if not self.wants_container(f) or node.queue or not self.has_room(f, node):
            return
        self.evict(f, node)
        c = self.create(f, node, ContainerState.CREATING)
        c.keep_us = f.prewarm_keep_us
        delay = self.noisy(f, f.init_us, Concern.PREWARM_INIT, f.prewarms)
        f.prewarms += 1
        self._counts["prewarms"] += 1
        if self.settings.contention:
            self.next_stage(Job(c, {Stage.WARMING: delay}, lambda: self._schedule(self.now, Event.CREATED, c.slot)))
        else:
            self._schedule(self.now + delay, Event.CREATED, c.slot)
        self.settle()

    def wants_container(self, f: Function) -> bool:
        """Whether a pre-warm timer of f that is due finds f in need of a container (§7, §10)."""
        owned = self.owned(f)
        if self.settings.prewarm == Prewarm.ALWAYS_ON:
            return len(owned) < ALWAYS_ON and self.nodes[f.walk[0]].free_mb >= f.container_mb
        if self.settings.prewarm == Prewarm.ICEBREAKER:
            return not owned and self.is_expected(f)
        return not any(c.state == ContainerState.IDLE for c in owned)

    def owned(self, f: Function) -> list[Container]:
        """The containers that f owns, whatever they do."""
        return [c for c in self._containers.values() if c.owner is f]

    # --- arithmetic (§3) --------------------------------------------------------------------------------------------

    def record_arrival(self, f: Function) -> None:
        """Take the arrival of f at the present into its window, its gaps and its group."""
        f.arrivals += 1
        f.credit = self._load_clock if self.settings.kernel == Kernel.GREEDY_DUAL else 0
        if f.window:
            gap = self.now - f.window[-1]
            f.smoothed_gap_us = self.smooth(f.smoothed_gap_us, gap) if f.gaps_us else gap
            f.gaps_us.append(gap)
            gap_bin = gap // MINUTE_US
            if gap_bin < BINS:
                f.gap_bins[gap_bin] += 1
            else:
                f.gap_oob += 1
        f.window.append(self.now)
        if len(f.window) > self.settings.window:
            f.window.popleft()
        f.group_size = self.group_size(f)

    def smooth(self, smoothed_us: int, gap_us: int) -> int:
        """EWMA's gap after another one (§10)."""
        return smoothed_us + (gap_us - smoothed_us) // 4

    def span_us(self, f: Function) -> int:
        """T_w: from the first to the last arrival in the window."""
        return f.window[-1] - f.window[0]

    def mean_gap_us(self, f: Function) -> int:
        """Mean gap between the arrivals of f."""
        n = len(f.window)
        return self.settings.prior_gap_us if n == 1 else max(1, self.span_us(f) // n)

    def p60(self, gap_us: int) -> int:
        """Probability of an arrival within a minute at a mean gap, in 2^-20."""
        x = (MINUTE_US << 16) // gap_us
        return self._probability_fine[x] if x < SIZE else self._probability[min(SIZE - 1, x >> 8)]

    def density(self, f: Function, k: int) -> int:
        """Worth of the k-th copy of f a MB; the same for each where workers decide (§10)."""
        p = f.priority
        if k > 1 and self.settings.scope == Scope.CENTRAL:
            n = len(f.window)
            span = self.span_us(f) if n >= 2 else 0
            rho = min(SIZE - 1, (f.inference_us * 256 * n) // span) if span else 0
            p = (p * self._tail[min(k, MAX_K) - 2][rho]) >> 20
        return p * (f.library_us + f.model_us) // f.hold_mb + (f.credit if p else 0)

    def gpu_density(self, f: Function) -> int:
        """Worth of f on a GPU a MB."""
        return f.gpu_priority * f.transfer_us // f.gpu_mb if f.gpu_mb else 0

    def copies(self, f: Function) -> int:
        """Copies of f that count as held."""
        return sum(self.copies_on(f, node) for node in self.nodes)

    def copies_on(self, f: Function, node: Node) -> int:
        """Copies of f on a node that count as held (§10)."""
        idle = [r for r in f.residents if r.container.state == ContainerState.IDLE and r.container.node is node]
        count = sum(r.state in (ResidentState.LOADING, ResidentState.HELD) for r in idle)
        if self.settings.busy_counts and self.settings.after_run == AfterRun.KEEP:
            count += sum(c.state == ContainerState.BUSY and c.owner is f for c in node.containers)
        return count

    def copies_seen(self, f: Function, node: Node) -> int:
        """Copies of f that count for whoever decides about a node: its worker, or the controller of all (§10)."""
        return self.copies_on(f, node) if self.settings.scope == Scope.WORKER else self.copies(f)

    def displaces(self, a: int, b: int) -> bool:
        """Whether a density is so much greater than another that it may take its place."""
        h = self.settings.displace_percent
        return h >= 0 and 100 * a > (100 + h) * b

    def noisy(self, f: Function, duration_us: int, concern: Concern, ordinal: int) -> int:
        """How long a stage of f takes."""
        return noisy_us(duration_us, f.sigma_ppm, draw_u64(self.settings.seed, concern, f.index, ordinal))

    # --- nodes and routing (§4) -------------------------------------------------------------------------------------

    def group_size(self, f: Function) -> int:
        """k(f): nodes of the walk that form the group of f."""
        if self.settings.routing == Routing.HASH:
            return 1
        if self.settings.routing in (Routing.FEWEST_BUSY, Routing.FEWEST_BUSY_FIRST):
            return len(self.nodes)
        n = len(f.window)
        demand = (n * f.inference_us * f.container_mb) // max(1, self.span_us(f)) if n >= 2 else 0
        total = 0
        for k, index in enumerate(f.walk, start=1):
            total += self.nodes[index].memory_mb
            if total > demand:
                return k
        return len(self.nodes)

    def group(self, f: Function) -> list[Node]:
        """The nodes on which f is placed, in walk order."""
        return [self.nodes[index] for index in f.walk[: f.group_size]]

    def entries(self, f: Function, node: Node, category: Category) -> list[tuple[int, Container]]:
        """The (stamp, container) of a node that can serve f in a category."""
        found = []
        for c in node.containers:
            entry = c.entries.get(f.index)
            if entry is not None and entry[0] == category:
                found.append((entry[1], c))
        return found

    def select(self, f: Function, node: Node) -> Container | None:
        """The idle container of a node that serves f best."""
        for category in Category:
            found = self.entries(f, node, category)
            if found:
                pick = min if category == Category.LOADING else max
                return pick(found, key=lambda entry: entry[0])[1]
        return self.to_rent(f, node)

    def to_rent(self, f: Function, node: Node) -> Container | None:
        """Pagurus, RainbowCake: the idle container of a node that f may rent, the one idle for longest (§10)."""
        if self.settings.prewarm not in (Prewarm.PAGURUS, Prewarm.RAINBOWCAKE):
            return None
        return next((c for c in node.idle() if self.rentable(c, f)), None)

    def rentable(self, c: Container, f: Function) -> bool:
        """Whether an idle container is shareable, and f may have it."""
        fits = c.size_mb >= f.peak_mb and (self.settings.isolation != Isolation.TENANT or c.tenant == f.tenant)
        if self.settings.prewarm == Prewarm.RAINBOWCAKE:
            return fits and c.shared
        return fits and self.now >= c.idle_since_us + self.settings.keep_alive_us

    def has_room(self, f: Function, node: Node) -> bool:
        """Whether a new container for f fits on a node once its idle containers are gone."""
        return node.busy_mb + f.container_mb <= node.memory_mb

    def can_serve(self, f: Function, node: Node) -> bool:
        """Whether a request of f could be dispatched to a node at once, whatever its queue."""
        return self.select(f, node) is not None or self.has_room(f, node)

    def is_open(self, f: Function, node: Node) -> bool:
        """Whether a node takes a request of f: nobody waits there, and it could be dispatched at once."""
        return not node.queue and self.can_serve(f, node)

    def route(self, f: Function) -> Node | None:
        """The node for a request of f, or None if it must queue."""
        if self.settings.routing in (Routing.FEWEST_BUSY, Routing.FEWEST_BUSY_FIRST):
            return self.fewest_busy(f)
        if self.settings.routing == Routing.RING:
            unqueued = [node for node in self.group(f) if not node.queue]
            for node in unqueued:
                if self.entries(f, node, Category.GPU):
                    return node
            in_memory = [node for node in unqueued if self.entries(f, node, Category.MEMORY)]
            if in_memory:
                return max(in_memory, key=lambda node: node.memory_mb - node.busy_mb)
        for index in f.walk:
            node = self.nodes[index]
            if self.is_open(f, node):
                return node
        return None

    def fewest_busy(self, f: Function) -> Node | None:
        """The node with the fewest runs among those that hold f, else among those that are open (§10)."""
        better_than_warm = (Category.GPU, Category.MEMORY, Category.LOADING)
        order = sorted(f.walk) if self.settings.routing == Routing.FEWEST_BUSY_FIRST else f.walk
        unqueued = [self.nodes[index] for index in order if not self.nodes[index].queue]
        holding = [node for node in unqueued if any(self.entries(f, node, category) for category in better_than_warm)]
        nodes = holding or [node for node in unqueued if self.can_serve(f, node)]
        return min(nodes, key=lambda node: node.runs, default=None)

    # --- serving (§5) -----------------------------------------------------------------------------------------------

    def serve_queue(self, node: Node) -> None:
        """Dispatch from the queue of a node as long as its head can be served (§6, finish (4))."""
        while node.queue and self.can_serve(self.functions[self.arrival_function[node.queue[0]]], node):
            self.dispatch(node.queue.popleft(), node)

    def dispatch(self, request: int, node: Node) -> None:
        """Give a request a container of a node, and start it."""
        f = self.functions[self.arrival_function[request]]
        c = self.select(f, node)
        if c is None:
            self.evict(f, node)
            c = self.create(f, node, ContainerState.BUSY)
        self.start(request, c)

    def evict(self, f: Function, node: Node) -> None:
        """Remove idle containers until a new one of f fits."""
        while node.free_mb < f.container_mb:
            self._counts["evictions"] += 1
            c = self.eviction_victim(node)
            self._clock = c.worth
            self.remove(c)

    def eviction_victim(self, node: Node) -> Container:
        """The container that is removed next: the one that has been idle for longest, or is worth least (§10)."""
        if self.settings.prewarm == Prewarm.FAASCACHE:
            return min(node.idle(), key=lambda c: (c.worth, c.rank))
        return node.idle()[0]

    def container_worth(self, c: Container) -> int:
        """FaasCache: what an idle container is worth, in the clock's units (§10)."""
        f = c.owner
        cost = f.init_us
        if self.settings.after_run == AfterRun.KEEP:
            cost += f.library_us + f.model_us
        return self._clock + f.freq * cost // c.size_mb

    def disown(self, f: Function) -> None:
        """After f lost a container: its starts count anew if that was its last (§10)."""
        if not self.owned(f):
            f.freq = 0

    def create(self, f: Function, node: Node, state: ContainerState) -> Container:
        """A new container for f."""
        gpu = min(node.gpus, key=lambda g: (len(g.containers), g.index)) if node.gpus else None
        c = Container(self._container_slots.take(), node, f.container_mb, f.tenant, f, gpu, state)
        self._containers[c.slot] = c
        node.containers.append(c)
        if gpu is not None:
            gpu.containers.append(c)
        self._counts["created"] += 1
        return c

    def start(self, request: int, c: Container) -> None:
        """Serve a request in a container that is idle, or was created for it."""
        f = self.functions[self.arrival_function[request]]
        ordinal = self.request_ordinal[request]
        was_idle = c.state == ContainerState.IDLE
        c.state = ContainerState.BUSY
        c.request = request
        former, c.owner = c.owner, f
        self.disown(former)
        f.freq += 1
        c.entries.clear()
        self._cancel(Event.EXPIRY, c.slot)

        kills = [r for r in reversed(c.residents) if r.function is not f or r.state == ResidentState.OFFLOADING]
        gpu_released = any(r.gpu != ResidentState.ABSENT for r in kills)
        for r in kills:
            self.free(r)
            if r.function is not f:
                self._lost.append((r.function, c.node))
        t0 = self.now + self.settings.scheduling_us + (self.clear_us() if kills else 0)

        own = c.resident_of(f)
        if own is None:
            start_type = StartType.WARM if was_idle else StartType.COLD
            own = self.allocate(f, c, ResidentState.HELD)
        elif own.state == ResidentState.LOADING:
            start_type = StartType.LOADING
        else:
            start_type = StartType.GPU if own.gpu == ResidentState.HELD else StartType.MEMORY
        self._cancel(Event.LOADED, own.slot)
        met_load, met_transfer = start_type == StartType.LOADING, own.gpu == ResidentState.LOADING
        own.state = ResidentState.HELD
        own.served = True
        gpu_before = own.gpu
        on_gpu, demoted = self.gpu_of_the_run(own)
        own.gpu = ResidentState.HELD if on_gpu else ResidentState.ABSENT

        warming = library = model = transfer = 0
        if start_type == StartType.COLD:
            warming = self.noisy(f, f.init_us, Concern.INIT, ordinal)
        if start_type in (StartType.COLD, StartType.WARM):
            library = self.noisy(f, f.library_us, Concern.LIBRARY, ordinal)
            model = self.noisy(f, f.model_us, Concern.MODEL, ordinal)
        elif start_type == StartType.LOADING:
            library = max(0, own.library_end_us - t0)
            model = max(0, own.load_end_us - max(t0, own.library_end_us))
        if on_gpu:
            if gpu_before == ResidentState.LOADING:
                transfer = max(0, own.transfer_end_us - t0)
            elif gpu_before == ResidentState.ABSENT:
                transfer = self.noisy(f, f.transfer_us, Concern.TRANSFER, ordinal)
        if self.arrival_duration_us:
            inference = self.arrival_duration_us[request]
        else:
            inference = self.noisy(f, f.gpu_inference_us if on_gpu else f.inference_us, Concern.INFERENCE, ordinal)
        end = t0 + warming + library + model + transfer + inference
        if self.settings.contention:
            work = {Stage.WARMING: warming, Stage.INFERENCE: inference}
            if not met_load:
                work |= {Stage.LIBRARY: library} | self.model_parts(f, model)
            if not met_transfer:
                work[Stage.TRANSFER] = transfer
            job = Job(c, work, lambda: self._schedule(self.now, Event.FINISH, c.slot))
            c.run = Run(job, t0, on_gpu, own.job if met_load or met_transfer else None, len(self._records))
            if c.run.met is not None:
                c.run.met.then = lambda: self.begin_run(c)
            if t0 > self.now:
                self._schedule(t0, Event.RUN_BEGINS, c.slot)
            else:
                self.on_run_begins(c)
            warming = library = model = transfer = inference = end = 0
        else:
            self._schedule(end, Event.FINISH, c.slot)
        if (gpu_released or demoted) and c.gpu is not None:
            self._freed.append(c.gpu)

        kept = own.kept and start_type in (StartType.GPU, StartType.MEMORY)
        arrival = self.arrival_us[request]
        # The order of LOG_DTYPE; status 0 is success.
        stages = (self.now - arrival, t0 - self.now, warming, library, model, transfer, inference)
        flags = (int(start_type), int(kept), int(on_gpu), 0)
        self._records.append((request, arrival, *stages, end, f.index, c.node.index, c.slot, *flags))

    def clear_us(self) -> int:
        """What it costs a request to clear other processes out of its container."""
        return self.settings.clear_us

    def gpu_of_the_run(self, own: Resident) -> tuple[bool, bool]:
        """Find GPU memory for a run, demoting idle models if that is enough.

        Returns:
            Whether the run is on the GPU, and whether a model was demoted for it.
        """
        f, g = own.function, own.container.gpu
        if f.gpu_mb == 0 or g is None:
            return False, False
        if own.gpu != ResidentState.ABSENT or g.free_mb >= f.gpu_mb:
            return True, False
        candidates = [r for c in g.containers for r in c.residents if r.demotable]
        if g.free_mb + sum(r.gpu_reserved_mb for r in candidates) < f.gpu_mb:
            return False, False
        for r in sorted(candidates, key=lambda r: (self.gpu_density(r.function), r.slot)):
            if g.free_mb >= f.gpu_mb:
                break
            self.demote(r)
        return True, True

    def become_idle(self, c: Container) -> None:
        """A container becomes IDLE: it gets a rank, and serves what it holds."""
        c.state = ContainerState.IDLE
        c.rank = self._rank
        self._rank += 1
        c.idle_since_us = self.now
        c.shared = False
        c.worth = self.container_worth(c)
        for f in [r.function for r in c.residents] or [c.owner]:
            self.refresh_entry(c, f)

    def refresh_entry(self, c: Container, f: Function) -> None:
        """Bring the entry of f in c in line with §1's definition; a change of category is a new entry."""
        category = self.category(c, f)
        old = c.entries.get(f.index)
        if category is None:
            c.entries.pop(f.index, None)
        elif old is None or old[0] != category:
            c.entries[f.index] = (category, self._stamp)
            self._stamp += 1

    def category(self, c: Container, f: Function) -> Category | None:
        """How a container can serve f at present, if at all."""
        if c.state != ContainerState.IDLE:
            return None
        r = c.resident_of(f)
        if r is not None and r.state == ResidentState.HELD:
            return Category.GPU if r.gpu == ResidentState.HELD else Category.MEMORY
        if r is not None and r.state == ResidentState.LOADING:
            return Category.LOADING
        return Category.WARM if c.owner is f else None

    def allocate(self, f: Function, c: Container, state: ResidentState) -> Resident:
        """A new resident, the newest of its container and of its function."""
        r = Resident(self._resident_slots.take(), f, c, state)
        self._residents[r.slot] = r
        c.residents.append(r)
        f.residents.append(r)
        return r

    # --- contention (§12) -------------------------------------------------------------------------------------------

    def resource_of(self, job: Job, stage: Stage) -> Resource:
        """Where a stage works."""
        node, gpu = job.container.node, job.container.gpu
        if stage == Stage.READING:
            return self.resources[len(self.nodes) + node.index]
        if stage == Stage.TRANSFER:
            assert gpu is not None
            return self.resources[2 * len(self.nodes) + gpu.index]
        return self.resources[node.index]

    def model_parts(self, f: Function, model_us: int) -> dict[Stage, int]:
        """A model stage's reading and computing."""
        reading = model_us * f.read_ppm // 1_000_000
        return {Stage.READING: reading, Stage.COMPUTING: model_us - reading}

    def next_stage(self, job: Job) -> None:
        """Let a job begin its next stage that takes time; after its last, what follows it."""
        job.since_us = self.now
        while job.todo:
            stage = job.todo[0]
            work = job.work_us.get(stage, 0)
            run = job.container.run
            if work and stage == Stage.INFERENCE and run is not None and run.on_gpu:
                job.lasted_us[stage] = work
                self._schedule(self.now + work, Event.FINISH, job.container.slot)
                return
            if work:
                self.join(job, self.resource_of(job, stage), work)
                return
            self._end_stage(job)
        job.then()

    def _end_stage(self, job: Job) -> None:
        stage = job.todo.pop(0)
        job.ended_us[stage] = self.now
        job.lasted_us[stage] = self.now - job.since_us
        job.since_us = self.now

    def join(self, job: Job, q: Resource, work_us: int) -> None:
        """A job begins to work on a resource."""
        q.get_on(self.now)
        job.resource, job.left = q, work_us * UNITS_PER_US
        q.asked += job.left
        q.jobs.append(job)
        self._expect(q)

    def leave(self, job: Job) -> None:
        """A job is done with a resource, or cancelled."""
        q = job.resource
        if q is not None:
            q.get_on(self.now)
            q.asked -= job.left
            q.jobs.remove(job)
            job.resource = None
            self._expect(q)

    def _expect(self, q: Resource) -> None:
        if q.jobs:
            self._schedule(q.next_us(), Event.STAGES_END, q.index)
        else:
            self._cancel(Event.STAGES_END, q.index)

    def on_stages_end(self, q: Resource) -> None:
        """The first jobs of a resource are done with a stage."""
        q.get_on(self.now)
        done = [job for job in q.jobs if job.left <= 0]
        assert done, "nobody is done when somebody should be"
        for job in done:
            assert -job.left < UNITS_PER_US, "a job worked for longer than it had to"
            self.leave(job)
            self._end_stage(job)
        for job in done:
            self.next_stage(job)

    def begin_load(self, r: Resident, work_us: dict[Stage, int]) -> None:
        """Command a load or a transfer: it begins after the command's delay, if there is one."""
        r.job = Job(r.container, work_us, lambda: self._schedule(self.now, Event.LOADED, r.slot), todo=sorted(work_us))
        if self.settings.command_us > 0:
            self._schedule(self.now + self.settings.command_us, Event.LOAD_BEGINS, r.slot)
        else:
            self.next_stage(r.job)

    def cancel_load(self, r: Resident) -> None:
        """The load or transfer of a resident goes no further."""
        if r.job is not None:
            self.leave(r.job)
            r.job = None
        self._cancel(Event.LOAD_BEGINS, r.slot)

    def on_run_begins(self, c: Container) -> None:
        """It is time for a run to begin."""
        assert c.run is not None
        c.run.due = True
        self.begin_run(c)

    def begin_run(self, c: Container) -> None:
        """A run begins, if it is time and what its start met is no longer in progress."""
        run = c.run
        assert run is not None
        met_is_over = run.met is None or not run.met.todo
        if run.due and not run.begun and met_is_over:
            run.begun = True
            self.next_stage(run.job)

    def complete_record(self, c: Container) -> None:
        """A run has ended: enter its stages and its end into its record."""
        run, c.run = c.run, None
        if run is None:
            return
        stages = [run.job.lasted_us[stage] for stage in Stage]
        warming, library, reading, computing, transfer, inference = stages
        model = reading + computing
        if run.met is not None:
            ends = run.met.ended_us
            if Stage.TRANSFER in ends:
                transfer = max(0, ends[Stage.TRANSFER] - run.begin_us)
            else:
                library = max(0, ends[Stage.LIBRARY] - run.begin_us)
                model = max(0, ends[Stage.COMPUTING] - max(run.begin_us, ends[Stage.LIBRARY]))
        record = self._records[run.record]
        queued = record[:4]  # request, arrival, queue, scheduling
        self._records[run.record] = (*queued, warming, library, model, transfer, inference, self.now, *record[10:])

    def free(self, r: Resident) -> None:
        """A resident leaves its container, its GPU and its lists."""
        if r.from_load and not r.served:
            self._counts["wasted_loads"] += 1
            self._counts["wasted_load_us"] += self.waste(r)
        self.cancel_load(r)
        self._cancel(Event.LOADED, r.slot)
        self._cancel(Event.OFFLOADED, r.slot)
        r.state = ResidentState.ABSENT
        r.container.residents.remove(r)
        r.function.residents.remove(r)
        del self._residents[r.slot]
        self._resident_slots.give_back(r.slot)
        self.refresh_entry(r.container, r.function)

    def waste(self, r: Resident) -> int:
        """What of the load of a resident, which is freed unserved, lies in the scored window (§9)."""
        begun_us = max(self.world.score_from_us, r.load_start_us)
        ended_us = self.now if r.loaded_us is None else r.loaded_us
        return ended_us - begun_us if ended_us > begun_us else 0

    def remove(self, c: Container) -> None:
        """A container goes, with everything in it."""
        if c.gpu is not None and any(r.gpu != ResidentState.ABSENT for r in c.residents):
            self._freed.append(c.gpu)
        c.state = ContainerState.UNUSED
        c.entries.clear()
        for r in list(reversed(c.residents)):
            self.free(r)
            self._lost.append((r.function, c.node))
        self._cancel(Event.EXPIRY, c.slot)
        c.node.containers.remove(c)
        if c.gpu is not None:
            c.gpu.containers.remove(c)
        del self._containers[c.slot]
        self._container_slots.give_back(c.slot)
        self.disown(c.owner)

    def demote(self, r: Resident) -> None:
        """A model leaves its GPU and stays in memory."""
        r.gpu = ResidentState.ABSENT
        self.refresh_entry(r.container, r.function)

    # --- the pre-loader (§6) ----------------------------------------------------------------------------------------

    def decide(self, f: Function) -> None:
        """Event mode: ask the kernel for f alone."""
        decision, priority, again_us = self.ask(f)
        self.take_decision(f, decision, priority, decision, priority)
        if again_us is None:
            self._cancel(Event.TIMER, f.index)
        else:
            self._schedule(self.now + again_us, Event.TIMER, f.index)

    def take_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """Interval mode: write new decisions for every function, (F, 2); LEAVE changes no priority."""
        for f in self.functions:
            d, gpu_d = (int(code) for code in decision[f.index])
            p, gpu_p = (int(p) for p in priority[f.index])
            take_p = f.priority if d == Decision.LEAVE else p if d == Decision.HOLD else 0
            take_gpu_p = f.gpu_priority if gpu_d == Decision.LEAVE else gpu_p if gpu_d == Decision.HOLD else 0
            self.take_decision(f, d, take_p, gpu_d, take_gpu_p)

    def take_decision(self, f: Function, decision: int, priority: int, gpu_decision: int, gpu_priority: int) -> None:
        """Take new decisions about f for container memory and GPU."""
        f.decision, f.priority = decision, priority
        f.gpu_decision, f.gpu_priority = gpu_decision, gpu_priority

    def apply(self, f: Function, gpu_step: bool) -> None:
        """Bring the residents of f in line with its decision."""
        if not self.settings.preloads:
            return
        if f.decision == Decision.OFFLOAD:
            self.offload_all(f)
        elif f.decision == Decision.HOLD:
            self.place_all(f)
            if gpu_step:
                for r in list(reversed(f.residents)):
                    self.gpu_try(r)

    def offload_all(self, f: Function) -> None:
        """Off-load what is held of f in idle containers."""
        for r in list(reversed(f.residents)):
            if r.held_idle:
                self.offload(r)

    def place_all(self, f: Function) -> None:
        """Place f until it has its copies, or, where workers decide, once (§10)."""
        if self.settings.scope == Scope.WORKER:
            self.place(f)
            return
        while self.copies(f) < self.settings.copies and self.place(f):
            pass

    def pack(self) -> None:
        """Interval mode: bring all residents in line with the decisions, GPUs last (§6)."""
        for f in self.functions:
            if f.decision == Decision.OFFLOAD:
                self.offload_all(f)
            elif f.gpu_decision == Decision.OFFLOAD:
                for r in list(reversed(f.residents)):
                    if r.demotable:
                        self.demote(r)
        wanted = [
            (-density, f.index)
            for f in self.functions
            if f.decision == Decision.HOLD
            and (self.settings.scope == Scope.WORKER or self.copies(f) < self.settings.copies)
            and (density := self.density(f, self.copies(f) + 1)) > 0
        ]
        for _, index in sorted(wanted):
            self.place_all(self.functions[index])
        wanted = [
            (-self.gpu_density(f), f.index)
            for f in self.functions
            if f.gpu_decision == Decision.HOLD and self.gpu_density(f) > 0
        ]
        for _, index in sorted(wanted):
            for r in list(reversed(self.functions[index].residents)):
                self.gpu_try(r)

    def replace(self, v: Function, node: Node) -> None:
        """Find a new place for a function that lost a resident on a node against its will."""
        if self.settings.packing in (Packing.SINGLE, Packing.OWN):
            return
        if v.decision == Decision.OFFLOAD or v.priority == 0 or self.copies_seen(v, node) >= self.settings.copies:
            return
        if self.settings.scope == Scope.CENTRAL:
            self.place(v)
        elif node in self.group(v):
            self.place_on([node], v)

    def may_host(self, c: Container, f: Function, emptied: bool = False) -> bool:
        """Whether state and isolation let f load in c; ``emptied``: who is in it will be gone."""
        if c.state != ContainerState.IDLE or c.resident_of(f) is not None:
            return False
        if self.settings.isolation == Isolation.STRICT and c.residents and not emptied:
            return False
        return self.settings.isolation != Isolation.TENANT or c.tenant == f.tenant

    def place(self, f: Function) -> bool:
        """Load f once in its group, or, where workers decide, once on each node that lacks a copy (§6, §10).

        Returns:
            Whether a load began.
        """
        if self.settings.scope == Scope.CENTRAL:
            return self.place_on(self.group(f), f)
        lacking = [node for node in self.group(f) if self.copies_on(f, node) < self.settings.copies]
        began = [self.place_on([node], f) for node in lacking]
        return any(began)

    def place_on(self, nodes: list[Node], f: Function) -> bool:
        """Load f into the best container of some nodes, displacing less worthy residents if need be.

        Returns:
            Whether a load began.
        """
        if not self.settings.preloads:
            return False
        d = self.density(f, self.copies(f) + 1)
        if d == 0 or self.settings.packing == Packing.OWN:
            return False
        for node in nodes:
            c = self.fitting_container(f, node)
            if c is not None:
                self.load(f, c)
                return True
        return self.settings.packing != Packing.SINGLE and self.displace_on(nodes, f, d)

    def displace_on(self, nodes: list[Node], f: Function, d: int) -> bool:
        """Load f, of density d, in place of less worthy residents (§6, place (b)).

        Returns:
            Whether a load began.
        """
        if self.settings.displace_percent < 0:
            return False
        for node in nodes:
            offer = self.displaceable_container(f, node, d)
            if offer is not None:
                c, victims = offer
                gpu_released = any(r.gpu != ResidentState.ABSENT for r in victims)
                self.kill_victims(victims)
                self.load(f, c)
                if gpu_released and c.gpu is not None:
                    self.promote(c.gpu)
                return True
        return False

    def fitting_container(self, f: Function, node: Node) -> Container | None:
        """The container of a node that takes f as it is, if there is one."""
        fitting = [c for c in node.containers if self.may_host(c, f) and c.free_mb >= f.peak_mb]
        if self.settings.packing == Packing.SINGLE:
            fitting = [c for c in fitting if not c.residents]
        return self.best_fit(fitting) if fitting else None

    def displaceable_container(self, f: Function, node: Node, d: int) -> tuple[Container, list[Resident]] | None:
        """The container of a node where f, of density d, displaces the least worth, and the residents to free there."""
        offers = []
        for c in reversed(node.idle()):
            if self.may_host(c, f, emptied=True) and (taken := self.take_victims(f, d, c)) is not None:
                offers.append((*taken, c))
        if not offers:
            return None
        _, victims, c = min(offers, key=lambda offer: offer[0])
        return c, victims

    def kill_victims(self, victims: list[Resident]) -> None:
        """Free who is displaced, in the order taken; GREEDY_DUAL's clock follows."""
        self.advance_clock(victims)
        for r in victims:
            self.free(r)

    def advance_clock(self, victims: list[Resident]) -> None:
        """GREEDY_DUAL: whoever comes now is worth more than what is displaced for it (§10)."""
        worths = [self.density(r.function, max(1, self.copies(r.function))) for r in victims]
        self._load_clock = max(self._load_clock, *worths)

    def best_fit(self, fitting: list[Container]) -> Container:
        """The container with the least free memory, or by §10 another, the one idle for least long among equals."""
        match self.settings.packing:
            case Packing.SINGLE:
                return max(fitting, key=lambda c: c.rank)
            case Packing.WORST:
                return max(fitting, key=lambda c: (c.free_mb, c.rank))
            case _:
                return min(fitting, key=lambda c: (c.free_mb, -c.rank))

    def take_victims(self, f: Function, d: int, c: Container) -> tuple[int, list[Resident]] | None:
        """The cost of making room for f in c, and the residents to free for it; None if that is not worth it."""
        strict = self.settings.isolation == Isolation.STRICT
        candidates = []
        for r in c.residents:
            density = self.density(r.function, max(1, self.copies(r.function)))
            if r.state == ResidentState.HELD and self.displaces(d, density):
                candidates.append((density, r.slot, r))
        if strict and len(candidates) < len(c.residents):
            return None
        candidates.sort(key=lambda candidate: candidate[:2])
        room, cost, victims = c.free_mb, 0, list[Resident]()
        for density, _, r in candidates:
            if room >= f.peak_mb and not strict:
                break
            room += r.reserved_mb
            cost += density * r.function.hold_mb
            victims.append(r)
        if room < f.peak_mb or cost >= d * f.hold_mb:
            return None
        return cost, victims

    def fill(self, c: Container) -> None:
        """Use the free memory of an idle container for the most worthy functions."""
        while self.settings.preloads and c.state == ContainerState.IDLE:
            wanted = [
                (-density, f.index)
                for f in self.fillers(c)
                if f.decision == Decision.HOLD
                and self.copies_seen(f, c.node) < self.settings.copies
                and self.may_host(c, f)
                and f.peak_mb <= c.free_mb
                and (density := self.density(f, self.copies(f) + 1)) > 0
            ]
            if not wanted:
                return
            self.load(self.functions[min(wanted)[1]], c)

    def fillers(self, c: Container) -> list[Function]:
        """Functions that an idle container may be filled with: those of its node, or its owner alone (§10)."""
        if self.settings.packing in (Packing.SINGLE, Packing.OWN):
            return [] if c.residents else [c.owner]
        return [f for f in self.functions if c.node in self.group(f)]

    def load(self, f: Function, c: Container) -> None:
        """Command c to load f."""
        r = self.allocate(f, c, ResidentState.LOADING)
        r.from_load = True
        r.load_start_us = self.now
        library = self.noisy(f, f.library_us, Concern.LOAD_LIBRARY, f.loads)
        model = self.noisy(f, f.model_us, Concern.LOAD_MODEL, f.loads)
        r.library_end_us = self.now + self.settings.command_us + library
        r.load_end_us = r.library_end_us + model
        f.loads += 1
        self._counts["loads"] += 1
        if self.settings.contention:
            self.begin_load(r, {Stage.LIBRARY: library} | self.model_parts(f, model))
        else:
            self._schedule(r.load_end_us, Event.LOADED, r.slot)
        self.refresh_entry(c, f)

    def offload(self, r: Resident) -> None:
        """Command r's container to drop it."""
        self.cancel_load(r)
        self._cancel(Event.LOADED, r.slot)
        r.state = ResidentState.OFFLOADING
        self._schedule(self.now + self.settings.offload_us, Event.OFFLOADED, r.slot)
        self.refresh_entry(r.container, r.function)

    def gpu_try(self, r: Resident) -> None:
        """Transfer r to its GPU, demoting less worthy models if need be."""
        f, g = r.function, r.container.gpu
        d = self.gpu_density(f)
        if not r.held_idle or g is None or r.gpu != ResidentState.ABSENT or f.decision == Decision.OFFLOAD or d == 0:
            return
        room, cost, victims = g.free_mb, 0, list[Resident]()
        if room < f.gpu_mb:
            candidates = [
                v
                for c in g.containers
                for v in c.residents
                if v.demotable and self.displaces(d, self.gpu_density(v.function))
            ]
            for v in sorted(candidates, key=lambda v: (self.gpu_density(v.function), v.slot)):
                if room >= f.gpu_mb:
                    break
                room += v.gpu_reserved_mb
                cost += self.gpu_density(v.function) * v.function.gpu_mb
                victims.append(v)
            if room < f.gpu_mb or cost >= d * f.gpu_mb:
                return
        for v in victims:
            self.demote(v)
        self.transfer(r)

    def promote(self, g: Gpu) -> None:
        """Use the free memory of a GPU for the most worthy models that its containers hold in memory."""
        while self.settings.preloads:
            wanted = [
                (-self.gpu_density(r.function), r.slot)
                for c in g.containers
                for r in c.residents
                if r.held_idle
                and r.gpu == ResidentState.ABSENT
                and r.function.decision != Decision.OFFLOAD
                and self.gpu_density(r.function) > 0
                and r.function.gpu_mb <= g.free_mb
            ]
            if not wanted:
                return
            self.transfer(self._residents[min(wanted)[1]])

    def transfer(self, r: Resident) -> None:
        """Command r's container to bring its model to the GPU."""
        f = r.function
        r.gpu = ResidentState.LOADING
        duration = self.noisy(f, f.transfer_us, Concern.LOAD_TRANSFER, f.transfers)
        r.transfer_end_us = self.now + self.settings.command_us + duration
        f.transfers += 1
        self._counts["transfers"] += 1
        if self.settings.contention:
            self.begin_load(r, {Stage.TRANSFER: duration})
        else:
            self._schedule(r.transfer_end_us, Event.LOADED, r.slot)

    # --- pre-warming policies (§7) ----------------------------------------------------------------------------------

    def before_arrival(self, f: Function) -> None:
        """Tell the platform's container policy of an arrival that f's history does not know of yet."""
        if self.settings.prewarm != Prewarm.HISTOGRAM:
            return
        self._cancel(Event.PREWARM_TIMER, f.index)
        if f.in_flight == 0 and f.last_end_us is not None:
            idle_bin = (self.now - f.last_end_us) // MINUTE_US
            if idle_bin < BINS:
                f.idle_bins[idle_bin] += 1
            else:
                f.idle_oob += 1
        f.in_flight += 1

    def after_arrival(self, f: Function) -> None:
        """Tell it of the same arrival, once f's history is up to date (§10)."""
        if self.settings.prewarm == Prewarm.RAINBOWCAKE:
            self.expect_next(f)

    def keep_alive_us(self, f: Function) -> int | None:
        """How long the platform keeps a container of f that has just finished; 0 removes it at once, None never."""
        if self.settings.prewarm == Prewarm.FAASCACHE:
            return None
        if self.settings.prewarm == Prewarm.PAGURUS:
            return 3 * self.settings.keep_alive_us
        if self.settings.prewarm in (Prewarm.KEEP_ALIVE, Prewarm.ALWAYS_ON):
            return self.settings.keep_alive_us
        if self.settings.prewarm == Prewarm.RAINBOWCAKE:
            return f.prewarm_keep_us
        if self.settings.prewarm == Prewarm.ICEBREAKER:
            return MINUTE_US
        return self.histogram_keep_alive_us(f)

    def histogram_keep_alive_us(self, f: Function) -> int:
        """Histogram: until the next request is likely to have come, or pre-warm when one is likely to come (§7)."""
        f.in_flight -= 1
        f.last_end_us = self.now
        total = sum(f.idle_bins)
        squares = sum(count * count for count in f.idle_bins)
        representative = total >= 10 and BINS * squares >= 5 * total**2 and 2 * f.idle_oob <= total + f.idle_oob
        if not representative:
            return BINS * MINUTE_US
        b5, b99 = self.percentile_bin(f, 5), self.percentile_bin(f, 99)
        before = b5 * MINUTE_US * 9 // 10
        tail = (b99 + 1) * MINUTE_US * 11 // 10
        if b5 == 0:
            return tail
        if f.in_flight == 0:
            f.prewarm_keep_us = tail - before
            self._schedule(self.now + before, Event.PREWARM_TIMER, f.index)
        return 0

    def expect_next(self, f: Function) -> None:
        """RAINBOWCAKE: when f's next request is expected, and how long its containers stay its own (§10)."""
        gaps = list(f.gaps_us)[-RAINBOW_GAPS:]
        if not gaps:
            f.prewarm_keep_us = 2 * MINUTE_US
            return
        after = sum(gaps) // (len(gaps) + 1) * RAINBOW_QUANTILE_PPM // 1_000_000
        longest = RAINBOW_SECONDS_PER_MB * (f.library_us + f.model_us) // f.hold_mb
        f.prewarm_keep_us = max(MINUTE_US, min(after, longest))
        self._schedule(self.now + after, Event.PREWARM_TIMER, f.index)

    def is_expected(self, f: Function) -> bool:
        """ICEBREAKER: whether the forecast of the present minute is worth a container (§10)."""
        forecast = self.forecast[f.index]
        return forecast[min(self.now // MINUTE_US, len(forecast) - 1)] >= FORECAST_THRESHOLD

    @staticmethod
    def percentile_bin(f: Function, percent: int) -> int:
        """The first bin whose cumulative count reaches ``percent`` of the total."""
        total, below = sum(f.idle_bins), 0
        for index, count in enumerate(f.idle_bins):
            below += count
            if below * 100 >= percent * total:
                return index
        raise AssertionError("the last bin holds the rest")

    # --- row kernels (§8) -------------------------------------------------------------------------------------------

    def ask(self, f: Function) -> tuple[int, int, int | None]:
        """The policy's (decision, priority, look again after us or never) for f at the present."""
        kernel = self.settings.kernel
        if kernel == Kernel.RANDOM:
            return self.random(f)
        if kernel in (Kernel.ORACLE, Kernel.MINUTE_ORACLE):
            return self.oracle(self.foreseen_gap_us(f, exact=kernel == Kernel.ORACLE))
        if not f.window or kernel in (Kernel.NONE, Kernel.LRU):
            return Decision.LEAVE, 0, None
        if kernel == Kernel.TYCHE or (kernel == Kernel.EWMA and len(f.window) == 1):
            return self.tyche(f, self.gap_seen_us(self.mean_gap_us(f)))
        if kernel == Kernel.EWMA:
            return self.tyche(f, self.gap_seen_us(max(1, f.smoothed_gap_us)))
        if kernel == Kernel.NO_TIMERS:
            return self.no_timers(f)
        if kernel == Kernel.TABLE:
            return self.table(f)
        if kernel == Kernel.GREEDY_DUAL:
            return self.greedy_dual(f)
        if kernel == Kernel.HISTOGRAM and sum(f.gap_bins) + f.gap_oob >= 4:
            return self.histogram(f)
        if kernel == Kernel.EMPIRICAL and len(f.gaps_us) >= 4:
            return self.empirical(f)
        return self.censored(f)

    def gap_seen_us(self, gap_us: int) -> int:
        """The gap as who decides sees it: a worker takes itself to get one request in N (§10)."""
        return min(LONGEST_GAP_US, gap_us * len(self.nodes) if self.settings.scope == Scope.WORKER else gap_us)

    def tyche(self, f: Function, gap: int) -> tuple[int, int, int | None]:
        """TYCHE, and EWMA with a gap of its own: hold while the window is open."""
        age = self.now - f.window[-1]
        load = 0 if len(f.window) == 1 else gap * self.settings.load_ppm // 1_000_000
        off = gap * self.settings.offload_ppm // 1_000_000
        if age < load:
            return Decision.LEAVE, self.p60(gap), load - age
        if age < off:
            return Decision.HOLD, self.p60(gap), off - age
        return Decision.OFFLOAD, 0, None

    def random(self, f: Function) -> tuple[int, int, int | None]:
        """RANDOM: anything, drawn anew every ten seconds."""
        u = draw_u64(self.settings.seed, Concern.POLICY, f.index, f.decisions)
        f.decisions += 1
        decision = (Decision.OFFLOAD, Decision.LEAVE, Decision.HOLD)[u % 3]
        return decision, u >> 44 if decision == Decision.HOLD else 0, 10 * SECOND_US

    def no_timers(self, f: Function) -> tuple[int, int, int | None]:
        """NO_TIMERS: hold for ever (§10)."""
        return Decision.HOLD, self.p60(self.gap_seen_us(self.mean_gap_us(f))), None

    def greedy_dual(self, f: Function) -> tuple[int, int, int | None]:
        """GREEDY_DUAL: hold for ever, by how often f was requested (§10)."""
        return Decision.HOLD, min(FREQUENCY_LIMIT, f.arrivals) << 10, None

    def censored(self, f: Function) -> tuple[int, int, int | None]:
        """CENSORED: hold, by the mean gap that ends now."""
        n, open_span, age = len(f.window), self.now - f.window[0], self.now - f.window[-1]
        gap = max(open_span, MINUTE_US) if n == 1 else max(1, open_span // n)
        return Decision.HOLD, self.p60(gap), max(10 * SECOND_US, age // 2)

    def histogram(self, f: Function) -> tuple[int, int, int | None]:
        """HISTOGRAM: hold, by the gaps of whole minutes that outlasted the present one."""
        age = self.now - f.window[-1]
        b = age // MINUTE_US
        survivors = sum(f.gap_bins[b:]) + f.gap_oob
        if b >= BINS or survivors == 0:
            return Decision.OFFLOAD, 0, None
        hits = sum(f.gap_bins[b : b + 2])
        return Decision.HOLD, min(ONE_Q20, (hits << 20) // survivors), (b + 1) * MINUTE_US - age

    def empirical(self, f: Function) -> tuple[int, int, int | None]:
        """EMPIRICAL: hold, by the last gaps that outlasted the present one (§10)."""
        age = self.now - f.window[-1]
        longer = sum(gap > age for gap in f.gaps_us)
        if longer == 0:
            return Decision.HOLD, self.p60(max(1, age)), max(10 * SECOND_US, age // 2)
        hits = sum(age < gap <= age + MINUTE_US for gap in f.gaps_us)
        return Decision.HOLD, (hits << 20) // longer, max(5 * SECOND_US, age // 4)

    def table(self, f: Function) -> tuple[int, int, int | None]:
        """TABLE: what the forecast says of this minute (§10)."""
        minute = self.now // MINUTE_US
        forecast = self.forecast[f.index]
        p = forecast[min(minute, len(forecast) - 1)]
        return Decision.HOLD if p else Decision.LEAVE, p, (minute + 1) * MINUTE_US - self.now

    def oracle(self, gap_us: int | None) -> tuple[int, int, int | None]:
        """The oracles: hold what comes after a known gap, None being never."""
        if gap_us is None:
            return Decision.OFFLOAD, 0, None
        return Decision.HOLD, self.p60(max(1, gap_us)), max(SECOND_US, gap_us // 2)

    def foreseen_gap_us(self, f: Function, exact: bool) -> int | None:
        """The oracles: time to the next arrival, exact or as counts a minute tell it; None: there is none."""
        if not f.upcoming:
            return None
        if exact:
            return f.upcoming[0] - self.now
        minute = self.now // MINUTE_US
        next_minute = f.upcoming[0] // MINUTE_US
        count = min(MINUTE_ORACLE_LIMIT, sum(time // MINUTE_US == next_minute for time in f.upcoming))
        if next_minute == minute:
            return ((minute + 1) * MINUTE_US - self.now) // (count + 1)
        return next_minute * MINUTE_US - self.now + MINUTE_US // (count + 1)

    # --- invariants -------------------------------------------------------------------------------------------------

    def _assert_invariants(self) -> None:
        queued = running = 0
        for node in self.nodes:
            queued += len(node.queue)
            assert node.free_mb >= 0, f"node {node.index} is above its memory"
            assert node.busy_mb + node.idle_mb + node.free_mb == node.memory_mb
            kinds = self._integrals["busy"][node.index] + self._integrals["idle"][node.index]
            assert kinds + self._free_integral[node.index] == node.memory_mb * self.now, "memory x time does not add up"
            assert self._integrals["preload"][node.index] <= self._integrals["idle"][node.index]
            for gpu in node.gpus:
                assert gpu.free_mb >= 0, f"GPU {gpu.index} is above its memory"
            for c in node.containers:
                self._assert_container(c)
                running += c.request is not None
        assert self._arrived == self._finished + queued + running, "a request got lost"
        assert sum(len(node.containers) for node in self.nodes) == len(self._containers)
        for q in self.resources:
            assert q.offered - q.rounded <= q.done <= q.offered, f"resource {q.index} did more or less than it could"
            assert q.done == q.asked - sum(job.left for job in q.jobs), f"resource {q.index} lost work"
        time_left = (time >= self.now for time in self._pending.values())
        assert all(time_left), "an event lies in the past"

    def _assert_container(self, c: Container) -> None:
        assert c.free_mb >= 0, f"container {c.slot} is above its memory"
        assert (c.request is not None) == (c.state == ContainerState.BUSY)
        assert len({r.function.index for r in c.residents}) == len(c.residents)
        expires = c.state == ContainerState.IDLE and self.settings.prewarm != Prewarm.FAASCACHE
        assert ((Event.EXPIRY, c.slot) in self._pending) == expires
        if c.state == ContainerState.BUSY:
            assert [r.function for r in c.residents] == [c.owner], "a run shares its container"
        if self.settings.isolation == Isolation.STRICT or self.settings.packing in (Packing.SINGLE, Packing.OWN):
            assert len(c.residents) <= 1
        if self.settings.isolation == Isolation.TENANT:
            assert all(r.function.tenant == c.tenant for r in c.residents)
        expected = {f.index: self.category(c, f) for f in self.functions}
        assert {f: entry[0] for f, entry in c.entries.items()} == {f: k for f, k in expected.items() if k is not None}
