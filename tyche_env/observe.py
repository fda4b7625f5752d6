"""Writing an observation: one compiled pass over the state, straight into the caller's arrays (columns: ``spaces``)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import HOLD
from tyche_env.control.compiled import inner, outer
from tyche_env.control.handles import open_state, open_state_at
from tyche_env.control.kernels import histogram
from tyche_env.control.worth import p60
from tyche_env.spaces import positions
from tyche_env.state import GAPS, ClusterState

# numbers, as far as compiled code is concerned
F, N, G, C = (positions(name) for name in ("functions", "nodes", "gpus", "cluster"))
FUNCTION_WIDTH, NODE_WIDTH, GPU_WIDTH, CLUSTER_WIDTH = len(F), len(N), len(G), len(C)
_NONE_S = 50 * 86_400.0
_RATE_LIMIT = 1e6
_ONE = 2.0**-20


@inner
def write_function(st: ClusterState, function: int, out: NDArray[np.float32]) -> None:
    """One row of ``functions``, in the order of ``spaces.FUNCTION_COLUMNS``."""
    write_requests(st, function, out)
    write_forecasts(st, function, out)
    write_standing(st, function, out)


@inner
def write_requests(st: ClusterState, function: int, out: NDArray[np.float32]) -> None:
    """The columns of a function's requests so far: all before ``poisson_60s``."""
    f = st.functions[function]
    n = f.window_count
    out[F.arrivals_count] = f.arrivals
    out[F.window_count] = n
    for k in range(F.age_s, F.poisson_60s):
        out[k] = 0.0
    out[F.age_s] = _NONE_S
    out[F.window_age_s] = _NONE_S
    if n > 0:
        age_us = st.cluster[0].now_us - f.last_arrival_us
        age_s = age_us * 1e-6
        out[F.age_s] = age_s
        out[F.window_age_s] = (st.cluster[0].now_us - f.first_arrival_us) * 1e-6
        out[F.mean_gap_s] = f.gap_us * 1e-6
        out[F.window_rate_per_s] = 1e6 / f.gap_us
        out[F.censored_rate_per_s] = 1e6 / censored_gap(st, function)
        # of three exponentials one; the powers differ from the others in bits that float32 has not
        forgotten = math.exp(-age_s / 3600.0)
        twice = forgotten * forgotten
        sixfold = twice * twice * twice
        fourfold = sixfold * sixfold * sixfold * sixfold
        out[F.rate_1min_per_s] = min(_RATE_LIMIT, f.rate_1min * (fourfold * fourfold * sixfold * sixfold))
        out[F.rate_10min_per_s] = min(_RATE_LIMIT, f.rate_10min * sixfold)
        out[F.rate_60min_per_s] = min(_RATE_LIMIT, f.rate_60min * forgotten)
        write_gaps(st, function, age_us, out)


@inner
def write_forecasts(st: ClusterState, function: int, out: NDArray[np.float32]) -> None:
    """The columns of what simple predictors expect: from ``poisson_60s`` to before ``in_flight_count``."""
    f = st.functions[function]
    for k in range(F.poisson_60s, F.in_flight_count):
        out[k] = 0.0
    if f.window_count > 0:
        out[F.poisson_60s] = p60(st.tables, f.gap_us) * _ONE
        out[F.censored_60s] = p60(st.tables, censored_gap(st, function)) * _ONE
        answer, p, _ = histogram(st, function, st.cluster[0].now_us)
        out[F.histogram_60s] = p * _ONE if answer == HOLD else 0.0


@inner
def write_standing(st: ClusterState, function: int, out: NDArray[np.float32]) -> None:
    """The columns of where a function stands and what it is: from ``in_flight_count`` on."""
    f = st.functions[function]
    out[F.in_flight_count] = f.in_flight
    out[F.queued_count] = f.queued
    out[F.running_count] = f.running
    out[F.owned_idle_count] = f.owned_idle
    out[F.loading_count] = f.loading_copies
    out[F.held_count] = f.held_copies
    out[F.gpu_count] = f.gpu_copies
    out[F.decision] = f.decision
    out[F.priority] = f.priority * _ONE
    out[F.hold_mb] = f.hold_mb
    out[F.peak_mb] = f.peak_mb
    out[F.gpu_mb] = f.gpu_mb
    out[F.saved_s] = f.saved_us * 1e-6
    out[F.transfer_s] = f.transfer_us * 1e-6
    out[F.init_s] = f.init_us * 1e-6
    out[F.inference_s] = f.inference_us * 1e-6
    out[F.group_nodes] = f.group


