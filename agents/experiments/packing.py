"""How much value the greedy packing loses against the optimum.

The optimum is an integer program over *patterns*: which models a container holds.  Containers are equal and there are
few models, so there are few patterns; functions of one model differ in value only and are taken best first.  That is
exact and small, where one variable a function and container would not be.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.experiments.published import ILP_LOSS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FUNCTIONS = 1000
CONTAINERS = 100
INSTANCES = 20
CONTAINER_MB = 2048
HORIZON_US = 60_000_000
TOLERANCE = 0.02

COLUMNS = (
    ("greedy s", "greedy"),
    ("optimum s", "optimum"),
    ("lost %", "lost_percent"),
    ("greedy ms", "greedy_ms"),
    ("solver ms", "solver_ms"),
)


def greedy(value: Floats, weight_mb: Ints, containers: int, container_mb: int) -> float:
    """The value that the controller's rule packs into empty containers (``docs/engine.md``, *place*).

    By value per MB, best first; each function into the container with the least free memory that has room.

    Args:
        value: (F,) expected seconds saved.
        weight_mb: (F,) memory held.
        containers: how many, all empty.
        container_mb: size of each.
    """
    free = np.full(containers, container_mb, dtype=np.int64)
    total = 0.0
    for item in np.argsort(-value / weight_mb, kind="stable"):
        fits = np.flatnonzero(free >= weight_mb[item])
        if len(fits):
            free[fits[np.argmin(free[fits])]] -= weight_mb[item]
            total += float(value[item])
    return total


def optimum(value: Floats, weight_mb: Ints, containers: int, container_mb: int) -> float:
    """The greatest value that any packing reaches.

    Raises:
        RuntimeError: the solver does not prove it.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    sizes = np.unique(weight_mb)
    patterns = fillings(sizes, container_mb)
    kind = np.searchsorted(sizes, weight_mb)
    # Variables: how often each pattern is used, then whether each function is held.
    rows = np.concatenate([np.tile(np.arange(len(sizes)), len(patterns)), kind, np.full(len(patterns), len(sizes))])
    columns = np.concatenate(
        [
            np.repeat(np.arange(len(patterns)), len(sizes)),
            len(patterns) + np.arange(len(value)),
            np.arange(len(patterns)),
        ]
    )
    data = np.concatenate([-patterns.ravel(), np.ones(len(value)), np.ones(len(patterns))])
    result = milp(
        np.concatenate([np.zeros(len(patterns)), -value]),
        # With whole patterns the best choice of functions is whole by itself.
        integrality=np.concatenate([np.ones(len(patterns)), np.zeros(len(value))]),
        bounds=Bounds(0, np.concatenate([np.full(len(patterns), containers), np.ones(len(value))])),
        constraints=LinearConstraint(
            coo_array((data, (rows, columns))).tocsr(), -np.inf, np.append(np.zeros(len(sizes)), containers)
        ),
        options={"mip_rel_gap": 0.0},
    )
    if result.status != 0:
        raise RuntimeError(f"the solver stopped without an optimum: {result.message}")
    return float(-result.fun)


def fillings(sizes_mb: Ints, container_mb: int) -> Ints:
    """(P, K) how many of each size a container can hold; only fillings that no further item fits into."""
    most = int(container_mb // sizes_mb.min())
    found = set()
    for count in range(1, most + 1):
        for items in combinations_with_replacement(range(len(sizes_mb)), count):
            used = int(sizes_mb[list(items)].sum())
            if used <= container_mb < used + sizes_mb.min():
                found.add(tuple(np.bincount(items, minlength=len(sizes_mb)).tolist()))
    return np.array(sorted(found), dtype=np.int64)


def instance(index: int) -> tuple[Floats, Ints]:
    """Values and weights of one instance: a draw of the trace, at an instant of its window.

    Returns:
        (F,) seconds saved x P(arrival within 60 s) by the window of the last ten requests; (F,) MB.
    """
    from agents.experiments.draws import draws, world_of
    from tyche_env.scenario import Scenario

    scenario = Scenario.load("paper-single-node")
    draw = draws(scenario.trace, "all", index + 1, FUNCTIONS)[index]
    world = world_of(scenario, draw)
    at_us = world.score_from_us + (world.end_us - world.score_from_us) * (index + 1) // (INSTANCES + 1)
    chance = np.zeros(world.function_count)
    known = world.arrival_us < at_us
    order = np.argsort(world.arrival_function[known], kind="stable")
    counts = np.bincount(world.arrival_function[known], minlength=world.function_count)
    for function, arrivals in enumerate(np.split(world.arrival_us[known][order], np.cumsum(counts)[:-1])):
        if len(arrivals):
            last = arrivals[-world.settings.window :]
            gap_us = world.settings.prior_gap_us if len(last) == 1 else max(1, (last[-1] - last[0]) // len(last))
            chance[function] = -np.expm1(-HORIZON_US / gap_us)
    table = world.functions
    return chance * (table.library_us + table.model_us) / 1e6, table.hold_mb


def measure(draws: int) -> list[dict[str, Any]]:
    """One row an instance; ``draws`` below :data:`INSTANCES` takes fewer."""
    rows = []
    for index in range(min(draws, INSTANCES)):
        value, weight_mb = instance(index)
        started = time.perf_counter()
        packed = greedy(value, weight_mb, CONTAINERS, CONTAINER_MB)
        between = time.perf_counter()
        best = optimum(value, weight_mb, CONTAINERS, CONTAINER_MB)
        ended = time.perf_counter()
        rows.append(
            {
                "experiment": "ilp",
                "instance": index,
                "greedy": packed,
                "optimum": best,
                "lost_percent": 100 * (1 - packed / best),
                "greedy_ms": 1e3 * (between - started),
                "solver_ms": 1e3 * (ended - between),
            }
        )
    return rows


def checks(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Greedy within 2 % of the optimum; what the paper's loses stands beside it."""
    worst = max(row["lost_percent"] for row in rows)
    mean = float(np.mean([row["lost_percent"] for row in rows]))
    yield {
        "check": f"greedy within {100 * TOLERANCE:.0f} % of the optimum in each of {len(rows)} instances",
        "holds": worst <= 100 * TOLERANCE,
        "detail": f"loses {mean:.2f} % on average, {worst:.2f} % at worst; the paper's {100 * ILP_LOSS:.1f} %",
        "cause": "",
    }
