"""The oracle frames every table: no fair policy is significantly better, and none beats the bound."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from agents.evidence.bound import bound
from agents.evidence.kept import kept_of
from agents.evidence.statistics import paired
from agents.playing.play import play
from agents.policies.builtin import POLICIES
from tyche_env.played import Played
from tyche_env.scenario import PREWARM, Conditions, Mode, PrewarmName, Scenario

WINDOWS = 6
PREWARMS = tuple(PREWARM)
MODES: tuple[Mode, ...] = ("paper", "realistic")
FAIR = tuple(name for name, policy in POLICIES.items() if not policy.privileged and name != "reap")


def delays_ms(result: Played) -> tuple[float, float]:
    """Mean over requests and mean over functions of warming + loading."""
    totals = result.totals[result.totals["requests"] > 0]
    each = totals["warming_loading_us"] / totals["requests"] / 1e3
    return float(totals["warming_loading_us"].sum() / totals["requests"].sum() / 1e3), float(np.mean(each))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prewarm", PREWARMS)
@pytest.mark.parametrize("name", ["small", "azure-8h", "azure-day", "alibaba-gentd26"])
def test_no_fair_policy_is_significantly_better_than_the_oracle_nor_beats_the_bound(
    name: str, prewarm: PrewarmName, mode: Mode, request: pytest.FixtureRequest
) -> None:
    if "gentd26" in name:
        request.getfixturevalue("trace_folder")
    scenario = Scenario.load(name)
    windows = scenario.windows()[:WINDOWS]
    values: dict[str, dict[tuple[str, int], tuple[float, float]]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for window in windows:
        world = scenario.world(window=window.index, conditions=Conditions(prewarm, mode))
        least = bound(world)
        for policy in (*FAIR, "oracle"):
            result = play(world, POLICIES[policy], record="none")
            values.setdefault(policy, {})[window.group, window.index] = delays_ms(result)
            kept = kept_of(result, scenario.prices)
            rows.setdefault(policy, []).append({"group": window.group, "window": window.index, "seed": 0} | kept)
            waited_us = result.totals["queue_us"].sum() + result.totals["warming_loading_us"].sum()
            assert waited_us / result.totals["requests"].sum() >= (least.request_mean_us or 0.0) - 1e-6
    for policy, which in product(FAIR, (0, 1)):
        own = {key: value[which] for key, value in values[policy].items()}
        best = {key: value[which] for key, value in values["oracle"].items()}
        metric = ("warming_loading_ms_mean", "warming_loading_ms_function_mean")[which]
        gap = paired(rows[policy], rows["oracle"], metric)["difference"]
        better = [key for key in own if own[key] < best[key]]
        assert gap["high"] is None or gap["high"] >= 0, f"{policy} is better than the oracle, in windows {better}"
