"""Row network with a gate: when a load pays where it costs something, which no function can tell by itself.

A supervised network knows when requests come.  Whether loading pays depends on more: what a load costs, how busy the
node is, and how long the copy would live, since each run in a container kills the other functions held there.  This
form has three outputs, each from the network's last hidden layer and ten numbers about function and cluster:

- *gate*: above 0 the function is wanted, and loaded where there is room or less worth to displace;
- *keep*: below the gate, above 0 it is put back at once when a run kills it; at or under 0 it is let go;
- *priority*: as of every row network; the decision core turns it into worth per MB.

It runs in the core as a rule (``tyche_env.rules``), since what it looks at is in the core's tables, not in a row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.codes import IDLE
from tyche_env.control.arrivals import walk
from tyche_env.control.network import score
from tyche_env.control.packing import fitting_container
from tyche_env.network import HIDDEN, INPUTS, SIZE
from tyche_env.rules import HOLD, LEAVE, NEVER, RowKernel

CONTEXT = (
    "held",
    "processor",
    "loading",
    "latency",
    "memory",
    "room",
    "busy",
    "fits",
    "visits",
    "neighbours",
    "outlives",
)
"""Whether it takes memory; jobs on its home node's processor over its cores; loads in
progress a node; logs of latency saved and memory taken; log of the cluster's memory over what its functions' containers
take; share of it that runs take.  And of the container where it is or would be loaded: whether there is one, log of the
requests a minute that would kill it there, how many functions share it, and the share of the node's other idle
containers that are evicted before it."""
_CONTEXT = len(CONTEXT)
_GATE = SIZE
_KEEP = _GATE + HIDDEN + _CONTEXT + 1
_PRIORITY = _KEEP + HIDDEN + _CONTEXT + 1
GATED_SIZE = _PRIORITY + _CONTEXT
"""Length of the flat weights: a row network, whose output is the priority's; weights of hidden layer and context, and a
bias, for the gate and for keep; weights of the context for the priority."""

_SECOND_LAYER = INPUTS + HIDDEN
_AGAIN_US = 10_000_000
_MINUTE_S, _FADING_S = 60.0, 600.0
_FEWEST_VISITS = 0.03
_MOST_JOBS = 4.0


def decide(st: Any, function: int) -> tuple[int, int, int]:
    """Decision, priority in 2^-20, and when to ask again, as of a rule."""
    row = st.functions[function]
    if row.window_count == 0:
        return LEAVE, 0, NEVER
    s = st.cluster[0]
    w = st.network
    priority = float(score(st, function))
    gate = float(w[_GATE + HIDDEN + _CONTEXT])
    keep = float(w[_KEEP + HIDDEN + _CONTEXT])
    for i in range(HIDDEN):
        x = st.activations[_SECOND_LAYER + i]
        if x > np.float32(0.0):
            gate += x * w[_GATE + i]
            keep += x * w[_KEEP + i]
    loading = 0
    container_mb = 0.0
    for k in range(s.functions):
        loading += st.functions[k].loading_copies
        container_mb += st.functions[k].container_mb
    memory_mb = 0.0
    busy_mb = 0.0
    for k in range(s.nodes):
        memory_mb += st.nodes[k].memory_mb
        busy_mb += st.nodes[k].busy_mb
    processor = 0.0
    if s.contention:
        home = st.resources[row.home_node]
        processor = min(_MOST_JOBS, home.jobs / home.capacity)
    # where it is, or the first place that has room for it
    container = -1
    if row.resident_head >= 0:
        container = st.residents[row.resident_head].container
    step = 0
    while container < 0 and step < row.group:
        container = fitting_container(st, function, walk(st, function, step))
        step += 1
    visits = 0.0
    neighbours = 0
    outlives = 0.0
    if container >= 0:
        c = st.containers[container]
        at = c.resident_head
        while at >= 0:
            other = st.functions[st.residents[at].function]
            if st.residents[at].function != function:
                faded = math.exp(-1e-6 * (s.now_us - other.last_arrival_us) / _FADING_S)
                visits += other.rate_10min * _MINUTE_S * faded
                neighbours += 1
            at = st.residents[at].container_next
        if c.owner != function and c.state == IDLE:
            # its owner comes here only if it is held nowhere
            owner = st.functions[c.owner]
            faded = math.exp(-1e-6 * (s.now_us - owner.last_arrival_us) / _FADING_S)
            visits += 0.5 * owner.rate_10min * _MINUTE_S * faded
        idle = 0
        at = st.nodes[c.node].idle_tail
        while at >= 0:
            if at != container:
                idle += 1
                outlives += st.containers[at].worth < c.worth
            at = st.containers[at].idle_previous
        outlives /= max(1, idle)
    fits = 1.0 if container >= 0 else 0.0
    # about 0 in the middle and about 1 wide
    context = (
        1.0 if row.idle_copies + row.running > 0 else 0.0,
        processor - 0.5,
        min(_MOST_JOBS, loading / s.nodes) - 0.3,
        math.log(row.saved_us * 1e-6 + 1e-3) - 0.7,
        math.log(row.hold_mb * 1e-3 + 1e-3) + 0.7,
        math.log(memory_mb / container_mb) + 1.2,
        busy_mb / memory_mb - 0.5,
        fits - 0.5,
        math.log(visits + _FEWEST_VISITS) * fits,
        neighbours - 1.0,
        outlives - 0.5 * fits,
    )
    for i in range(_CONTEXT):
        x = context[i]
        gate += x * w[_GATE + HIDDEN + i]
        keep += x * w[_KEEP + HIDDEN + i]
        priority += x * w[_PRIORITY + i]
    p = int(2.0**20 / (1.0 + math.exp(-priority)) + 0.5)
    if gate > 0.0:
        return HOLD, max(1, p), _AGAIN_US
    return LEAVE, max(1, p) if keep > 0.0 else 0, _AGAIN_US


GATED = RowKernel(decide, features=True)


def gated(
    network: NDArray[np.float32],
    gate: NDArray[np.floating[Any]],
    keep: NDArray[np.floating[Any]],
    priority: NDArray[np.floating[Any]],
) -> NDArray[np.float32]:
    """Flat weights, (GATED_SIZE,).

    Args:
        network: (SIZE,) of a row network; its floor says nothing here.
        gate: (HIDDEN + CONTEXT + 1,) weights of hidden layer and context, and a bias.
        keep: likewise.
        priority: (CONTEXT,) weights of the context.
    """
    weights = np.concatenate([network, gate, keep, priority]).astype(np.float32)
    if weights.shape != (GATED_SIZE,):
        raise ValueError(f"gated network: needs {GATED_SIZE} weights, got {len(weights)}")
    return weights
