"""What an observation shows, column by column, against definitions computed from requests, log and actions alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.conftest import MakeEnv
from tests.tyche_env.simulator.test_rules import SECOND, a_world, function
from tyche_env.backend import Backend
from tyche_env.draws import Concern, draw_u64
from tyche_env.env import PreloadEnv
from tyche_env.observe import observe
from tyche_env.simulator.backend import SimulatedBackend
from tyche_env.spaces import TABLES, column, table
from tyche_env.world import FUNCTION_FIELDS, Decision, Kernel, Routing, World

LEAVE, HOLD, OFFLOAD = Decision
ONE = 1 << 20
NONE_S = 50 * 86_400.0
Rows = dict[str, NDArray[np.float32]]


def seen(backend: Backend, world: World, padding: int = 0, planted: float = 0) -> Rows:
    """The observation of a backend as rows, by table, over values that were there before."""
    rows = {
        "functions": world.function_count + padding,
        "nodes": world.node_count + padding,
        "gpus": world.gpu_count + padding,
        "cluster": 1,
    }
    sizes = [count * len(TABLES[name]) for name, count in rows.items()]
    flat = np.full(sum(sizes), planted, np.float32)
    observe(backend.handles, flat, rows["functions"], rows["nodes"], rows["gpus"])
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return {name: part.reshape(-1, len(TABLES[name])) for name, part in zip(rows, parts, strict=True)}


def named(rows: Rows, name: str, row: int = 0) -> dict[str, float]:
    return dict(zip((c.name for c in TABLES[name]), rows[name][row].tolist(), strict=True))


# -- every column has a writer -----------------------------------------------------------------------------------------


def never_told(observations: list[Rows]) -> list[str]:
    """Columns that nothing writes: they keep what was planted in them, or are 0 however much happens."""
    return [
        f"{name}.{c.name}"
        for name, columns in TABLES.items()
        for at, c in enumerate(columns)
        if not all(np.isfinite(rows[name][:, at]).all() for rows in observations)
        or not any(rows[name][:, at].any() for rows in observations)
    ]


def test_every_column_of_every_table_is_written(make_env: MakeEnv) -> None:
    nodes = [{"count": 1, "memory_mb": 2500}, {"count": 1, "memory_mb": 2500, "gpus": 1, "gpu_memory_mb": 1200}]
    env = make_env({"cluster.nodes": nodes, "functions.container_mb": 2500}, decision_interval_s=1)
    env.reset(seed=0)
    rng, observations, truncated = np.random.default_rng(0), [], False
    while not truncated:
        observations.append(seen(env.backend, env.world, planted=np.nan))
        truncated = env.step(rng.uniform(-1, 1, (env.max_functions, 2)).astype(np.float32))[3]
    assert never_told(observations) == []
    for rows in observations:
        rows["nodes"][:, column("nodes", "queue_count")] = 0
        rows["functions"][3, column("functions", "survival")] = np.nan
    assert never_told(observations) == ["functions.survival", "nodes.queue_count"]


# -- the history of a function -----------------------------------------------------------------------------------------


def expected_history(arrival_us: NDArray[np.int64], now_us: int, window: int, prior_gap_us: int) -> dict[str, float]:
    """Columns that only depend on a function's own arrivals, from their definitions."""
    past = arrival_us[arrival_us <= now_us]
    gaps_s = np.diff(past) / 1e6
    ages = {"age_s": NONE_S, "window_age_s": NONE_S}
    if len(past) == 0:
        history = TABLES["functions"][: column("functions", "in_flight_count")]
        return {c.name: 0.0 for c in history} | ages
    seen_us = past[-window:]
    n = len(seen_us)
    age_s, window_age_s = (now_us - past[-1]) / 1e6, (now_us - seen_us[0]) / 1e6
    gap_us = prior_gap_us if n == 1 else max(1, (seen_us[-1] - seen_us[0]) // n)
    censored_gap_s = max(window_age_s, 60.0) if n == 1 else max(1e-6, window_age_s / n)
    last = gaps_s[-32:]
    alive = last[last > age_s]

    minutes = (np.diff(past) // 60_000_000).tolist()
    age_minute = int(age_s // 60)
    survivors = sum(m >= age_minute for m in minutes)
    hits = sum(m in (age_minute, age_minute + 1) for m in minutes)
    if len(minutes) < 4:
        from_bins = 1 - np.exp(-60 / censored_gap_s)
    else:
        from_bins = hits / survivors if survivors and age_minute < 240 else 0.0

    return {
        "arrivals_count": len(past),
        "window_count": n,
        "age_s": age_s,
        "window_age_s": window_age_s,
        "mean_gap_s": gap_us / 1e6,
        "window_rate_per_s": 1e6 / gap_us,
        "censored_rate_per_s": 1 / censored_gap_s,
        **{
            f"rate_{minutes}min_per_s": np.exp(-(now_us - past) / (60e6 * minutes)).sum() / (60 * minutes)
            for minutes in (1, 10, 60)
        },
        "last_gap_s": gaps_s[-1] if len(gaps_s) else 0.0,
        "mean_gap_3_s": gaps_s[-3:].mean() if len(gaps_s) else 0.0,
        "gap_cov": min(100.0, last.std() / last.mean()) if len(last) and last.mean() > 0 else 0.0,
        "hazard_10s": np.mean(alive <= age_s + 10) if len(alive) else 0.0,
        "hazard_60s": np.mean(alive <= age_s + 60) if len(alive) else 0.0,
        "survival": np.mean(last > age_s) if len(last) else 1.0,
        "poisson_60s": 1 - np.exp(-60e6 / gap_us),
        "censored_60s": 1 - np.exp(-60 / censored_gap_s),
        "histogram_60s": from_bins,
    }


TABULATED = ("poisson_60s", "censored_60s", "histogram_60s")
"""Read off a table with steps of 1/256 in the exponent."""


@pytest.mark.parametrize("window", [0, 1, 2])
def test_history_columns_are_what_they_say(make_env: MakeEnv, window: int) -> None:
    env = make_env()
    env.reset(seed=window, options={"window": window})
    world = env.world
    by_function = [world.arrival_us[world.arrival_function == f] for f in range(world.function_count)]
    checked = 0
    while True:
        observation, _, _, truncated, info = env.step(np.zeros((env.max_functions, 2), np.float32))
        if round(info["time_s"]) % 90 == 0:
            for f, arrival_us in enumerate(by_function):
                row = table(observation, "functions")[f]
                now_us = round(info["time_s"] * 1e6)
                expected = expected_history(arrival_us, now_us, world.settings.window, world.settings.prior_gap_us)
                for name, value in expected.items():
                    near = pytest.approx(value, abs=1 / 256) if name in TABULATED else pytest.approx(value, 1e-5, 1e-5)
                    assert row[column("functions", name)] == near, (name, f, info["time_s"])
                    checked += 1
        if truncated:
            break
    assert checked > 3000


def test_a_function_that_was_never_requested_has_the_age_bound_and_no_rates() -> None:
    backend, world = SimulatedBackend(), a_world([function(), function()], [(10, 0)])
    backend.reset(world)
    backend.advance_until_us(20 * SECOND)
    silent = named(seen(backend, world), "functions", 1)
    history = expected_history(np.zeros(0, np.int64), 20 * SECOND, 10, 1)
    assert {name: silent[name] for name in history} == history
    # after a single request nothing is known of gaps
    assert named(seen(backend, world), "functions", 0)["survival"] == 1


# -- requests and containers -------------------------------------------------------------------------------------------


def test_request_columns_follow_from_the_log(make_env: MakeEnv) -> None:
    env = make_env({"cluster.nodes": [{"count": 1, "memory_mb": 5000}]}, decision_interval_s=1)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    observations = []
    while True:
        observation, _, _, truncated, info = env.step(rng.uniform(-1, 1, (env.max_functions, 2)).astype(np.float32))
        observations.append((round(info["time_s"] * 1e6), observation))
        if truncated:
            break
    log = env.backend.log()
    start_us = log["arrival_us"] + log["queue_us"]
    most_queued = 0.0
    for now_us, observation in observations:
        arrived, started, ended = (times <= now_us for times in (log["arrival_us"], start_us, log["end_us"]))
        counts = {"in_flight_count": arrived & ~ended, "queued_count": arrived & ~started}
        totals = dict(zip((c.name for c in TABLES["cluster"]), observation["cluster"].tolist(), strict=True))
        for name, which in (counts | {"running_count": started & ~ended}).items():
            expected = np.bincount(log["function"][which], minlength=env.max_functions)
            assert np.array_equal(table(observation, "functions")[:, column("functions", name)], expected)
            if name in counts:
                assert totals[name] == expected.sum()
        # every container has the same size here, and none is created ahead of a request
        size_mb = int(env.world.functions.container_mb[0])
        assert totals["busy_mb"] == size_mb * (started & ~ended).sum()
        assert observation["nodes"][column("nodes", "queue_count")] == totals["queued_count"]
        most_queued = max(most_queued, totals["queued_count"])
    assert most_queued > 0


def worked_out() -> World:
    """f0 may use the GPU; one container fits.  What happens is in the test that follows."""
    stages = {"container_mb": 1000, "hold_mb": 400, "peak_mb": 500, "transfer": 1, "gpu_inference": 1}
    return a_world(
        [function(gpu_mb=300, **stages), function(**stages), function(container_mb=1000, hold_mb=700)],
        [(10, 0), (12, 1)],
        nodes=(1500,),
        gpu_mb=1000,
        kernel=Kernel.AGENT,
        event_mode=False,
        offload_us=2 * SECOND,
    )


def test_container_columns_of_an_example_worked_out_by_hand() -> None:
    """Cold on the GPU until 18; f1, which queues from 12, evicts f0's container at 18 and runs until 28.

    At 30 f0, f1 and f2 are to be held.  f0 loads beside f1 until 35 and is on the GPU at 36; f2 finds no room.
    At 40 everything is off-loaded, until 42.
    """
    world = replace(worked_out(), clock_us=86_390 * SECOND)
    backend = SimulatedBackend()
    backend.reset(world)

    def at(second: float) -> Rows:
        backend.advance_until_us(round(second * SECOND))
        return seen(backend, world)

    def functions(rows: Rows, name: str) -> list[float]:
        values: list[float] = rows["functions"][:, column("functions", name)].tolist()
        return values

    def decide(*memory: tuple[Decision, float]) -> None:
        decision = np.repeat(np.array([[d] for d, _ in memory], np.int8), 2, axis=1)
        backend.set_priorities(decision, np.repeat(np.array([[round(p * ONE)] for _, p in memory]), 2, axis=1))

    empty = {"memory_mb": 1500, "free_mb": 1500, "busy_mb": 0, "idle_mb": 0, "preload_mb": 0, "queue_count": 0}
    busy = empty | {"free_mb": 500, "busy_mb": 1000}
    idle = empty | {"free_mb": 500, "idle_mb": 1000}

    rows = at(5)
    assert named(rows, "nodes") == empty
    assert named(rows, "gpus") == {"memory_mb": 1000, "free_mb": 1000, "containers_count": 0, "node": 0}
    cluster = named(rows, "cluster")
    assert (cluster["elapsed_s"], cluster["time_of_day_s"]) == (5, 86_395)
    assert (cluster["memory_mb"], cluster["demand_mb"], cluster["gpu_memory_mb"]) == (1500, 1500, 1000)
    assert named(rows, "functions", 0)["group_nodes"] == 1
    profile = {"hold_mb": 400, "peak_mb": 500, "gpu_mb": 300, "saved_s": 5, "transfer_s": 1, "init_s": 1}
    assert {name: named(rows, "functions", 0)[name] for name in profile} == profile
    assert functions(rows, "inference_s") == [4, 4, 4]

    rows = at(15)  # f0 runs, on the GPU; f1 waits, and a new day has begun
    assert named(rows, "nodes") == busy | {"queue_count": 1}
    assert functions(rows, "running_count") == [1, 0, 0]
    assert functions(rows, "queued_count") == [0, 1, 0]
    assert functions(rows, "in_flight_count") == [1, 1, 0]
    assert named(rows, "gpus") == {"memory_mb": 1000, "free_mb": 700, "containers_count": 1, "node": 0}
    assert named(rows, "cluster")["time_of_day_s"] == 5

    rows = at(20)  # f1 runs where f0 was
    assert functions(rows, "running_count") == [0, 1, 0]
    assert named(rows, "gpus")["free_mb"] == 1000

    rows = at(29)  # f1's process is kept
    assert named(rows, "nodes") == idle | {"preload_mb": 400}
    assert functions(rows, "held_count") == [0, 1, 0]
    assert functions(rows, "owned_idle_count") == [0, 1, 0]
    assert named(rows, "cluster")["pressure"] == pytest.approx(1000 / 1500)

    decide(*[(HOLD, 0.5), (HOLD, 0.25), (HOLD, 1.0)])
    rows = at(30)
    assert functions(rows, "decision") == [HOLD, HOLD, HOLD]
    assert functions(rows, "priority") == [0.5, 0.25, 1.0]
    assert functions(rows, "loading_count") == [1, 0, 0]
    assert named(rows, "nodes") == idle | {"preload_mb": 900}
    cluster = named(rows, "cluster")
    assert cluster["loading_count"] == 1
    # f2 waits for memory; its density is priority x (2 s + 3 s) / 700 MB
    assert cluster["price_s_per_mb"] == pytest.approx(5 / 700, abs=1e-6)

    rows = at(34.5)  # loaded at 34, transferred until 35
    assert functions(rows, "held_count") == [1, 1, 0]
    assert named(rows, "nodes")["preload_mb"] == 800
    assert named(rows, "cluster")["gpu_free_mb"] == 700
    rows = at(36)
    assert functions(rows, "gpu_count") == [1, 0, 0]
    assert functions(rows, "held_count") == [0, 1, 0]

    backend.advance_until_us(40 * SECOND)
    decide(*[(OFFLOAD, 0)] * 3)
    rows = at(41)
    assert functions(rows, "decision") == [OFFLOAD] * 3
    assert functions(rows, "priority") == [0, 0, 0]
    assert functions(rows, "gpu_count") == functions(rows, "held_count") == [0, 0, 0]
    assert named(rows, "nodes")["preload_mb"] == 800  # until it is off-loaded
    rows = at(42)
    assert named(rows, "nodes") == idle
    assert named(rows, "cluster")["price_s_per_mb"] == 0

    decide(*[(LEAVE, 0)] * 3)
    assert functions(at(43), "decision") == [LEAVE] * 3


def test_totals_are_sums_over_nodes_and_gpus(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(150):
        observation, *_ = env.step(rng.uniform(-1, 1, (env.max_functions, 2)).astype(np.float32))
        cluster = dict(zip((c.name for c in TABLES["cluster"]), observation["cluster"].tolist(), strict=True))
        for name in ("memory_mb", "busy_mb", "idle_mb", "preload_mb"):
            assert cluster[name] == table(observation, "nodes")[:, column("nodes", name)].sum()
        nodes = {c.name: table(observation, "nodes")[:, i] for i, c in enumerate(TABLES["nodes"])}
        assert np.array_equal(nodes["memory_mb"], nodes["free_mb"] + nodes["busy_mb"] + nodes["idle_mb"])
        for total, name in (("gpu_memory_mb", "memory_mb"), ("gpu_free_mb", "free_mb")):
            assert cluster[total] == table(observation, "gpus")[:, column("gpus", name)].sum()
        loading = table(observation, "functions")[:, column("functions", "loading_count")]
        assert cluster["loading_count"] == loading.sum()
        assert cluster["pressure"] == pytest.approx(cluster["idle_mb"] / cluster["demand_mb"])


def test_decision_and_priority_columns_are_those_in_force(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    priority = np.zeros(env.max_functions)
    for _ in range(100):
        action = rng.uniform(-1, 1, (env.max_functions, 2)).astype(np.float32)
        action[rng.random(env.max_functions) < 0.3] = 0
        observation, *_ = env.step(action)
        memory = action[:, 0].astype(np.float64)
        decision = np.where(memory > 0.05, HOLD, np.where(memory < -0.05, OFFLOAD, LEAVE))
        # leaving a function as it is leaves its priority as it was
        priority = np.where(decision == LEAVE, priority, np.maximum(0, (memory - 0.05) / 0.95))
        functions = table(observation, "functions")
        assert np.array_equal(functions[:, column("functions", "decision")], decision)
        assert functions[:, column("functions", "priority")] == pytest.approx(priority, abs=2 / ONE)


def test_each_node_shows_its_own_queue() -> None:
    # a request a node runs for long, the other nine wait where the draw of their number says
    world = a_world([function(inference=500)], [(k, 0) for k in range(12)], nodes=(1000,) * 3, kernel=Kernel.NONE)
    backend = SimulatedBackend()
    backend.reset(world)
    backend.advance_until_us(20 * SECOND)
    nodes = [draw_u64(world.settings.seed, Concern.OVERFLOW, 0, ordinal) % 3 for ordinal in range(3, 12)]
    expected = [nodes.count(node) for node in range(3)]
    assert len(set(expected)) > 1
    rows = seen(backend, world)
    assert rows["nodes"][:, column("nodes", "queue_count")].tolist() == expected
    assert named(rows, "cluster")["queued_count"] == 9


@pytest.mark.parametrize(("inference_s", "nodes"), [(1, 1), (13, 1), (14, 2), (26, 2), (27, 3), (60, 4)])
def test_a_routing_group_grows_with_the_load_of_its_function(inference_s: float, nodes: int) -> None:
    # Ten requests within 45 s, of 1000 MB each: a load of inference_s x 222 MB.  The group is the fewest nodes of
    # 3000 MB that have more than that.
    world = a_world(
        [function(inference=inference_s)],
        [(5 * i, 0) for i in range(10)],
        nodes=(3000,) * 4,
        routing=Routing.RING,
        kernel=Kernel.AGENT,
        event_mode=False,
    )
    backend = SimulatedBackend()
    backend.reset(world)
    backend.advance_until_us(45 * SECOND)
    assert named(seen(backend, world), "functions")["group_nodes"] == nodes


# -- bounds and padding ------------------------------------------------------------------------------------------------


def test_every_observation_lies_within_its_space(make_env: MakeEnv) -> None:
    env = make_env(max_functions=12)
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    truncated = False
    while not truncated:
        assert env.observation_space.contains(observation)
        observation, _, _, truncated, _ = env.step(rng.uniform(-1, 1, (12, 2)).astype(np.float32))
    assert env.observation_space.contains(observation)


def test_extreme_worlds_stay_within_the_bounds() -> None:
    world = replace(
        a_world([function(library=0, model=0)], [(0, 0)] * 50 + [(4e6, 0)] * 3, nodes=(100_000,), end=4.3e6),
        clock_us=86_399_999_999,
    )
    backend = SimulatedBackend()
    backend.reset(world)
    for t_us in (0, 1, SECOND, 3_000_000 * SECOND, 4_000_000 * SECOND, world.end_us):
        backend.advance_until_us(t_us)
        for name, rows in seen(backend, world).items():
            for c, values in zip(TABLES[name], rows.T, strict=True):
                assert np.isfinite(values).all(), c.name
                assert (values >= 0).all(), c.name
                assert (values <= np.float32(c.high)).all(), c.name


def masks(env: PreloadEnv, observation: dict[str, Any]) -> dict[str, list[float]]:
    return {name: observation[f"{name}_mask"].tolist() for name in ("functions", "nodes", "gpus")}


def test_padding_is_zero_and_masked(make_env: MakeEnv) -> None:
    env, padded = make_env(), make_env(max_functions=13)
    observation, _ = env.reset(seed=0)
    wide, _ = padded.reset(seed=0)
    assert masks(env, observation) == {"functions": [1] * 10, "nodes": [1, 1], "gpus": [1]}
    assert masks(padded, wide) == {"functions": [1] * 10 + [0] * 3, "nodes": [1, 1], "gpus": [1]}
    for _ in range(60):
        observation, *_ = env.step(np.ones((10, 2), np.float32))
        wide, *_ = padded.step(np.ones((13, 2), np.float32))
    assert np.array_equal(table(wide, "functions")[:10], table(observation, "functions"))
    assert not table(wide, "functions")[10:].any()
    for name in ("nodes", "gpus", "cluster"):
        assert np.array_equal(wide[name], observation[name])


def test_without_gpus_their_table_is_one_masked_row(make_env: MakeEnv) -> None:
    env = make_env({"cluster.nodes": [{"count": 2, "memory_mb": 6000}]})
    observation, _ = env.reset(seed=0)
    assert masks(env, observation)["gpus"] == [0]
    assert not observation["gpus"].any()
    assert env.observation_space.contains(observation)


def test_rows_beyond_the_worlds_own_stay_zero() -> None:
    backend, world = SimulatedBackend(), worked_out()
    backend.reset(world)
    backend.advance_until_us(15 * SECOND)
    plain, wide = seen(backend, world), seen(backend, world, padding=3)
    for name, rows in plain.items():
        assert np.array_equal(wide[name][: len(rows)], rows)
        assert not wide[name][len(rows) :].any()


def test_static_columns_are_the_worlds(make_env: MakeEnv) -> None:
    env = make_env()
    observation, _ = env.reset(seed=0)
    functions, profile = table(observation, "functions"), env.world.functions
    assert set(FUNCTION_FIELDS) >= {"hold_mb", "peak_mb", "gpu_mb", "transfer_us", "init_us", "inference_us"}
    for name in ("hold_mb", "peak_mb", "gpu_mb"):
        assert np.array_equal(functions[:, column("functions", name)], getattr(profile, name))
    for name in ("transfer", "init", "inference"):
        values = functions[:, column("functions", f"{name}_s")]
        assert values == pytest.approx(getattr(profile, f"{name}_us") / 1e6)
    saved = functions[:, column("functions", "saved_s")]
    assert saved == pytest.approx((profile.library_us + profile.model_us) / 1e6)
