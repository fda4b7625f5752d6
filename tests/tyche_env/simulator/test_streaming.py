"""A streamed log holds the rows that a kept one holds, however few fit into it at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tyche_env.simulator.strategies import random_run
from tyche_env.metrics import latency_bins
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.simulator.engine import CompiledEngine
from tyche_env.simulator.streaming import LogStream
from tyche_env.stored import read_world, write_world
from tyche_env.world import World, WorldError


class Rows:
    """A sink that copies what it gets."""

    def __init__(self) -> None:
        self.parts: list[NDArray[Any]] = []

    def __call__(self, rows: NDArray[Any]) -> None:
        self.parts.append(rows.copy())

    @property
    def log(self) -> NDArray[Any]:
        return np.concatenate(self.parts)


def streamed(world: World, rows: int) -> tuple[NDArray[Any], LogStream, Rows]:
    sink = Rows()
    stream = LogStream(CompiledEngine(world, record=False), sink, rows)
    stream.advance_until(world.end_us)
    stream.drain()
    return sink.log if sink.parts else stream.log[:0], stream, sink


@pytest.mark.parametrize("crowd", [False, True])
def test_streams_of_random_worlds_are_their_logs(crowd: bool) -> None:
    waited = contended = 0
    for seed in range(60):
        world = random_run(seed, crowd).world
        engine = CompiledEngine(world)
        engine.advance_until(world.end_us)
        engine.drain()
        expected = engine.log[engine.log["arrival_us"] >= world.score_from_us]
        found, stream, _ = streamed(world, 2)
        assert np.array_equal(found, expected), f"random_run({seed}, {crowd})"
        assert stream.counters() == engine.counters()
        waited += int((expected["queue_us"] > 0).sum())
        contended += world.settings.contention
    assert waited > 50
    assert contended > 3


@pytest.mark.parametrize("decision", ["event", 10])
def test_a_sink_gets_what_a_record_keeps(tiny: Scenario, decision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tyche_env.simulate._streaming", lambda engine, sink: LogStream(engine, sink, 16))
    world = tiny.world("test", 1, 3, "tyche")
    sink = Rows()
    result = simulate(world, decision=decision, record=sink)
    kept = simulate(world, decision=decision)
    assert len(sink.parts) > 3
    assert result.log is None
    assert kept.log is not None
    assert np.array_equal(sink.log, kept.log)
    assert np.array_equal(result.totals, kept.totals)
    for name, bins in kept.histograms.items():
        assert np.array_equal(bins, result.histograms[name])
    assert result.counters == kept.counters


def test_percentiles_are_those_of_a_run_without_a_record(tiny: Scenario) -> None:
    world = tiny.world("test", 1, 3, "lru")
    assert (
        simulate(world, record=lambda rows: None).end_to_end_percentiles_us
        == simulate(world, record="none").end_to_end_percentiles_us
    )


def test_bins_follow_the_engine_s_rule() -> None:
    latency_us = np.array([0, 1, 127, 128, 255, 256, 257, 258, 511, 512, 1 << 20, (1 << 30) + 12345, 1 << 60])
    at = [np.flatnonzero(latency_bins(latency_us[k : k + 1]))[0] for k in range(len(latency_us))]
    assert at[:5] == [0, 1, 127, 128, 255]
    assert at[5] == at[6] == 256
    assert at[7] == 257
    assert at[8] == 383
    assert at[9] == 384
    assert at[10] == 13 * 128 + 128
    assert at[12] == len(latency_bins(latency_us)) - 1


def test_a_log_grows_where_more_requests_come_in_one_instant_than_it_holds(tiny: Scenario) -> None:
    world = tiny.world("test", 1, 3, "none")
    crowd = np.sort(np.where(np.arange(len(world.arrival_us)) % 3, world.arrival_us[0], world.arrival_us))
    world = replace(world, arrival_us=crowd)
    expected = simulate(world).log
    found, _, _ = streamed(world, 1)
    assert expected is not None
    assert np.array_equal(found, expected)


def test_mapped_arrivals_give_the_same_log(tiny: Scenario, tmp_path: Path) -> None:
    world = tiny.world("test", 1, 3, "tyche")
    write_world(world, tmp_path / "world")
    found, _, _ = streamed(read_world(tmp_path / "world"), 16)
    expected = simulate(world).log
    assert expected is not None
    assert np.array_equal(found, expected)


def test_the_reference_engine_refuses_to_stream(tiny: Scenario) -> None:
    with pytest.raises(WorldError, match="the reference engine keeps its log"):
        simulate(tiny.world(), engine="reference", record=lambda rows: None)
