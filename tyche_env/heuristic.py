"""Heuristics as ``predict``: the row kernels applied to the rows of an observation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tyche_env.control.kernels import DEAD_ZONE, decide_rows
from tyche_env.errors import UserError
from tyche_env.spaces import Observation, column, table
from tyche_env.tables import ONE_Q20, load_tables
from tyche_env.world import Decision, Kernel, Settings


def predict_rows(kernel: Kernel, observation: Observation, settings: Settings | None = None) -> NDArray[np.float32]:
    """The action of a built-in heuristic for an observation of ``tyche/Preload``.

    Args:
        kernel: NONE, LRU, TYCHE, CENSORED or HISTOGRAM.  NONE and LRU leave every function as it is: through an
            environment, what ran is kept either way, since the environment always has a pre-loader.
        observation: one observation.
        settings: where T_load and T_offload come from; the defaults are the paper's.

    Returns:
        (F, 2) float32: the same decision for container memory and GPU.

    Raises:
        UserError: the kernel cannot be asked from an observation.
    """
    if kernel not in (Kernel.NONE, Kernel.LRU, Kernel.TYCHE, Kernel.CENSORED, Kernel.HISTOGRAM):
        raise UserError(f"policy {kernel.name.lower()}: cannot be asked from an observation")
    settings = settings or Settings()
    rows = table(observation, "functions")

    def us(name: str) -> NDArray[np.int64]:
        return np.rint(rows[:, column("functions", name)].astype(np.float64) * 1e6).astype(np.int64)

    count = rows[:, column("functions", "window_count")].astype(np.int64)
    gap_us = np.maximum(1, us("mean_gap_s"))
    decision = np.zeros(len(rows), np.int8)
    priority = np.zeros(len(rows), np.int64)
    decide_rows(
        int(kernel),
        load_tables(),
        settings.load_ppm,
        settings.offload_ppm,
        count,
        gap_us,
        us("window_age_s"),
        us("age_s"),
        decision,
        priority,
    )
    if kernel == Kernel.HISTOGRAM:
        share = rows[:, column("functions", "histogram_60s")]
        priority = np.rint(share.astype(np.float64) * ONE_Q20).astype(np.int64)
        outlived = (share == 0) & (rows[:, column("functions", "survival")] == 0)
        decision[count > 0] = np.where(outlived[count > 0], Decision.OFFLOAD, Decision.HOLD)
    return actions_of(decision, priority)


def actions_of(decision: NDArray[np.int8], priority: NDArray[np.int64]) -> NDArray[np.float32]:
    """The action that says a decision and a priority in 2^-20 for every function, (F, 2), GPU as memory."""
    hold = DEAD_ZONE + (1.0 - DEAD_ZONE) * priority / ONE_Q20
    # a priority of 0 still has to lie outside the dead zone to mean "hold"
    hold = np.clip(hold, np.nextafter(np.float32(DEAD_ZONE), np.float32(1.0)), 1.0)
    action = np.where(decision == Decision.HOLD, hold, np.where(decision == Decision.OFFLOAD, -1.0, 0.0))
    return np.repeat(action.astype(np.float32)[:, None], 2, axis=1)
