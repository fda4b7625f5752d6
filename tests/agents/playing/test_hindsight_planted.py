"""The oracle's choice among runs whose means are planted, and among all that it may try in a small world."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.playing import play as play_module
from agents.playing.hindsight import best_of, choices
from agents.playing.play import play
from agents.policies.builtin import POLICIES
from tests.tyche_env.simulator.test_rules import a_world, function
from tyche_env.metrics import TOTALS_DTYPE
from tyche_env.played import Played
from tyche_env.simulate import simulate
from tyche_env.world import Routing, World


def run_of(requests: list[int], waits_ms: list[float], **measured: Any) -> Played:
    """A run of which these are the requests and the waits (in all) of each function."""
    totals = np.zeros(len(requests), TOTALS_DTYPE)
    totals["requests"], totals["warming_loading_us"] = requests, [round(1000 * wait) for wait in waits_ms]
    plain: dict[str, Any] = {
        "world": None,
        "log": None,
        "histograms": {},
        "counters": {},
        "integrals_mb_us": {},
        "cpu_s": 1.0,
        "wall_s": 2.0,
    }
    return Played(totals=totals, end_to_end_percentiles_us=(0, 0, 0), **(plain | measured))


def with_means(by_request_ms: float, by_function_ms: float) -> Played:
    """Nine requests of one function, one of another, and none of a third."""
    # 9 a + b = 10 r and a + b = 2 f
    a = (10 * by_request_ms - 2 * by_function_ms) / 8
    return run_of([9, 1, 0], [9 * a, 2 * by_function_ms - a, 0])


@pytest.mark.parametrize(
    ("means", "best"),
    [
        # shares of the least means (with 1 ms added to all): 1 + 2, 1.1 + 1, 2 + 1.05
        ([(99, 199), (109, 99), (199, 104)], 1),
        ([(99, 99), (109, 98.9), (98.9, 150)], 0),
        # best per request alone, and per function alone, are not the best
        ([(99, 299), (119, 119), (299, 99)], 1),
        ([(50, 60)], 0),
        # a mean that is greater in all runs does not outweigh the other: 1 + 1.2, 1.5 + 1
        ([(99, 480), (149, 400)], 0),
        # of equals the first
        ([(70, 80), (70, 80)], 0),
        ([(80, 80), (70, 70), (75, 75)], 1),
        # where a mean is nothing at all the other still counts
        ([(0, 30), (0.5, 10)], 1),
    ],
)
def test_both_means_count_relative_to_the_least(means: list[tuple[float, float]], best: int) -> None:
    assert best_of([with_means(*each) for each in means]) == best


def test_runs_without_requests_are_no_error() -> None:
    assert best_of([run_of([0, 0], [0, 0]), run_of([0, 0], [0, 0])]) == 0


def a_small_world() -> World:
    """Three functions that compete for one node of two containers; one is asked for in bursts."""
    arrivals: list[tuple[float, int]] = [
        (0, 0),
        (1, 1),
        (30, 2),
        (31, 0),
        (31, 0),
        (60, 1),
        (61, 2),
        (62, 0),
        (95, 0),
        (96, 1),
        (97, 2),
        (130, 0),
    ]
    return a_world([function(hold_mb=300 + 100 * f) for f in range(3)], arrivals, nodes=(2000,), end=200)


def test_in_a_small_world_nothing_that_it_may_try_is_better() -> None:
    world, oracle = a_small_world(), POLICIES["oracle"]
    tried = [simulate(world.with_settings(**settings), engine="reference") for settings in choices(oracle)]
    means = []
    for run in tried:
        assert run.log is not None
        waits = np.sum([run.log[f"{stage}_us"] for stage in ("warming", "library", "model", "transfer")], axis=0) / 1e3
        means.append((waits.mean(), np.mean([waits[run.log["function"] == f].mean() for f in range(3)])))
    shares = (np.array(means) + 1) / (np.min(means, axis=0) + 1)
    best = tried[int(shares.sum(axis=1).argmin())]
    # the first that it tries is not the best, or nothing would be chosen
    assert shares[0].sum() > shares.sum(axis=1).min() + 0.01
    found = play(world, oracle, engine="reference")
    np.testing.assert_array_equal(found.log, best.log)


def test_what_it_tries_are_all_settings_of_its_own_kernel_and_every_fair_policy() -> None:
    oracle = POLICIES["oracle"]
    tried = list(choices(oracle))
    own = [
        (each["routing"], each["displace_percent"], each["copies"]) for each in tried if each["kernel"] == oracle.kernel
    ]
    rings = [(Routing.RING, percent, copies) for percent in (-1, 10, 200) for copies in (1, 2)]
    others = [(Routing.FEWEST_BUSY, percent, copies) for percent in (-1, 10, 200) for copies in (1, 2)]
    assert own == rings + others
    fair = [p for p in POLICIES.values() if not p.privileged and p.name not in ("none", "random", "reap")]
    assert tried[len(own) :] == [{"kernel": policy.kernel, **policy.settings} for policy in fair]


def test_the_time_of_every_try_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(list(choices(POLICIES["oracle"])))
    monkeypatch.setattr(play_module, "simulate", lambda world, **_: run_of([1], [5], cpu_s=2.0, wall_s=3.0))
    found = play(a_small_world(), POLICIES["oracle"], record="none")
    assert (found.cpu_s, found.wall_s) == (2.0 * count, 3.0 * count)
