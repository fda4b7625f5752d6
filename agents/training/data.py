"""Rows for supervised training: features of functions at many moments, and when each was requested next.

The rows come out of the same compiled core that will ask the network, so features cannot drift apart from training to
use.  Only functions and times of the training split are ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traces import Window
from tyche_env.features import WIDTH, features_of
from tyche_env.hold_price import roomy
from tyche_env.observe import observe
from tyche_env.scenario import Conditions, Scenario, SplitName
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.loading import warm_up
from tyche_env.spaces import Layout, column
from tyche_env.world import Kernel, World

NEVER_S = np.float32(np.inf)
HORIZONS_S = (2.0, 10.0, 60.0, 300.0)
"""Horizons that the network learns the chance of a request for."""
LONGEST_US = round(max(HORIZONS_S) * 1e6)
_STEP_S = (5.0, 15.0)
_BY_INTERVALS = Conditions(decision=10.0)
_ARRIVALS = column("functions", "arrivals_count")


@dataclass(frozen=True, slots=True)
class Rows:
    """What the network learns from.

    Attributes:
        features: (n, INPUTS) float32 of functions that were requested before.
        wait_s: (n,) float32 seconds until the next request; infinite if none came in the window.
        requests_per_h: (n,) float32, how often the row's function is requested in the whole stretch.
    """

    features: NDArray[np.float32]
    wait_s: NDArray[np.float32]
    requests_per_h: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.wait_s)


def rows_of(scenario: Scenario, *, seeds: tuple[int, ...], share: float, split: SplitName = "train") -> Rows:
    """Rows of all functions of a split over all of its time, in stretches as long as an episode.

    Args:
        scenario: whose functions, times and lengths.
        seeds: expansions of the counts; the stretches of each begin at other times.
        share: share of the rows that is kept, drawn at random.
        split: the training split, or the validation split to choose by.

    Raises:
        ValueError: the test split, which nothing may be fitted or chosen by.
    """
    if split == "test":
        raise ValueError("split: training never reads the test split")
    warm_up()
    scenario = roomy(scenario)
    windows = scenario.windows(split)
    functions = tuple(sorted({function for window in windows for function in window.functions}))
    begin_us = min(window.start_us for window in windows)
    end_us = max(window.end_us for window in windows)
    length_us = windows[0].end_us - windows[0].start_us
    parts: list[Rows] = []
    for seed in seeds:
        draw = np.random.default_rng((seed, 1))
        start_us = begin_us + int(draw.integers(length_us // 2))
        while start_us + length_us <= end_us:
            stretch = Window(split, 0, "all", functions, start_us, start_us, start_us + length_us)
            world = scenario.world_of(stretch, seed, Kernel.AGENT, _BY_INTERVALS)
            parts.append(_rows_of_world(world, draw, share))
            start_us += length_us
    return joined(parts)


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows, one after the other."""
    return Rows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.wait_s for part in parts]),
        np.concatenate([part.requests_per_h for part in parts]),
    )


def _rows_of_world(world: World, draw: np.random.Generator, share: float) -> Rows:
    count = world.function_count
    engine = CompiledEngine(world, record=False, features=True)
    layout = Layout.of(count, world.node_count, world.gpu_count)
    order = np.argsort(world.arrival_function, kind="stable")
    own_us = world.arrival_us[order]
    first = np.searchsorted(world.arrival_function[order], np.arange(count + 1))
    per_h = (np.diff(first) / (world.end_us / 3.6e9)).astype(np.float32)
    flat = layout.blank(count, world.node_count, world.gpu_count)
    features, waits, rates = [], [], []
    now_us = 0
    while True:
        now_us += int(draw.uniform(*_STEP_S) * 1e6)
        if now_us >= world.end_us - LONGEST_US:
            break  # what comes after the end is not known
        engine.advance_until(now_us)
        observe(engine.handles, flat, count, layout.rows["nodes"], layout.rows["gpus"])
        rows = flat[layout.parts["functions"]].reshape(count, WIDTH)
        kept = np.flatnonzero((rows[:, _ARRIVALS] > 0) & (draw.random(count) < share))
        features.append(features_of(rows[kept]))
        at = first[kept] + rows[kept, _ARRIVALS].astype(np.int64)
        over = at >= first[kept + 1]
        wait_s = (own_us[np.minimum(at, len(own_us) - 1)] - now_us) * 1e-6
        waits.append(np.where(over, NEVER_S, wait_s).astype(np.float32))
        rates.append(per_h[kept])
    return Rows(np.concatenate(features), np.concatenate(waits), np.concatenate(rates))
