"""A user's rule in the compiled core decides exactly as the built-in one that it repeats."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tyche_env.control.arrivals import BIN_US, BINS
from tyche_env.control.hooks import RuleError, prewarm_at
from tyche_env.control.kernels import tyche
from tyche_env.control.routing import fewest_busy
from tyche_env.played import Played
from tyche_env.rules import FOREVER, HOLD, LEAVE, NEVER, PrewarmPolicy, RoutingRule, RowKernel, Rules
from tyche_env.scenario import Conditions, Scenario
from tyche_env.simulate import new_engine, simulate
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.snapshot import snapshot, take_up
from tyche_env.state import CLUSTER_DTYPE
from tyche_env.world import Kernel, Prewarm, Routing, World, WorldError


@pytest.fixture(scope="module")
def world() -> World:
    return Scenario.load("small").world(kernel="tyche", conditions=Conditions("histogram"))


def under(world: World, **rules: Any) -> World:
    codes = {"kernel": Kernel.OWN, "prewarm": Prewarm.OWN, "routing": Routing.OWN}
    return replace(world, rules=Rules(**rules)).with_settings(**{name: codes[name] for name in rules})


def equal(first: Played, second: Played) -> bool:
    assert first.log is not None
    assert second.log is not None
    assert len(first.log) > 500
    integrals = all(np.array_equal(first.integrals_mb_us[k], second.integrals_mb_us[k]) for k in first.integrals_mb_us)
    return np.array_equal(first.log, second.log) and first.counters == second.counters and integrals


def tyche_again(st: Any, function: int) -> Any:
    row, s = st.functions[function], st.cluster[0]
    if row.window_count == 0:
        return LEAVE, 0, NEVER
    age_us = s.now_us - row.last_arrival_us
    return tyche(st.tables, s.load_ppm, s.offload_ppm, row.window_count, min(1 << 40, row.gap_us), age_us)


def fewest_again(st: Any, function: int) -> int:
    return fewest_busy(st, function)


def histogram_arrival(st: Any, function: int) -> int:
    """Columns of the memory: 240 bins of idle time, their sum, their squares, beyond them, time of the last end + 1."""
    m = st.prewarm_memory
    if st.functions[function].in_flight == 0 and m[function, BINS + 3] > 0:
        at = (st.cluster[0].now_us - (m[function, BINS + 3] - 1)) // BIN_US
        if at < BINS:
            m[function, at] += 1
            m[function, BINS] += 1
            m[function, BINS + 1] += 2 * m[function, at] - 1
        else:
            m[function, BINS + 2] += 1
    return 0


def histogram_keep(st: Any, function: int) -> int:
    m, now_us = st.prewarm_memory, st.cluster[0].now_us
    m[function, BINS + 3] = now_us + 1
    total, squares, beyond = m[function, BINS], m[function, BINS + 1], m[function, BINS + 2]
    if total < 10 or 240 * squares < 5 * total * total or 2 * beyond > total + beyond:
        return BINS * BIN_US
    head, tail, cumulative = -1, -1, 0
    for b in range(BINS):
        cumulative += m[function, b]
        if head < 0 and cumulative * 100 >= 5 * total:
            head = b
        if tail < 0 and cumulative * 100 >= 99 * total:
            tail = b
    tail_us = (tail + 1) * BIN_US * 11 // 10
    if head == 0:
        return tail_us
    if st.functions[function].in_flight == 0:
        wait_us = head * BIN_US * 9 // 10
        prewarm_at(st, function, now_us + wait_us, tail_us - wait_us)
    return 0


class TestARuleThatRepeatsABuiltInOne:
    @pytest.mark.parametrize("decision", ["event", 10.0])
    def test_kernel(self, world: World, decision: Any) -> None:
        own = under(world, kernel=RowKernel(tyche_again))
        assert equal(simulate(world, decision=decision), simulate(own, decision=decision))

    def test_pre_warming(self, world: World) -> None:
        own = under(world, prewarm=PrewarmPolicy(histogram_keep, histogram_arrival, memory=BINS + 4))
        built_in = simulate(world)
        assert built_in.counters["prewarms"] > 0
        assert equal(built_in, simulate(own))

    def test_routing(self, world: World) -> None:
        own = under(world, routing=RoutingRule(fewest_again))
        assert equal(simulate(world.with_settings(routing=Routing.FEWEST_BUSY)), simulate(own))

    def test_all_at_once(self, world: World) -> None:
        own = under(
            world,
            kernel=RowKernel(tyche_again),
            prewarm=PrewarmPolicy(histogram_keep, histogram_arrival, memory=BINS + 4),
            routing=RoutingRule(fewest_again),
        )
        assert equal(simulate(world.with_settings(routing=Routing.FEWEST_BUSY)), simulate(own))


def test_a_keep_alive_may_last_for_ever_or_end_at_once(world: World) -> None:
    def for_ever(st: Any, function: int) -> int:
        return FOREVER

    def not_at_all(st: Any, function: int) -> int:
        return 0

    assert simulate(under(world, prewarm=PrewarmPolicy(for_ever))).counters["expiries"] == 0
    kept = simulate(world.with_settings(prewarm=Prewarm.KEEP_ALIVE))
    gone = simulate(under(world, prewarm=PrewarmPolicy(not_at_all)))
    assert gone.counters["created"] > kept.counters["created"]
    assert gone.integrals_mb_us["idle"].sum() < kept.integrals_mb_us["idle"].sum()


def test_a_rule_remembers_in_columns_of_its_own(world: World) -> None:
    def count(st: Any, function: int) -> Any:
        st.kernel_memory[function, 1] += 1
        return HOLD, st.kernel_memory[function, 1], NEVER

    engine = new_engine(under(world, kernel=RowKernel(count, memory=2)))
    engine.advance_until(world.end_us)
    assert isinstance(engine, CompiledEngine)
    asked = engine.state.functions["arrivals"] + 1  # at time 0, and at each request
    assert engine.state.kernel_memory[:, 1].tolist() == asked.tolist()
    assert engine.state.functions["priority"].tolist() == asked.tolist()


def test_answers_out_of_range_do_no_harm(world: World) -> None:
    def wild(st: Any, function: int) -> Any:
        return 7, -(1 << 60), 0

    def nowhere(st: Any, function: int) -> int:
        return 99

    quiet = replace(world, arrival_us=world.arrival_us[:0], arrival_function=world.arrival_function[:0])
    engine = new_engine(under(quiet, kernel=RowKernel(wild)))
    engine.advance_until(10_000)
    assert isinstance(engine, CompiledEngine)
    assert engine.state.functions["decision"].tolist() == [LEAVE] * world.function_count
    assert engine.state.functions["priority"].max() == 0
    # "at once" is a millisecond later, so time passes
    assert int(engine.state.cluster["events"][0]) == 10 * world.function_count
    # a node that is none: the walk from the function's home takes over
    log = simulate(under(world, routing=RoutingRule(nowhere))).log
    assert log is not None
    assert set(log["node"]) == set(range(world.node_count))


def test_a_copy_of_a_running_engine_goes_on_alike(world: World) -> None:
    engine = new_engine(under(world, kernel=RowKernel(tyche_again)))
    engine.advance_until(world.score_from_us)
    assert isinstance(engine, CompiledEngine)
    other = copy.deepcopy(engine)
    for each in (engine, other):
        each.drain()
    assert np.array_equal(engine.log, other.log)


def test_a_snapshot_is_taken_up_whatever_addresses_it_holds(world: World) -> None:
    own = under(world, kernel=RowKernel(tyche_again))
    engine = new_engine(own)
    engine.advance_until(world.score_from_us)
    assert isinstance(engine, CompiledEngine)
    tables = snapshot(engine)
    # as another process would find it, where the rule lies elsewhere
    tables["cluster"].view(CLUSTER_DTYPE).reshape(-1)["kernel_rule"] = 1
    other = take_up(own, tables)
    for each in (engine, other):
        each.drain()
    assert np.array_equal(engine.log, other.log)


def test_what_cannot_run_is_refused_by_name(world: World) -> None:
    def texts(st: Any, function: int) -> Any:
        return "hold", 0, 0

    with pytest.raises(RuleError, match=r"texts, .*test_rules\.py, line \d+: cannot be compiled \(.* three integers"):
        simulate(under(world, kernel=RowKernel(texts)))
    with pytest.raises(WorldError, match="the setting routing is OWN, but there is no rule for it"):
        simulate(world.with_settings(routing=Routing.OWN))
    with pytest.raises(WorldError, match="the reference engine knows no rules of your own"):
        simulate(under(world, kernel=RowKernel(tyche_again)), engine="reference")