@inner
def censored_gap(st: ClusterState, function: int) -> int:
    """The mean gap of a function that has requests in its window, the present one counted as if it ended now, us."""
    f = st.functions[function]
    since_first_us = st.cluster[0].now_us - f.first_arrival_us
    return max(since_first_us, 60_000_000) if f.window_count == 1 else max(1, since_first_us // f.window_count)


@inner
def write_gaps(st: ClusterState, function: int, age_us: int, out: NDArray[np.float32]) -> None:
    """Statistics of the function's own last gaps: recent ones, variation, hazard and survival at the present age."""
    f = st.functions[function]
    count = f.gap_count
    if count == 0:
        out[F.survival] = 1.0
        return
    longer = 0
    soon = 0
    later = 0
    for k in range(count):
        gap_us = st.gaps[function, k]
        longer += gap_us > age_us
        soon += gap_us > age_us + 10_000_000
        later += gap_us > age_us + 60_000_000
    out[F.last_gap_s] = st.gaps[function, (f.gap_next + GAPS - 1) % GAPS] * 1e-6
    out[F.mean_gap_3_s] = f.gap_mean_3
    out[F.gap_cov] = f.gap_cov
    if longer > 0:
        out[F.hazard_10s] = (longer - soon) / longer
        out[F.hazard_60s] = (longer - later) / longer
    out[F.survival] = longer / count


@inner
def write_observation(st: ClusterState, out: NDArray[np.float32], functions: int, nodes: int, gpus: int) -> None:
    """Write all tables of the observation of the present moment, see :func:`observe`."""
    s = st.cluster[0]
    for function in range(s.functions):
        write_function(st, function, out[FUNCTION_WIDTH * function : FUNCTION_WIDTH * (function + 1)])
    at = FUNCTION_WIDTH * functions
    for node in range(s.nodes):
        n = st.nodes[node]
        out[at + N.memory_mb] = n.memory_mb
        out[at + N.free_mb] = n.free_mb
        out[at + N.busy_mb] = n.busy_mb
        out[at + N.idle_mb] = n.idle_mb
        out[at + N.preload_mb] = n.preload_mb
        out[at + N.queue_count] = n.queue_length
        at += NODE_WIDTH
    at = FUNCTION_WIDTH * functions + NODE_WIDTH * nodes
    for gpu in range(s.gpus):
        g = st.gpus[gpu]
        out[at + G.memory_mb] = g.memory_mb
        out[at + G.free_mb] = g.free_mb
        out[at + G.containers_count] = g.containers
        out[at + G.node] = g.node
        at += GPU_WIDTH
    at = FUNCTION_WIDTH * functions + NODE_WIDTH * nodes + GPU_WIDTH * gpus
    write_cluster(st, out[at : at + CLUSTER_WIDTH])


@inner
def write_cluster(st: ClusterState, out: NDArray[np.float32]) -> None:
    """The one row of ``cluster``, in the order of ``spaces.CLUSTER_COLUMNS``."""
    s = st.cluster[0]
    in_flight = 0
    loading = 0
    price = 0
    for function in range(s.functions):
        in_flight += st.functions[function].in_flight
        loading += st.functions[function].loading_copies
        price = max(price, st.candidate_density[function])
    memory_mb = 0
    busy_mb = 0
    idle_mb = 0
    preload_mb = 0
    for node in range(s.nodes):
        n = st.nodes[node]
        memory_mb += n.memory_mb
        busy_mb += n.busy_mb
        idle_mb += n.idle_mb
        preload_mb += n.preload_mb
    gpu_memory_mb = 0
    gpu_free_mb = 0
    for gpu in range(s.gpus):
        gpu_memory_mb += st.gpus[gpu].memory_mb
        gpu_free_mb += st.gpus[gpu].free_mb
    out[C.elapsed_s] = s.now_us * 1e-6
    out[C.time_of_day_s] = ((s.now_us + s.clock_us) % 86_400_000_000) * 1e-6
    out[C.memory_mb] = memory_mb
    out[C.busy_mb] = busy_mb
    out[C.idle_mb] = idle_mb
    out[C.preload_mb] = preload_mb
    out[C.demand_mb] = s.demand_mb
    out[C.pressure] = min(1e6, idle_mb / s.demand_mb)
    out[C.gpu_memory_mb] = gpu_memory_mb
    out[C.gpu_free_mb] = gpu_free_mb
    out[C.in_flight_count] = in_flight
    out[C.queued_count] = s.queued
    out[C.loading_count] = loading
    out[C.price_s_per_mb] = min(1e6, price * _ONE * 1e-6)


@outer
def observe(handles: NDArray[np.int64], out: NDArray[np.float32], functions: int, nodes: int, gpus: int) -> None:
    """Write the observation of the present moment.

    Args:
        handles: of a state made with ``features``.
        out: zeros; receives ``functions`` rows of that table, ``nodes``, ``gpus`` and one of ``cluster``, one after the
            other (``spaces.Layout``); rows beyond the world's own stay zero.
        functions: rows that ``out`` has for functions, nodes and GPUs.
        nodes: see ``functions``.
        gpus: see ``functions``.
    """
    write_observation(open_state(handles), out, functions, nodes, gpus)


@outer
def observe_all(
    addresses: NDArray[np.int64],
    out: NDArray[np.float32],
    functions: int,
    nodes: int,
    gpus: int,
) -> None:
    """Write the observations of many clusters, see :func:`observe`.

    Args:
        addresses: (n,) of the handles of each cluster.
        out: (n, size), each row as :func:`observe` takes it.
        functions: rows that an observation has for functions, nodes and GPUs.
        nodes: see ``functions``.
        gpus: see ``functions``.
    """
    for lane in range(len(addresses)):
        write_observation(open_state_at(addresses[lane]), out[lane], functions, nodes, gpus)
