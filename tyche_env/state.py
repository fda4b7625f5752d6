"""ClusterState: everything the decision core knows, one structured array a table.

The compiled core reads and writes these tables in place, the simulated backend and the real one alike.  Pools have a
fixed size and hand out the slot freed last; slots never used come after, in ascending order (``docs/engine.md``, 1).
Times are int64 microseconds, memory int64 MB, links int32 slots with -1 for "none".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import Stage
from tyche_env.metrics import TOTALS_DTYPE
from tyche_env.network import HIDDEN, INPUTS
from tyche_env.simulator.log import LOG_DTYPE
from tyche_env.tables import load_tables
from tyche_env.world import FUNCTION_FIELDS, AfterRun, Kernel, Prewarm, Routing, Scope, World, WorldError

Records = NDArray[Any]

NO_KEY = np.int64(2**63 - 1)
"""Event key of "no event"."""

HISTOGRAM_BINS = 240
"""One-minute bins of idle times and of gaps (Shahrad et al., ATC'20: a range of four hours)."""
GAPS = 32
"""Last gaps of a function that its features look at."""
LATENCY_BINS = 4736
"""Bins of the streaming end-to-end histogram: 128 an octave, so a percentile is off by less than 1 %."""
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
            *("loads", "load_us", "wasted_loads", "transfers", "evictions", "expiries", "created", "prewarms"),
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
        # features of observations, kept only where somebody observes
        *[(name, np.float64) for name in ("rate_1min", "rate_10min", "rate_60min", "gap_mean_3", "gap_cov")],
        # profile
        *[(name, np.int64) for name in FUNCTION_FIELDS if name not in ("tenant", "hold_mb", "peak_mb")],
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
        # due_key: the completion it waits for; the three times are written by the backend
        *[(name, np.int64) for name in ("due_key", "command_us", "library_end_us", "ready_us", "density")],
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


class ClusterState(NamedTuple):
    """The tables; see the dtypes above for their columns.

    Attributes:
        cluster: (1,) settings, clock, counters.
        functions, nodes, gpus, containers, residents, waiting: the entities.
        free_containers, free_residents, free_waiting: stacks of freed slots.
        windows: (F, W) last arrival times, a ring a function.
        gaps: (F, 32) last gaps between arrivals, a ring a function; (1, 32) where nobody looks at them.
        idle_bins, gap_bins: (F, 240) histograms; (1, 240) where no policy reads them.
        rooms, room_container: (containers,) the idle containers of each node, from ``nodes.room_first`` to before
            ``nodes.room_end``, at event ``nodes.listed_at``: what the best fit is the least of (``ledger.fit_order``),
            and which container it is.
        kin: (containers, 3) under FAASCACHE, the idle ones of a node in a heap (``prewarm.faascache``); else (1, 3).
        node_order: (N,) nodes in walk order.
        candidate_density, candidate_peak_mb, candidate_function: (F,) ordered by (home node, peak memory, function), or
            by (peak memory, function) where every node has the same candidates; a density is positive exactly when the
            pre-loader would load one more copy of that function.
        winners: (F,) of each node with more than ``MANY_CANDIDATES``, from its first candidate on: the entry at i is
            the better one of those at 2i and 2i + 1, a slot (``control.tournament``).
        vacancies: the most room that any node has, of all, of each half, and so on down to each node in walk order: the
            entry at i is the greater one of those at 2i and 2i + 1; (2,) if nobody walks far (``control.vacancies``).
        wide: (F,) on the ring, functions whose routing group has more than one node.
        lost, freed: work lists of one event; an entry of ``lost`` is function + (node + 1) << 32, node -1 for a
            function that is to be placed anywhere.
        commands: what the backend has to do.
        timers, soon, completions: heaps of event keys; the first two belong to the core (``soon`` holds the keys
            of functions that have a later one in ``timers`` already), the third to the simulator.
        arrival_us, arrival_function, arrival_duration_us: the requests.
        own_arrival_us, own_first: arrivals sorted by function, and where each function's begin (privileged policies).
        forecast: (F, M) predicted probabilities by minute (kernel TABLE, pre-warming ICEBREAKER).
        network: weights (kernel NETWORK).
        activations: scratch for the network's features and hidden layers.
        kernel_memory, prewarm_memory: (F, K) what a user's rules remember (``tyche_env.rules``).
        tables: see ``tables``.
        log: finished decisions; a ring when the run is long.
        totals: (F,) streaming sums of scored requests.
        latency_bins: (4736,) histogram of end-to-end latencies of scored requests.
        pending, rewards: latencies not yet due, and the sums due since they were last read, (F,) float64 seconds.
        order, order_key: scratch for sorting functions by density.
        resources: (2N + G,) processors, disks and links; one row without contention, like the rest.
        entries: for each resource a binary heap of the jobs on it.
        jobs: (residents + containers,) work in progress.
        job_work: (residents + containers, 6) nominal us of each of its stages.
        container_jobs: (containers,) first load or transfer in progress in each, or -1.
        ready: jobs that go on with their next stage in this event; those that only begin as -1 - job.
        instants: heap of event keys of the present instant.
    """

    cluster: Records
    functions: Records
    nodes: Records
    gpus: Records
    containers: Records
    residents: Records
    waiting: Records
    free_containers: NDArray[np.int32]
    free_residents: NDArray[np.int32]
    free_waiting: NDArray[np.int32]
    windows: NDArray[np.int64]
    gaps: NDArray[np.int64]
    idle_bins: NDArray[np.int32]
    gap_bins: NDArray[np.int32]
    rooms: NDArray[np.int64]
    room_container: NDArray[np.int32]
    kin: NDArray[np.int32]
    node_order: NDArray[np.int64]
    candidate_density: NDArray[np.int64]
    candidate_peak_mb: NDArray[np.int64]
    candidate_function: NDArray[np.int32]
    winners: NDArray[np.int32]
    vacancies: NDArray[np.int64]
    wide: NDArray[np.int32]
    lost: NDArray[np.int64]
    freed: NDArray[np.int32]
    commands: Records
    timers: NDArray[np.int64]
    soon: NDArray[np.int64]
    completions: NDArray[np.int64]
    arrival_us: NDArray[np.int64]
    arrival_function: NDArray[np.int32]
    arrival_duration_us: NDArray[np.int64]
    own_arrival_us: NDArray[np.int64]
    own_first: NDArray[np.int64]
    forecast: NDArray[np.int32]
    network: NDArray[np.float32]
    activations: NDArray[np.float32]
    kernel_memory: NDArray[np.int64]
    prewarm_memory: NDArray[np.int64]
    tables: NDArray[np.int64]
    log: Records
    totals: Records
    latency_bins: NDArray[np.int64]
    pending: Records
    rewards: NDArray[np.float64]
    order: NDArray[np.int64]
    order_key: NDArray[np.int64]
    resources: Records
    entries: Records
    jobs: Records
    job_work: NDArray[np.int64]
    container_jobs: NDArray[np.int32]
    ready: NDArray[np.int64]
    instants: NDArray[np.int64]


FIELDS: dict[str, tuple[np.dtype[Any], int]] = {
    "cluster": (CLUSTER_DTYPE, 1),
    "functions": (FUNCTION_DTYPE, 1),
    "nodes": (NODE_DTYPE, 1),
    "gpus": (GPU_DTYPE, 1),
    "containers": (CONTAINER_DTYPE, 1),
    "residents": (RESIDENT_DTYPE, 1),
    "waiting": (WAITING_DTYPE, 1),
    "free_containers": (np.dtype(np.int32), 1),
    "free_residents": (np.dtype(np.int32), 1),
    "free_waiting": (np.dtype(np.int32), 1),
    "windows": (np.dtype(np.int64), 2),
    "gaps": (np.dtype(np.int64), 2),
    "idle_bins": (np.dtype(np.int32), 2),
    "gap_bins": (np.dtype(np.int32), 2),
    "rooms": (np.dtype(np.int64), 1),
    "room_container": (np.dtype(np.int32), 1),
    "kin": (np.dtype(np.int32), 2),
    "node_order": (np.dtype(np.int64), 1),
    "candidate_density": (np.dtype(np.int64), 1),
    "candidate_peak_mb": (np.dtype(np.int64), 1),
    "candidate_function": (np.dtype(np.int32), 1),
    "winners": (np.dtype(np.int32), 1),
    "vacancies": (np.dtype(np.int64), 1),
    "wide": (np.dtype(np.int32), 1),
    "lost": (np.dtype(np.int64), 1),
    "freed": (np.dtype(np.int32), 1),
    "commands": (COMMAND_DTYPE, 1),
    "timers": (np.dtype(np.int64), 1),
    "soon": (np.dtype(np.int64), 1),
    "completions": (np.dtype(np.int64), 1),
    "arrival_us": (np.dtype(np.int64), 1),
    "arrival_function": (np.dtype(np.int32), 1),
    "arrival_duration_us": (np.dtype(np.int64), 1),
    "own_arrival_us": (np.dtype(np.int64), 1),
    "own_first": (np.dtype(np.int64), 1),
    "forecast": (np.dtype(np.int32), 2),
    "network": (np.dtype(np.float32), 1),
    "activations": (np.dtype(np.float32), 1),
    "kernel_memory": (np.dtype(np.int64), 2),
    "prewarm_memory": (np.dtype(np.int64), 2),
    "tables": (np.dtype(np.int64), 2),
    "log": (LOG_DTYPE, 1),
    "totals": (TOTALS_DTYPE, 1),
    "latency_bins": (np.dtype(np.int64), 1),
    "pending": (PENDING_DTYPE, 1),
    "rewards": (np.dtype(np.float64), 1),
    "order": (np.dtype(np.int64), 1),
    "order_key": (np.dtype(np.int64), 1),
    "resources": (RESOURCE_DTYPE, 1),
    "entries": (ENTRY_DTYPE, 1),
    "jobs": (JOB_DTYPE, 1),
    "job_work": (np.dtype(np.int64), 2),
    "container_jobs": (np.dtype(np.int32), 1),
    "ready": (np.dtype(np.int64), 1),
    "instants": (np.dtype(np.int64), 1),
}
"""Type and dimensions of every table of :class:`ClusterState`, in its order."""


def _pool_sizes(world: World) -> tuple[int, int]:
    """Most containers and residents that the nodes' memory can hold."""
    smallest = int(world.functions.container_mb.min())
    containers = int((world.node_memory_mb // smallest).sum())
    lightest = int(world.functions.hold_mb.min())
    residents = int((world.node_memory_mb // lightest).sum()) + containers
    for name, count in (("containers", containers), ("residents", residents), ("functions", world.function_count)):
        if count >= MOST_SLOTS:
            raise WorldError(f"{name}: {count} may live at once, the event key can name {MOST_SLOTS - 1}")
    if (largest := int(world.functions.container_mb.max())) > LARGEST_CONTAINER_MB:
        raise WorldError(f"container_mb: {largest} is more than the {LARGEST_CONTAINER_MB} MB that can be told apart")
    return containers, residents


def _resources(world: World) -> tuple[Records, int]:
    """The resources of a world under contention, and how many jobs they can hold in all."""
    table = world.functions
    most = world.node_memory_mb // table.container_mb.min() + world.node_memory_mb // table.hold_mb.min()
    most = np.concatenate([most, most, most[world.gpu_node]])
    if len(most) >= MOST_SLOTS:
        raise WorldError(f"nodes: {len(most)} resources share work, the event key can name {MOST_SLOTS - 1}")
    resources = np.zeros(len(most), RESOURCE_DTYPE)
    resources["capacity"] = np.concatenate(
        [world.node_cores, world.node_disk_streams, np.ones(world.gpu_count, np.int64)]
    )
    resources["first"] = np.cumsum(most) - most
    resources["key"] = resources["queued"] = NO_KEY
    return resources, int(most.sum())


def _winners(nodes: Records, candidates: NDArray[np.int32]) -> NDArray[np.int32]:
    """The tournaments of nodes as long as nobody has a density: the first functions win."""
    winners = np.zeros(len(candidates), np.int32)
    large = nodes[nodes["rivals"] > 0]
    for first, count in sorted(set(zip(large["candidate_first"].tolist(), large["rivals"].tolist(), strict=True))):
        places = np.concatenate([np.zeros(count, np.int64), np.arange(first, first + count)])
        for place in range(count - 1, 0, -1):
            a, b = places[2 * place], places[2 * place + 1]
            places[place] = a if candidates[a] < candidates[b] else b
        winners[first + 1 : first + count] = places[1:count]
    return winners


def new_state(world: World, record: bool = True, features: bool = False) -> ClusterState:
    """Empty tables for a validated world.

    Args:
        world: the world.
        record: whether every request gets a log row (96 bytes each), or only the streaming sums.
        features: whether to keep what only observations, and the kernel NETWORK, need.
    """
    settings = world.settings
    own = world.rules
    features = features or settings.kernel == Kernel.NETWORK or (own.kernel is not None and own.kernel.features)
    functions, nodes, gpus = world.function_count, world.node_count, world.gpu_count
    containers, residents = _pool_sizes(world)

    cluster = np.zeros(1, CLUSTER_DTYPE)
    for name in CLUSTER_DTYPE.names or ():
        if hasattr(settings, name):
            cluster[name] = int(getattr(settings, name))
    cluster["busy_counts"] &= settings.after_run == AfterRun.KEEP
    # nobody looks at decisions, and whether a function has all its copies is one number (worth.look_at_opening)
    cluster["unseen_openings"] = (
        settings.event_mode
        and not features
        and settings.kernel in (Kernel.TYCHE, Kernel.EWMA)
        and settings.scope != Scope.WORKER
    )
    cluster["functions"], cluster["nodes"], cluster["gpus"] = functions, nodes, gpus
    cluster["score_from_us"], cluster["record"] = world.score_from_us, int(record)
    cluster["features"], cluster["clock_us"] = int(features), world.clock_us
    cluster["demand_mb"] = int(world.functions.hold_mb.sum())

    rows = np.zeros(functions, FUNCTION_DTYPE)
    for name in FUNCTION_FIELDS:
        rows[name] = getattr(world.functions, name)
    rows["saved_us"] = rows["library_us"] + rows["model_us"]
    for name in ("gpu_head", "memory_head", "loading_head", "warm_head", "resident_head", "wide", "last_end_us"):
        rows[name] = -1
    for name in ("timer_key", "timer_queued", "timer_soon", "opening_key", "prewarm_key", "prewarm_queued"):
        rows[name] = NO_KEY
    rows["group"] = 1
    order = world.node_order()
    rows["home_position"], rows["step"] = world.home_position(), world.walk_step()
    rows["home_node"] = order[rows["home_position"]]

    # under these, every node is in every function's group, so that all have the same candidates: all functions
    everywhere = settings.routing in (Routing.FEWEST_BUSY, Routing.FEWEST_BUSY_FIRST, Routing.OWN)
    if everywhere:
        rows["group"] = nodes

    node_rows = np.zeros(nodes, NODE_DTYPE)
    node_rows["memory_mb"] = node_rows["free_mb"] = world.node_memory_mb
    for name in ("idle_head", "idle_tail", "queue_head", "queue_tail", "worth_head"):
        node_rows[name] = -1
    node_rows["gpu_first"] = np.searchsorted(world.gpu_node, np.arange(nodes), side="left")
    node_rows["gpu_end"] = np.searchsorted(world.gpu_node, np.arange(nodes), side="right")
    node_rows["position"][order] = np.arange(nodes)
    node_rows["listed_at"] = -1
    # idle containers of others, which these rent out, are on any node
    rents = settings.prewarm in (Prewarm.PAGURUS, Prewarm.RAINBOWCAKE)
    cluster["near_nodes"] = nodes if rents else min(nodes, NEAR_NODES)
    leaves = 1 if cluster["near_nodes"] == nodes else 1 << (nodes - 1).bit_length()
    list_of_function, list_of_node = rows["home_node"], np.arange(nodes)
    if everywhere:
        list_of_function, list_of_node = np.zeros(functions, np.int32), np.zeros(nodes, np.int64)
    in_order = np.lexsort((rows["peak_mb"], list_of_function)).astype(np.int32)
    rows["slot"][in_order] = np.arange(functions)
    node_rows["candidate_first"] = np.searchsorted(list_of_function[in_order], list_of_node, side="left")
    node_rows["candidate_end"] = np.searchsorted(list_of_function[in_order], list_of_node, side="right")
    candidates = node_rows["candidate_end"] - node_rows["candidate_first"]
    node_rows["rivals"] = np.where(candidates > MANY_CANDIDATES, candidates, 0)
    rows["rivals"] = node_rows["rivals"][rows["home_node"]]

    gpu_rows = np.zeros(gpus, GPU_DTYPE)
    gpu_rows["node"], gpu_rows["model_head"] = world.gpu_node, -1
    gpu_rows["memory_mb"] = gpu_rows["free_mb"] = world.gpu_memory_mb

    container_rows = np.zeros(containers, CONTAINER_DTYPE)
    container_rows["expiry_key"] = container_rows["expiry_queued"] = NO_KEY
    resident_rows = np.zeros(residents, RESIDENT_DTYPE)
    resident_rows["due_key"] = NO_KEY

    by_bins = settings.kernel == Kernel.HISTOGRAM
    by_gaps = settings.kernel == Kernel.EMPIRICAL or settings.prewarm == Prewarm.RAINBOWCAKE
    cluster["keeps_gaps"] = features or by_gaps
    privileged = settings.kernel in (Kernel.ORACLE, Kernel.MINUTE_ORACLE)
    by_function = np.argsort(world.arrival_function, kind="stable") if privileged else np.zeros(0, np.int64)
    own_first = np.zeros(functions + 1, np.int64)
    if privileged:
        own_first[1:] = np.cumsum(np.bincount(world.arrival_function, minlength=functions))

    resource_rows, entries, jobs = np.zeros(1, RESOURCE_DTYPE), 1, 1
    if settings.contention:
        resource_rows, entries = _resources(world)
        jobs = residents + containers
    job_rows = np.zeros(jobs, JOB_DTYPE)
    job_rows["begin_key"], job_rows["place"] = NO_KEY, -1

    return ClusterState(
        cluster=cluster,
        functions=rows,
        nodes=node_rows,
        gpus=gpu_rows,
        containers=container_rows,
        residents=resident_rows,
        waiting=np.zeros(1024, WAITING_DTYPE),
        free_containers=np.zeros(containers, np.int32),
        free_residents=np.zeros(residents, np.int32),
        free_waiting=np.zeros(1024, np.int32),
        windows=np.zeros((functions, settings.window), np.int64),
        idle_bins=np.zeros((functions if settings.prewarm == Prewarm.HISTOGRAM else 1, HISTOGRAM_BINS), np.int32),
        gaps=np.zeros((functions if cluster["keeps_gaps"][0] else 1, GAPS), np.int64),
        gap_bins=np.zeros((functions if features or by_bins else 1, HISTOGRAM_BINS), np.int32),
        rooms=np.zeros(containers, np.int64),
        room_container=np.zeros(containers, np.int32),
        kin=np.zeros((containers if settings.prewarm == Prewarm.FAASCACHE else 1, 3), np.int32),
        node_order=order,
        candidate_density=np.zeros(functions, np.int64),
        candidate_peak_mb=rows["peak_mb"][in_order],
        candidate_function=in_order,
        winners=_winners(node_rows, in_order),
        vacancies=np.full(2 * leaves, -1),
        wide=np.zeros(functions, np.int32),
        lost=np.zeros(residents + settings.copies * functions + 1, np.int64),
        freed=np.zeros(residents + containers + 1, np.int32),
        commands=np.zeros(6 * (residents + containers) + 64, COMMAND_DTYPE),
        timers=np.zeros(8 * (functions + containers) + 1024, np.int64),
        soon=np.zeros(2 * functions + 1024, np.int64),
        completions=np.zeros(8 * (residents + containers) + 1024, np.int64),
        arrival_us=np.ascontiguousarray(world.arrival_us, np.int64),
        arrival_function=np.ascontiguousarray(world.arrival_function, np.int32),
        arrival_duration_us=np.ascontiguousarray(world.arrival_duration_us, np.int64),
        own_arrival_us=np.ascontiguousarray(world.arrival_us[by_function], np.int64),
        own_first=own_first,
        forecast=np.ascontiguousarray(world.forecast if world.forecast.ndim == 2 else np.zeros((1, 1)), np.int32),
        network=np.ascontiguousarray(world.network, np.float32),
        activations=np.zeros(INPUTS + 2 * HIDDEN, np.float32),
        kernel_memory=np.zeros((functions, 0 if own.kernel is None else own.kernel.memory), np.int64),
        prewarm_memory=np.zeros((functions, 0 if own.prewarm is None else own.prewarm.memory), np.int64),
        tables=load_tables(),
        log=np.zeros(len(world.arrival_us) if record else 1, LOG_DTYPE),
        totals=np.zeros(functions, TOTALS_DTYPE),
        latency_bins=np.zeros(LATENCY_BINS, np.int64),
        # those of the last advance that fall due in this one, and those of this one that fall due later
        pending=np.zeros(2 * containers + 2, PENDING_DTYPE),
        rewards=np.zeros(functions, np.float64),
        order=np.zeros(functions + 1, np.int64),
        order_key=np.zeros(functions + 1, np.int64),
        resources=resource_rows,
        entries=np.zeros(entries, ENTRY_DTYPE),
        jobs=job_rows,
        job_work=np.zeros((jobs, STAGES), np.int64),
        container_jobs=np.full(containers if settings.contention else 1, -1, np.int32),
        ready=np.zeros(6 * jobs + 64, np.int64),
        instants=np.zeros(2 * jobs + 64, np.int64),
    )
