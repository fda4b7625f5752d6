"""The oracle tries with hindsight."""

from __future__ import annotations

import numpy as np
import pytest

from agents.playing.hindsight import best_of, choices
from agents.playing.play import play
from agents.policies.builtin import POLICIES, RestorePolicy
from tyche_env.played import Played
from tyche_env.scenario import Scenario


def means(result: Played) -> tuple[float, float]:
    totals = result.totals[result.totals["requests"] > 0]
    each = totals["warming_loading_us"] / totals["requests"]
    return float(totals["warming_loading_us"].sum() / totals["requests"].sum()), float(np.mean(each))


def test_it_tries_its_own_kernel_and_every_fair_policy() -> None:
    kernels = {settings["kernel"] for settings in choices(POLICIES["oracle"])}
    fair = {
        policy.kernel
        for name, policy in POLICIES.items()
        if not policy.privileged and name not in ("none", "random", "reap")
    }
    assert kernels == fair | {POLICIES["oracle"].kernel}


@pytest.mark.parametrize("mode", ["paper", "realistic"])
def test_no_fair_policy_is_better_on_both_means(tiny: Scenario, mode: str) -> None:
    world = tiny.with_(mode=mode).world(window=0)
    oracle = means(play(world, POLICIES["oracle"]))
    for name, policy in POLICIES.items():
        if not policy.privileged and not isinstance(policy, RestorePolicy):
            other = means(play(world, policy))
            assert not (other[0] < oracle[0] - 1 and other[1] < oracle[1] - 1), name


def test_both_means_weigh_alike(tiny: Scenario) -> None:
    results = [play(tiny.world(window=0), POLICIES[name]) for name in ("none", "tyche")]
    best = best_of(results)
    assert means(results[best])[1] == min(means(each)[1] for each in results)


def test_the_time_of_all_tries_is_counted(tiny: Scenario) -> None:
    world = tiny.world(window=0)
    assert play(world, POLICIES["oracle"]).cpu_s > play(world, POLICIES["tyche"]).cpu_s
