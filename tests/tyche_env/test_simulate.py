"""Running a world from start to end: recording, decision modes, progress, wrong arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tyche_env.played import Shares
from tyche_env.scenario import Conditions, Scenario
from tyche_env.simulate import EngineName, new_engine, simulate
from tyche_env.world import Kernel, World, WorldError

POLICIES = [Kernel.NONE, Kernel.LRU, Kernel.TYCHE, Kernel.CENSORED, Kernel.ORACLE]


def log_of(world: World, **options: Any) -> NDArray[Any]:
    """The log of a run."""
    log = simulate(world, **options).log
    assert log is not None
    return log


def world_of(scenario: Scenario, kernel: Kernel = Kernel.TYCHE, **options: Any) -> World:
    return scenario.world("test", 1, 3, kernel, **options)


@pytest.mark.parametrize("decision", ["event", 10])
@pytest.mark.parametrize("kernel", POLICIES)
def test_without_a_record_totals_are_equal_and_percentiles_near(tiny: Scenario, kernel: Kernel, decision: Any) -> None:
    with_log = simulate(world_of(tiny, kernel), decision=decision, record="all")
    without = simulate(world_of(tiny, kernel), decision=decision, record="none")
    assert with_log.log is not None
    assert without.log is None
    assert np.array_equal(with_log.totals, without.totals)
    assert with_log.totals["requests"].sum() == len(with_log.log) > 50
    assert with_log.counters == without.counters
    for name, values in with_log.integrals_mb_us.items():
        assert np.array_equal(values, without.integrals_mb_us[name])
    assert {name: bins.sum() for name, bins in without.histograms.items()} == dict.fromkeys(
        ("end_to_end", "warming_loading"), len(with_log.log)
    )
    for name, bins in with_log.histograms.items():
        assert np.array_equal(bins, without.histograms[name])
    # the histogram has neither interpolation nor single values: compare with the requests next to the quantile
    latency_us = np.sort(with_log.log["end_us"] - with_log.log["arrival_us"])
    for percent, found in zip((50, 95, 99), without.end_to_end_percentiles_us, strict=True):
        below, above = (np.percentile(latency_us, percent, method=method) for method in ("lower", "higher"))
        assert 0.99 * below <= found <= 1.01 * above


def test_percentiles_of_many_requests_are_within_one_per_cent() -> None:
    world = Scenario.load("small").world("test", 0, 0, Kernel.LRU)
    exact = simulate(world).end_to_end_percentiles_us
    assert simulate(world, record="none").end_to_end_percentiles_us == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("decision", ["event", 7, 10])
def test_both_engines_give_the_same_result(tiny: Scenario, decision: Any) -> None:
    engines: tuple[EngineName, ...] = ("compiled", "reference")
    first, second = (simulate(world_of(tiny), decision=decision, engine=engine) for engine in engines)
    assert first.log is not None
    assert second.log is not None
    assert np.array_equal(first.log, second.log)
    assert first.counters == second.counters
    assert np.array_equal(first.totals, second.totals)


def test_only_the_scored_window_counts(tiny: Scenario) -> None:
    world = world_of(tiny, Kernel.LRU)
    result = simulate(world)
    assert result.log is not None
    assert result.log["arrival_us"].min() >= world.score_from_us
    scored_us = world.end_us - world.score_from_us
    used = result.integrals_mb_us["busy"] + result.integrals_mb_us["idle"]
    assert (used <= world.node_memory_mb * scored_us).all()


@pytest.mark.parametrize("decision", [7, 11.5, 60, 4000])
def test_decisions_fall_on_multiples_of_the_interval_wherever_scoring_begins(tiny: Scenario, decision: float) -> None:
    asked = []

    class Spy:
        def __init__(self, engine: Any) -> None:
            self.engine = engine

        def ask_all(self) -> Any:
            asked.append(self.engine.now_us)
            return self.engine.ask_all()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

    world = world_of(tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tyche_env.simulate.new_engine", lambda *arguments: Spy(new_engine(*arguments)))
        simulate(world, decision=decision)
    assert asked == list(range(0, world.end_us, round(decision * 1e6)))


@pytest.mark.parametrize("decision", ["event", 10])
def test_progress_climbs_to_one_and_changes_nothing(tiny: Scenario, decision: Any) -> None:
    shares: list[float] = []
    log = log_of(world_of(tiny), decision=decision, watch=Shares(shares.append))
    assert len(shares) == 20
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1
    assert np.array_equal(log, log_of(world_of(tiny), decision=decision))


@pytest.mark.parametrize("decision", [0, -1, float("nan"), float("inf"), 1e-9, "weekly"])
def test_a_wrong_interval_is_refused(tiny: Scenario, decision: Any) -> None:
    with pytest.raises(WorldError, match="decision: needs 'event' or a positive number of seconds, got"):
        simulate(world_of(tiny), decision=decision)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_an_agent_is_not_asked(tiny: Scenario, engine: EngineName) -> None:
    world = world_of(tiny, Kernel.AGENT, conditions=Conditions(decision=10))
    with pytest.raises(WorldError, match="with kernel AGENT there is no rule to ask; an agent sets the priorities"):
        simulate(world, engine=engine)
    with pytest.raises(WorldError, match="with kernel AGENT nobody answers at events"):
        simulate(world, decision="event", engine=engine)


def test_the_mode_of_the_world_follows_the_decision(tiny: Scenario) -> None:
    event, interval = (world_of(tiny, conditions=Conditions(decision=each)) for each in ("event", 10))
    assert (event.decision, interval.decision) == ("event", 10)
    assert np.array_equal(log_of(event), log_of(interval, decision="event"))
    assert np.array_equal(log_of(event, decision=10), log_of(interval))
    assert not np.array_equal(log_of(event), log_of(interval))
