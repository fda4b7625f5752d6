"""ClusterState: everything the decision core knows, one structured array a table.

The compiled core reads and writes these tables in place, the simulated backend and the real one alike.  Pools have a
fixed size and hand out the slot freed last; slots never used come after, in ascending order (``docs/engine.md``, 1).
Times are int64 microseconds, memory int64 MB, links int32 slots with -1 for "none".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import Stage
from tyche_env.metrics import LATENCY_BINS, TOTALS_DTYPE
from tyche_env.network import HIDDEN, INPUTS
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.tables import ROWS as TABLE_ROWS
from tyche_env.tables import SIZE as TABLE_SIZE
from tyche_env.tables import load_tables
from tyche_env.world import FUNCTION_FIELDS, AfterRun, Kernel, Prewarm, Routing, Scope, Settings, World, WorldError

Records = NDArray[Any]
Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Float64s = NDArray[np.float64]
Float32s = NDArray[np.float32]

NO_KEY = np.int64(2**63 - 1)
"""Event key of "no event"."""

HISTOGRAM_BINS = 240
"""One-minute bins of idle times and of gaps (Shahrad et al., ATC'20: a range of four hours)."""
GAPS = 32
"""Last gaps of a function that its features look at."""
RANK_BITS = 40
"""Bits of an entry of ``rooms`` that tell ranks apart; those above say the free memory."""
LARGEST_CONTAINER_MB = (1 << (62 - RANK_BITS)) - 1
"""The most that they can say."""
MOST_SLOTS = 1 << 17
"""Entities of one kind that an event key can name."""
MANY_CANDIDATES = 256
"""Nodes with more candidates hold tournaments of them (``control.tournament``); fewer are all looked at."""
NEAR_NODES = 16
"""Nodes that a request asks one by one before it looks where there is room (``control.vacancies``)."""
_NOT_IN_ROWS = ("tenant", "hold_mb", "peak_mb", "unserved_us")
"""Columns of the function table that have another type there, or that no engine reads."""
_EVERYWHERE = (Routing.FEWEST_BUSY, Routing.FEWEST_BUSY_FIRST, Routing.OWN)
"""Under these every node is in every function's group, so that all have the same candidates: all functions."""
_PRIVILEGED = (Kernel.ORACLE, Kernel.MINUTE_ORACLE)

CLUSTER_DTYPE = np.dtype(
    [
        (name, np.int64)
        for name in (
            # settings, copied from World.settings
            *("seed", "kernel", "event_mode", "window", "load_ppm", "offload_ppm", "prior_gap_us", "prewarm"),
            *("keep_alive_us", "routing", "isolation", "after_run", "busy_counts", "copies", "displace_percent"),
            *("scheduling_us", "clear_us", "command_us", "offload_us", "preloads", "scope", "packing"),
            *("contention", "keeps_gaps", "unseen_openings"),
            # sizes
            *("functions", "nodes", "gpus", "score_from_us", "record", "features", "clock_us", "demand_mb"),
            # nodes of a walk that are asked one by one; changes for which ``vacancies`` will follow
            *("near_nodes", "vacancies_kept"),
            # clock and counters
            # passed_key: no event that was handled has a greater key
            *("passed_key", "now_us", "next_arrival", "finished", "queued", "stamp", "rank", "wide_count", "events"),
            *("clock", "load_clock"),
            *("loads", "ended_load_us", "wasted_loads", "wasted_load_us"),
            *("transfers", "evictions", "expiries", "created", "prewarms"),
            # pools: fresh = first slot never used, free = slots on the free list
            *("container_fresh", "container_free", "resident_fresh", "resident_free", "waiting_fresh", "waiting_free"),
            # work lists and buffers
            *("lost_count", "freed_count", "command_count", "log_count", "pending_count", "decision_count"),
            # whether there are decisions about all functions that nothing has acted on yet
            "new_priorities",
            *("timer_count", "soon_count", "completion_count", "overflow", "ready_count", "instant_count"),
            # a user's rules: addresses of handles and compiled code, and what a kernel answers besides its decision
            *("handles", "kernel_rule", "arrival_rule", "keep_rule", "route_rule"),
            *("answer_priority", "answer_again_us"),
        )
    ]
)
_SETTINGS = tuple(name for name in CLUSTER_DTYPE.names or () if hasattr(Settings, name))

FUNCTION_DTYPE = np.dtype(
    [
        # written at every request
        *[(name, np.int64) for name in ("last_arrival_us", "first_arrival_us", "gap_us", "arrivals", "priority")],
        *[(name, np.int64) for name in ("gpu_priority", "timer_key", "timer_queued", "timer_soon", "opening_key")],
        # worth per MB of the first copy, and of its GPU memory: what follows from the priorities alone; GREEDY_DUAL's
        # part of it
        *[(name, np.int64) for name in ("first_density", "gpu_density", "credit")],
        *[(name, np.int64) for name in ("hold_mb", "peak_mb", "saved_us")],
        *[(name, np.int32) for name in ("window_count", "window_next", "idle_copies", "running", "group", "slot")],
        *[(name, np.int32) for name in ("gpu_head", "memory_head", "loading_head", "warm_head", "resident_head")],
        # candidates of the same nodes where these hold tournaments, else 0
        ("rivals", np.int32),
        *[(name, np.int32) for name in ("residents", "in_flight", "queued", "owned_idle", "wide", "tenant")],
        *[(name, np.int32) for name in ("home_position", "home_node", "step", "decision", "gpu_decision")],
        *[(name, np.int32) for name in ("gpu_copies", "loading_copies", "held_copies", "gap_count", "gap_next")],
        # loading time, as memory x time of a node: loading_copies x now - loading_weighted
        ("loading_weighted", np.int64),
        # features of observations, kept only where somebody observes
        *[(name, np.float64) for name in ("rate_1min", "rate_10min", "rate_60min", "gap_mean_3", "gap_cov")],
        # profile
        *[(name, np.int64) for name in FUNCTION_FIELDS if name not in _NOT_IN_ROWS],
        # ordinals of draws
        *[(name, np.int64) for name in ("load_count", "transfer_count", "prewarm_count", "decide_count")],
        *[(name, np.int64) for name in ("smooth_gap_us", "freq", "owned")],
        # histogram pre-warming
        *[(name, np.int64) for name in ("prewarm_key", "prewarm_queued", "prewarm_keep_us", "last_end_us")],
        *[(name, np.int64) for name in ("idle_total", "idle_oob", "idle_squares", "gap_total", "gap_oob")],
        # where its percentiles were found last, and how many idle times are shorter
        *[(name, np.int64) for name in ("head_bin", "head_below", "tail_bin", "tail_below")],
        # the bin of gaps that the present age was last seen in, and how many gaps are shorter
        *[(name, np.int32) for name in ("age_bin", "age_below")],
    ]
)

NODE_DTYPE = np.dtype(
    [
        *[(name, np.int64) for name in ("memory_mb", "free_mb", "busy_mb", "idle_mb", "preload_mb", "gpu_mb")],
        # memory x time: level x now - weighted is the integral, exact whatever wraps on the way
        *[(name, np.int64) for name in ("busy_weighted", "idle_weighted", "preload_weighted", "gpu_weighted")],
        *[(name, np.int32) for name in ("idle_head", "idle_tail", "queue_head", "queue_tail", "queue_length")],
        *[(name, np.int32) for name in ("gpu_first", "gpu_end", "candidate_first", "candidate_end")],
        *[(name, np.int32) for name in ("position", "runs", "room_first", "room_end")],
        # candidates where these hold tournaments, else 0; the idle container of least worth (FaasCache)
        *[(name, np.int32) for name in ("rivals", "worth_head", "pad")],
        # no idle container has more free memory; at event least_at, no held model of an idle container was worth less
        *[(name, np.int64) for name in ("roomiest_mb", "least_density", "least_at")],
        # at that event its idle containers are listed in ``rooms``
        ("listed_at", np.int64),
    ]
)

GPU_DTYPE = np.dtype(
    [
        *[(name, np.int64) for name in ("memory_mb", "free_mb")],
        *[(name, np.int32) for name in ("node", "containers", "model_head", "pad")],
    ]
)

CONTAINER_DTYPE = np.dtype(
    [
        *[(name, np.int64) for name in ("size_mb", "free_mb", "rank", "expiry_key", "expiry_queued", "keep_us")],
        *[(name, np.int64) for name in ("worth", "idle_since_us")],
        *[(name, np.int32) for name in ("state", "node", "gpu", "tenant", "owner", "created_for")],
        *[(name, np.int32) for name in ("resident_head", "idle_previous", "idle_next", "warm", "warm_previous")],
        *[(name, np.int32) for name in ("warm_next", "residents", "shared", "room", "pad")],
    ]
)

RESIDENT_DTYPE = np.dtype(
    [
        # due_key: the completion it waits for; library_end_us, ready_us: written by the backend
        *[(name, np.int64) for name in ("due_key", "command_us", "library_end_us", "ready_us", "loaded_us", "density")],
        *[(name, np.int32) for name in ("function", "container", "state", "gpu_state", "category")],
        *[(name, np.int32) for name in ("category_previous", "category_next", "container_next")],
        *[(name, np.int32) for name in ("function_previous", "function_next", "model_previous", "model_next")],
        *[(name, np.int32) for name in ("kept", "from_load", "served")],
        # mark: whether a function that is placed displaces it, density: what it is worth then
        *[(name, np.int16) for name in ("in_models", "mark")],
    ]
)

WAITING_DTYPE = np.dtype([("request", np.int64), ("ordinal", np.int64), ("function", np.int32), ("next", np.int32)])

COMMAND_DTYPE = np.dtype(
    [
        *[(name, np.int64) for name in ("request", "ordinal", "delay_us")],
        *[(name, np.int32) for name in ("kind", "function", "container", "resident", "start_type", "on_gpu")],
        *[(name, np.int32) for name in ("gpu_before", "kept")],
    ]
)

RESOURCE_DTYPE = np.dtype(
    [
        # what jobs share under contention (docs/engine.md, 12): virtual = units of work that a job present all the time
        # has got since time 0; key = the event wanted, queued = the earliest one in the heap; first = of its entries
        *[(name, np.int64) for name in ("capacity", "jobs", "first", "virtual", "updated_us", "key", "queued")],
    ]
)

ENTRY_DTYPE = np.dtype([("finish", np.int64), ("job", np.int64)])
"""A job on a resource, and the virtual time at which it is done."""

JOB_DTYPE = np.dtype(
    [
        # work in progress under contention: of a resident (its slot; loads, transfers) or of a container (residents +
        # its slot; runs, creation)
        *[(name, np.int64) for name in ("begin_key", "since_us", "begin_us", "request", "row", "queue_us")],
        *[(name, np.int64) for name in ("warming_us", "library_us", "model_us", "transfer_us", "inference_us")],
        *[(name, np.int64) for name in ("resource", "place")],
        *[(name, np.int32) for name in ("stage", "next", "function", "container", "resident", "taken", "waits")],
        *[(name, np.int32) for name in ("start_type", "met_transfer", "kept", "on_gpu", "pad")],
    ]
)

STAGES = len(Stage)
"""Stages of a job: warming, library, reading, computing, transfer, inference."""

PENDING_DTYPE = np.dtype([("inference_start_us", np.int64), ("latency_us", np.int64), ("function", np.int64)])
"""Requests whose inference starts later than the engine's clock: their reward falls due then."""


class Sizes(NamedTuple):
    """How many there are, in one world, of what the tables have rows for.

    Attributes:
        functions: F.
        nodes: N.
        gpus: G.
        requests: of the whole window.
        durations: of requests that the trace says them of: all or none.
        window: W, arrivals in a function's sliding window.
        copies: most of a function that the pre-loader wants.
        containers: most that the nodes' memory can hold.
        residents: likewise.
        idle_bins: F where a policy reads histograms of idle times, else 1.
        gap_bins: the same of gaps.
        gaps: F where somebody looks at the last gaps, else 1.
        kin: all containers under FAASCACHE, else 1.
        leaves: nodes that requests look for in ``vacancies``, up to the next power of two; 1 if nobody walks far.
        foreseen: requests that a privileged policy is told: all or none.
        forecast_rows: F where there is a forecast.
        forecast_minutes: likewise.
        weights: of the network.
        kernel_memory: numbers that a user's row kernel remembers of a function.
        prewarm_memory: the same of a user's pre-warming.
        logged: records that the log has room for.
        resources: what jobs share under contention: 2N + G, else 1.
        entries: jobs that all resources have room for, else 1.
        jobs: residents and containers under contention, else 1.
        busy: containers under contention, else 1.
    """

    functions: int
    nodes: int
    gpus: int
    requests: int
    durations: int
    window: int
    copies: int
    containers: int
    residents: int
    idle_bins: int
    gap_bins: int
    gaps: int
    kin: int
    leaves: int
    foreseen: int
    forecast_rows: int
    forecast_minutes: int
    weights: int
    kernel_memory: int
    prewarm_memory: int
    logged: int
    resources: int
    entries: int
    jobs: int
    busy: int


class Table(NamedTuple):
    """What one table of :class:`ClusterState` is.

    Attributes:
        shape: its length in a world, or its two.
        meaning: what is in it.
        records: type of its rows; None if these are plain numbers, whose type the field says.
    """

    shape: Callable[[Sizes], int | tuple[int, int]]
    meaning: str
    records: np.dtype[Any] | None = None


class ClusterState(NamedTuple):
    """The tables, and all that there is to say of each: a new one is one entry here.  Columns: the dtypes above."""

    cluster: Annotated[Records, Table(lambda s: 1, "settings, clock, counters", CLUSTER_DTYPE)]
    functions: Annotated[Records, Table(lambda s: s.functions, "functions", FUNCTION_DTYPE)]
    nodes: Annotated[Records, Table(lambda s: s.nodes, "nodes", NODE_DTYPE)]
    gpus: Annotated[Records, Table(lambda s: s.gpus, "GPUs, node by node", GPU_DTYPE)]
    containers: Annotated[Records, Table(lambda s: s.containers, "pool of containers", CONTAINER_DTYPE)]
    residents: Annotated[Records, Table(lambda s: s.residents, "pool of functions in containers", RESIDENT_DTYPE)]
    waiting: Annotated[Records, Table(lambda s: 1024, "pool of requests that wait; grows", WAITING_DTYPE)]
    free_containers: Annotated[Int32s, Table(lambda s: s.containers, "stack of freed slots")]
    free_residents: Annotated[Int32s, Table(lambda s: s.residents, "stack of freed slots")]
    free_waiting: Annotated[Int32s, Table(lambda s: 1024, "stack of freed slots; grows along")]
    windows: Annotated[Int64s, Table(lambda s: (s.functions, s.window), "last arrival times, a ring a function")]
    gaps: Annotated[Int64s, Table(lambda s: (s.gaps, GAPS), "last gaps between arrivals, a ring a function")]
    idle_bins: Annotated[Int32s, Table(lambda s: (s.idle_bins, HISTOGRAM_BINS), "histograms of idle times")]
    gap_bins: Annotated[Int32s, Table(lambda s: (s.gap_bins, HISTOGRAM_BINS), "histograms of gaps")]
    rooms: Annotated[
        Int64s,
        Table(
            lambda s: s.containers,
            "the idle containers of each node, from ``nodes.room_first`` to before ``nodes.room_end``, at event "
            "``nodes.listed_at``: what the best fit is the least of (``ledger.fit_order``)",
        ),
    ]
    room_container: Annotated[Int32s, Table(lambda s: s.containers, "which container each of ``rooms`` is")]
    kin: Annotated[
        Int32s,
        Table(lambda s: (s.kin, 3), "under FAASCACHE, a node's idle containers in a heap (``prewarm.faascache``)"),
    ]
    node_order: Annotated[Int64s, Table(lambda s: s.nodes, "nodes in walk order")]
    candidate_density: Annotated[
        Int64s,
        Table(
            lambda s: s.functions,
            "ordered by (home node, peak memory, function), or by (peak memory, function) where every node has the "
            "same candidates: positive exactly when the pre-loader would load one more copy of that function",
        ),
    ]
    candidate_peak_mb: Annotated[Int64s, Table(lambda s: s.functions, "in the same order")]
    candidate_function: Annotated[Int32s, Table(lambda s: s.functions, "in the same order")]
    winners: Annotated[
        Int32s,
        Table(
            lambda s: s.functions,
            "of each node with more than ``MANY_CANDIDATES``, from its first candidate on: the entry at i is the "
            "better one of those at 2i and 2i + 1, a slot (``control.tournament``)",
        ),
    ]
    vacancies: Annotated[
        Int64s,
        Table(
            lambda s: 2 * s.leaves,
            "the most room that any node has, of all, of each half, and so on down to each node in walk order: the "
            "entry at i is the greater one of those at 2i and 2i + 1 (``control.vacancies``)",
        ),
    ]
    wide: Annotated[Int32s, Table(lambda s: s.functions, "on the ring, functions whose group has several nodes")]
    lost: Annotated[
        Int64s,
        Table(
            lambda s: s.residents + s.copies * s.functions + 1,
            "work list of one event: function + (node + 1) << 32, node -1 for one that is to be placed anywhere",
        ),
    ]
    freed: Annotated[Int32s, Table(lambda s: s.residents + s.containers + 1, "work list of one event: GPUs")]
    commands: Annotated[
        Records,
        Table(lambda s: 6 * (s.residents + s.containers) + 64, "what the backend has to do", COMMAND_DTYPE),
    ]
    timers: Annotated[
        Int64s, Table(lambda s: 8 * (s.functions + s.containers) + 1024, "heap of the core's event keys; grows")
    ]
    soon: Annotated[
        Int64s,
        Table(lambda s: 2 * s.functions + 1024, "such a heap, of functions with a later key in ``timers``; grows"),
    ]
    completions: Annotated[
        Int64s,
        Table(lambda s: 8 * (s.residents + s.containers) + 1024, "heap of the simulator's event keys; grows"),
    ]
    arrival_us: Annotated[Int64s, Table(lambda s: s.requests, "when each request arrives")]
    arrival_function: Annotated[Int32s, Table(lambda s: s.requests, "of each request")]
    arrival_duration_us: Annotated[Int64s, Table(lambda s: s.durations, "of each request, if the trace says it")]
    own_arrival_us: Annotated[Int64s, Table(lambda s: s.foreseen, "arrivals by function, for privileged policies")]
    own_first: Annotated[Int64s, Table(lambda s: s.functions + 1, "where each function's begin, and their end")]
    forecast: Annotated[
        Int32s,
        Table(
            lambda s: (s.forecast_rows, s.forecast_minutes), "probabilities (TABLE, ICEBREAKER), by function and minute"
        ),
    ]
    network: Annotated[Float32s, Table(lambda s: s.weights, "weights (kernel NETWORK)")]
    activations: Annotated[Float32s, Table(lambda s: INPUTS + 2 * HIDDEN, "scratch: its features and hidden layers")]
    kernel_memory: Annotated[
        Int64s,
        Table(lambda s: (s.functions, s.kernel_memory), "what a user's row kernel remembers (``tyche_env.rules``)"),
    ]
    prewarm_memory: Annotated[
        Int64s, Table(lambda s: (s.functions, s.prewarm_memory), "what a user's pre-warming remembers")
    ]
    tables: Annotated[Int64s, Table(lambda s: (TABLE_ROWS, TABLE_SIZE), "see ``tyche_env.tables``")]
    log: Annotated[Records, Table(lambda s: s.logged, "finished decisions; a ring when the run is long", LOG_DTYPE)]
    totals: Annotated[Records, Table(lambda s: s.functions, "streaming sums of scored requests", TOTALS_DTYPE)]
    latency_bins: Annotated[Int64s, Table(lambda s: LATENCY_BINS, "histogram of their end-to-end latencies")]
    loading_bins: Annotated[Int64s, Table(lambda s: LATENCY_BINS, "histogram of their warming and loading")]
    pending: Annotated[
        Records,
        # those of the last advance that fall due in this one, and those of this one that fall due later
        Table(lambda s: 2 * s.containers + 2, "latencies that are not yet due", PENDING_DTYPE),
    ]
    rewards: Annotated[Float64s, Table(lambda s: s.functions, "sums that fell due since they were read last, seconds")]
    order: Annotated[Int64s, Table(lambda s: s.functions + 1, "scratch for sorting functions by density")]
    order_key: Annotated[Int64s, Table(lambda s: s.functions + 1, "likewise")]
    resources: Annotated[Records, Table(lambda s: s.resources, "processors, disks and links", RESOURCE_DTYPE)]
    entries: Annotated[Records, Table(lambda s: s.entries, "for each, a binary heap of the jobs on it", ENTRY_DTYPE)]
    jobs: Annotated[Records, Table(lambda s: s.jobs, "work in progress: of residents, then of containers", JOB_DTYPE)]
    job_work: Annotated[Int64s, Table(lambda s: (s.jobs, STAGES), "nominal us of each stage of a job")]
    container_jobs: Annotated[Int32s, Table(lambda s: s.busy, "first load or transfer in progress in each, or -1")]
    ready: Annotated[
        Int64s,
        Table(lambda s: 6 * s.jobs + 64, "jobs that go on in this event; those that only begin as -1 - job"),
    ]
    instants: Annotated[Int64s, Table(lambda s: 2 * s.jobs + 64, "heap of event keys of the present instant")]


_LISTED: dict[str, Any] = get_type_hints(ClusterState, globals(), include_extras=True)
_NUMBERS = {name: get_args(get_args(field.__origin__)[1])[0] for name, field in _LISTED.items()}  # array[shape, dtype]
_ONE_OF_EACH = Sizes(*[1] * len(Sizes._fields))
TABLES: dict[str, Table] = {name: field.__metadata__[0] for name, field in _LISTED.items()}
"""Every table of :class:`ClusterState`, in its order."""
FIELDS: dict[str, tuple[np.dtype[Any], int]] = {
    name: (table.records or np.dtype(_NUMBERS[name]), 2 if isinstance(table.shape(_ONE_OF_EACH), tuple) else 1)
    for name, table in TABLES.items()
}
"""Type of the entries and number of dimensions of each."""


def new_state(
    world: World, record: bool = True, features: bool = False, spent: ClusterState | None = None
) -> ClusterState:
    """Empty tables for a validated world.

    Args:
        world: the world.
        record: whether every request gets a log row (96 bytes each), or only the streaming sums.
        features: whether to keep what only observations, and the kernel NETWORK, need.
        spent: tables that nobody needs any more; those of the right shape are emptied and used again.
    """
    own = world.rules.kernel
    features = features or world.settings.kernel == Kernel.NETWORK or (own is not None and own.features)
    sizes, given = sizes_of(world, record, features), _given(world)
    st = ClusterState(
        *[
            given[name] if name in given else _empty(table.shape(sizes), dtype, getattr(spent, name, None))
            for (name, table), (dtype, _) in zip(TABLES.items(), FIELDS.values(), strict=True)
        ]
    )
    st.vacancies.fill(-1)
    st.container_jobs.fill(-1)
    st.containers["expiry_key"] = st.containers["expiry_queued"] = NO_KEY
    st.residents["due_key"] = NO_KEY
    st.jobs["begin_key"], st.jobs["place"] = NO_KEY, -1
    _begin_cluster(st.cluster, world, record, features)
    _begin_functions(st, world)
    _begin_nodes(st, world)
    _begin_candidates(st, world)
    if world.settings.contention:
        _begin_resources(st.resources, world)
    return st


def _empty(shape: int | tuple[int, int], dtype: np.dtype[Any], spent: NDArray[Any] | None) -> NDArray[Any]:
    """A table of zeros: the spent one if it has the shape."""
    if spent is None or spent.shape != (shape if isinstance(shape, tuple) else (shape,)):
        return np.zeros(shape, dtype)
    spent.view(np.uint8).fill(0)
    return spent


def sizes_of(world: World, record: bool, features: bool) -> Sizes:
    """How long the tables of a world are, see :func:`new_state`.

    Raises:
        WorldError: more may live at once than an event key can name.
    """
    settings, own = world.settings, world.rules
    functions, nodes, requests = world.function_count, world.node_count, len(world.arrival_us)
    containers, residents = _pool_sizes(world)
    resources, entries, jobs, busy = 1, 1, 1, 1
    if settings.contention:
        room = _room_for_jobs(world)
        resources, entries, jobs, busy = len(room), int(room.sum()), residents + containers, containers
    rows, minutes = world.forecast.shape if world.forecast.ndim == 2 else (1, 1)
    return Sizes(
        functions=functions,
        nodes=nodes,
        gpus=world.gpu_count,
        requests=requests,
        durations=len(world.arrival_duration_us),
        window=settings.window,
        copies=settings.copies,
        containers=containers,
        residents=residents,
        idle_bins=functions if settings.prewarm == Prewarm.HISTOGRAM else 1,
        gap_bins=functions if features or settings.kernel == Kernel.HISTOGRAM else 1,
        gaps=functions if _keeps_gaps(world, features) else 1,
        kin=containers if settings.prewarm == Prewarm.FAASCACHE else 1,
        leaves=1 if _near_nodes(world) == nodes else 1 << (nodes - 1).bit_length(),
        foreseen=requests if settings.kernel in _PRIVILEGED else 0,
        forecast_rows=rows,
        forecast_minutes=minutes,
        weights=len(world.network),
        kernel_memory=0 if own.kernel is None else own.kernel.memory,
        prewarm_memory=0 if own.prewarm is None else own.prewarm.memory,
        logged=requests if record else 1,
        resources=resources,
        entries=entries,
        jobs=jobs,
        busy=busy,
    )


def _pool_sizes(world: World) -> tuple[int, int]:
    """Most containers that the nodes' memory can hold, and residents: a function has one in a container at most."""
    smallest = int(world.functions.container_mb.min())
    containers = int((world.node_memory_mb // smallest).sum())
    lightest = int(world.functions.hold_mb.min())
    residents = min(int((world.node_memory_mb // lightest).sum()) + containers, containers * world.function_count)
    for name, count in (("containers", containers), ("residents", residents), ("functions", world.function_count)):
        if count >= MOST_SLOTS:
            problem = f"{name}: {count} may live at once, the event key can name {MOST_SLOTS - 1}"
            raise WorldError(f"{problem}; take fewer nodes, larger containers or fewer functions at a time")
    if (largest := int(world.functions.container_mb.max())) > LARGEST_CONTAINER_MB:
        raise WorldError(f"container_mb: {largest} is more than the {LARGEST_CONTAINER_MB} MB that can be told apart")
    return containers, residents


def _room_for_jobs(world: World) -> NDArray[np.int64]:
    """Most jobs that each resource of a world under contention can hold, (2N + G,)."""
    table = world.functions
    most = world.node_memory_mb // table.container_mb.min() + world.node_memory_mb // table.hold_mb.min()
    most = np.concatenate([most, most, most[world.gpu_node]])
    if len(most) >= MOST_SLOTS:
        raise WorldError(f"nodes: {len(most)} resources share work, the event key can name {MOST_SLOTS - 1}")
    return most


def _keeps_gaps(world: World, features: bool) -> bool:
    """Whether somebody looks at the last gaps."""
    settings = world.settings
    return features or settings.kernel == Kernel.EMPIRICAL or settings.prewarm == Prewarm.RAINBOWCAKE


def _near_nodes(world: World) -> int:
    """Nodes of a walk that are asked one by one."""
    # idle containers of others, which these rent out, are on any node
    rents = world.settings.prewarm in (Prewarm.PAGURUS, Prewarm.RAINBOWCAKE)
    return world.node_count if rents else min(world.node_count, NEAR_NODES)


def _given(world: World) -> dict[str, NDArray[Any]]:
    """The tables that the world brings, or that follow from it alone."""
    forecast = world.forecast if world.forecast.ndim == 2 else np.zeros((1, 1))
    given: dict[str, NDArray[Any]] = {
        "node_order": world.node_order(),
        "arrival_us": np.ascontiguousarray(world.arrival_us, np.int64),
        "arrival_function": np.ascontiguousarray(world.arrival_function, np.int32),
        "arrival_duration_us": np.ascontiguousarray(world.arrival_duration_us, np.int64),
        "forecast": np.ascontiguousarray(forecast, np.int32),
        "network": np.ascontiguousarray(world.network, np.float32),
        "tables": load_tables(),
    }
    if world.settings.kernel in _PRIVILEGED:
        own_first = np.zeros(world.function_count + 1, np.int64)
        own_first[1:] = np.cumsum(np.bincount(world.arrival_function, minlength=world.function_count))
        by_function = np.argsort(world.arrival_function, kind="stable")
        own_arrival_us = np.ascontiguousarray(world.arrival_us[by_function], np.int64)
        given |= {"own_arrival_us": own_arrival_us, "own_first": own_first}
    return given


def _begin_cluster(cluster: Records, world: World, record: bool, features: bool) -> None:
    settings = world.settings
    for name in _SETTINGS:
        cluster[name] = int(getattr(settings, name))
    cluster["busy_counts"] = settings.busy_counts and settings.after_run == AfterRun.KEEP
    # nobody looks at decisions, and whether a function has all its copies is one number (worth.look_at_opening)
    cluster["unseen_openings"] = (
        settings.event_mode
        and not features
        and settings.kernel in (Kernel.TYCHE, Kernel.EWMA)
        and settings.scope != Scope.WORKER
    )
    cluster["keeps_gaps"] = _keeps_gaps(world, features)
    cluster["functions"], cluster["nodes"], cluster["gpus"] = world.function_count, world.node_count, world.gpu_count
    cluster["score_from_us"], cluster["record"] = world.score_from_us, int(record)
    cluster["features"], cluster["clock_us"] = int(features), world.clock_us
    cluster["demand_mb"] = int(world.functions.hold_mb.sum())
    cluster["near_nodes"] = _near_nodes(world)


def _begin_functions(st: ClusterState, world: World) -> None:
    rows = st.functions
    for name in FUNCTION_FIELDS:
        if name in (rows.dtype.names or ()):
            rows[name] = getattr(world.functions, name)
    rows["saved_us"] = rows["library_us"] + rows["model_us"]
    for name in ("gpu_head", "memory_head", "loading_head", "warm_head", "resident_head", "wide", "last_end_us"):
        rows[name] = -1
    for name in ("timer_key", "timer_queued", "timer_soon", "opening_key", "prewarm_key", "prewarm_queued"):
        rows[name] = NO_KEY
    rows["home_position"], rows["step"] = world.home_position(), world.walk_step()
    rows["home_node"] = st.node_order[rows["home_position"]]
    rows["group"] = world.node_count if world.settings.routing in _EVERYWHERE else 1


def _begin_nodes(st: ClusterState, world: World) -> None:
    rows, nodes = st.nodes, np.arange(world.node_count)
    rows["memory_mb"] = rows["free_mb"] = world.node_memory_mb
    for name in ("idle_head", "idle_tail", "queue_head", "queue_tail", "worth_head", "listed_at"):
        rows[name] = -1
    rows["gpu_first"] = np.searchsorted(world.gpu_node, nodes, side="left")
    rows["gpu_end"] = np.searchsorted(world.gpu_node, nodes, side="right")
    rows["position"][st.node_order] = nodes
    st.gpus["node"], st.gpus["model_head"] = world.gpu_node, -1
    st.gpus["memory_mb"] = st.gpus["free_mb"] = world.gpu_memory_mb


def _begin_candidates(st: ClusterState, world: World) -> None:
    """Which functions a node may load: those at home there, or, where it is in every function's group, all."""
    rows, nodes = st.functions, st.nodes
    list_of_function, list_of_node = rows["home_node"], np.arange(len(nodes))
    if world.settings.routing in _EVERYWHERE:
        list_of_function, list_of_node = np.zeros(len(rows), np.int32), np.zeros(len(nodes), np.int64)
    in_order = np.lexsort((rows["peak_mb"], list_of_function)).astype(np.int32)
    rows["slot"][in_order] = np.arange(len(rows))
    st.candidate_function[:], st.candidate_peak_mb[:] = in_order, rows["peak_mb"][in_order]
    nodes["candidate_first"] = np.searchsorted(list_of_function[in_order], list_of_node, side="left")
    nodes["candidate_end"] = np.searchsorted(list_of_function[in_order], list_of_node, side="right")
    candidates = nodes["candidate_end"] - nodes["candidate_first"]
    nodes["rivals"] = np.where(candidates > MANY_CANDIDATES, candidates, 0)
    rows["rivals"] = nodes["rivals"][rows["home_node"]]
    _begin_tournaments(st)


def _begin_tournaments(st: ClusterState) -> None:
    """The tournaments of nodes as long as nobody has a density: the first functions win."""
    large = st.nodes[st.nodes["rivals"] > 0]
    for first, count in sorted(set(zip(large["candidate_first"].tolist(), large["rivals"].tolist(), strict=True))):
        places = np.concatenate([np.zeros(count, np.int64), np.arange(first, first + count)])
        for place in range(count - 1, 0, -1):
            a, b = places[2 * place], places[2 * place + 1]
            places[place] = a if st.candidate_function[a] < st.candidate_function[b] else b
        st.winners[first + 1 : first + count] = places[1:count]


def _begin_resources(rows: Records, world: World) -> None:
    rows["capacity"] = np.concatenate([world.node_cores, world.node_disk_streams, np.ones(world.gpu_count, np.int64)])
    most = _room_for_jobs(world)
    rows["first"] = np.cumsum(most) - most
    rows["key"] = rows["queued"] = NO_KEY
