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
from tyche_env.state import GAPS, ClusterState

FUNCTION_WIDTH, NODE_WIDTH, GPU_WIDTH, CLUSTER_WIDTH = 36, 6, 4, 14
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
    """The columns of a function's requests so far, 0 to 15."""
    f = st.functions[function]
    n = f.window_count
    out[0] = f.arrivals
    out[1] = n
    for k in range(2, 16):
        out[k] = 0.0
    out[2] = _NONE_S
    out[3] = _NONE_S
    if n > 0:
        age_us = st.cluster[0].now_us - f.last_arrival_us
        age_s = age_us * 1e-6
        out[2] = age_s
        out[3] = (st.cluster[0].now_us - f.first_arrival_us) * 1e-6
        out[4] = f.gap_us * 1e-6
        out[5] = 1e6 / f.gap_us
        out[6] = 1e6 / censored_gap(st, function)
        # of three exponentials one; the powers differ from the others in bits that float32 has not
        forgotten = math.exp(-age_s / 3600.0)
        twice = forgotten * forgotten
        sixfold = twice * twice * twice
        fourfold = sixfold * sixfold * sixfold * sixfold
        out[7] = min(_RATE_LIMIT, f.rate_1min * (fourfold * fourfold * sixfold * sixfold))
        out[8] = min(_RATE_LIMIT, f.rate_10min * sixfold)
        out[9] = min(_RATE_LIMIT, f.rate_60min * forgotten)
        write_gaps(st, function, age_us, out)


@inner
def write_forecasts(st: ClusterState, function: int, out: NDArray[np.float32]) -> None:
    """The columns of what simple predictors expect, 16 to 18."""
    f = st.functions[function]
    for k in range(16, 19):
        out[k] = 0.0
    if f.window_count > 0:
        out[16] = p60(st.tables, f.gap_us) * _ONE
        out[17] = p60(st.tables, censored_gap(st, function)) * _ONE
        answer, p, _ = histogram(st, function, st.cluster[0].now_us)
        out[18] = p * _ONE if answer == HOLD else 0.0


@inner
def write_standing(st: ClusterState, function: int, out: NDArray[np.float32]) -> None:
    """The columns of where a function stands and what it is, 19 to 35."""
    f = st.functions[function]
    out[19] = f.in_flight
    out[20] = f.queued
    out[21] = f.running
    out[22] = f.owned_idle
    out[23] = f.loading_copies
    out[24] = f.held_copies
    out[25] = f.gpu_copies
    out[26] = f.decision
    out[27] = f.priority * _ONE
    out[28] = f.hold_mb
    out[29] = f.peak_mb
    out[30] = f.gpu_mb
    out[31] = f.saved_us * 1e-6
    out[32] = f.transfer_us * 1e-6
    out[33] = f.init_us * 1e-6
    out[34] = f.inference_us * 1e-6
    out[35] = f.group


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
        out[15] = 1.0
        return
    longer = 0
    soon = 0
    later = 0
    for k in range(count):
        gap_us = st.gaps[function, k]
        longer += gap_us > age_us
        soon += gap_us > age_us + 10_000_000
        later += gap_us > age_us + 60_000_000
    out[10] = st.gaps[function, (f.gap_next + GAPS - 1) % GAPS] * 1e-6
    out[11] = f.gap_mean_3
    out[12] = f.gap_cov
    if longer > 0:
        out[13] = (longer - soon) / longer
        out[14] = (longer - later) / longer
    out[15] = longer / count


@inner
def write_observation(st: ClusterState, out: NDArray[np.float32], functions: int, nodes: int, gpus: int) -> None:
    """Write all tables of the observation of the present moment, see :func:`observe`."""
    s = st.cluster[0]
    for function in range(s.functions):
        write_function(st, function, out[FUNCTION_WIDTH * function : FUNCTION_WIDTH * (function + 1)])
    at = FUNCTION_WIDTH * functions
    for node in range(s.nodes):
        n = st.nodes[node]
        out[at + 0] = n.memory_mb
        out[at + 1] = n.free_mb
        out[at + 2] = n.busy_mb
        out[at + 3] = n.idle_mb
        out[at + 4] = n.preload_mb
        out[at + 5] = n.queue_length
        at += NODE_WIDTH
    at = FUNCTION_WIDTH * functions + NODE_WIDTH * nodes
    for gpu in range(s.gpus):
        g = st.gpus[gpu]
        out[at + 0] = g.memory_mb
        out[at + 1] = g.free_mb
        out[at + 2] = g.containers
        out[at + 3] = g.node
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
    out[0] = s.now_us * 1e-6
    out[1] = ((s.now_us + s.clock_us) % 86_400_000_000) * 1e-6
    out[2] = memory_mb
    out[3] = busy_mb
    out[4] = idle_mb
    out[5] = preload_mb
    out[6] = s.demand_mb
    out[7] = min(1e6, idle_mb / s.demand_mb)
    out[8] = gpu_memory_mb
    out[9] = gpu_free_mb
    out[10] = in_flight
    out[11] = s.queued
    out[12] = loading
    out[13] = min(1e6, price * _ONE * 1e-6)


@outer
def observe(handles: NDArray[np.int64], out: NDArray[np.float32], functions: int, nodes: int, gpus: int) -> None:
    """Write the observation of the present moment.

    Args:
        handles: of a state made with ``features``.
        out: zeros; receives ``functions`` rows of 36 columns, ``nodes`` of 6, ``gpus`` of 4 and one of 14, one after
            the other; rows beyond the world's own stay zero.
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
