"""What a run has cost so far, read off the tables by whoever hosts the core (``docs/engine.md``, 9)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tyche_env.state import ClusterState

COUNTERS: Final = (
    *("loads", "load_us", "wasted_loads", "wasted_load_us"),
    *("transfers", "evictions", "expiries", "created", "prewarms"),
)
INTEGRALS: Final = ("busy", "idle", "preload", "gpu")


def loading_us(state: ClusterState) -> NDArray[np.int64]:
    """The time for which loads of each function were in progress until now, (F,)."""
    rows = state.functions
    so_far: NDArray[np.int64] = rows["loading_copies"] * state.cluster["now_us"] - rows["loading_weighted"]
    return so_far


def counters(state: ClusterState) -> dict[str, int]:
    """Running totals."""
    totals = {"load_us": loading_us(state).sum()}
    return {name: int(totals[name] if name in totals else state.cluster[name][0]) for name in COUNTERS}


def integrals(state: ClusterState) -> dict[str, NDArray[np.int64]]:
    """Memory x time by kind since time 0, in MB us, (N,) each."""
    nodes, now_us = state.nodes, int(state.cluster["now_us"][0])
    return {name: nodes[f"{name}_mb"] * now_us - nodes[f"{name}_weighted"] for name in INTEGRALS}


def ended_load_us(state: ClusterState) -> int:
    """The time that the loads took which have ended; those in progress count with nothing (``tyche/Preload-v0``)."""
    return int(state.cluster["ended_load_us"][0])
