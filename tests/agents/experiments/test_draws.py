"""Draws: chosen by the trace's own statistics, the same for every policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from agents.experiments import draws as draws_module
from agents.experiments.draws import (
    CLASSES,
    Band,
    DrawError,
    DrawScene,
    arrivals_of,
    class_of,
    draws,
    merged,
    world_of,
)
from traces.counts import MINUTE_US
from tyche_env.scenario import PREWARM, Scenario


@pytest.fixture
def scenario(day: Path) -> Scenario:
    return Scenario.load("paper-single-node")


def test_classes_are_those_of_the_gaps() -> None:
    assert class_of(np.array([0, 10, 20, 30])) == "Predictable"
    assert class_of(np.array([0, 1, 2, 30])) == "Normal"
    assert class_of(np.array([*range(100), 10_000])) == "Bursty"
    assert class_of(np.array([0, 10])) is None


@pytest.mark.parametrize("name", CLASSES)
def test_each_piece_is_of_its_class_and_in_the_band(scenario: Scenario, name: str) -> None:
    for draw in draws(scenario.trace, name, 3, 8):
        assert len(set(draw.functions)) == 8
        for function, start_us in zip(draw.functions, draw.starts_us, strict=True):
            arrival_us = arrivals_of(scenario.trace, function)
            own = arrival_us[(arrival_us >= start_us) & (arrival_us < start_us + 240 * 60_000_000)]
            assert class_of(own) == name
            assert 240 / 30 <= len(own) <= 240 / 3


def test_more_draws_add_to_the_same_ones(scenario: Scenario) -> None:
    assert draws(scenario.trace, "Normal", 5, 8)[:2] == draws(scenario.trace, "Normal", 2, 8)


def test_the_world_replays_exactly_the_pieces(scenario: Scenario) -> None:
    draw = draws(scenario.trace, "Predictable", 1, 8)[0]
    world = world_of(scenario, draw)
    assert world.end_us - world.score_from_us == 240 * 60_000_000
    for place, (function, start_us) in enumerate(zip(draw.functions, draw.starts_us, strict=True)):
        begin_us = start_us - world.score_from_us
        own = world.arrival_us[world.arrival_function == place] + begin_us
        whole = arrivals_of(scenario.trace, function)
        assert own.tolist() == whole[(whole >= begin_us) & (whole < begin_us + world.end_us)].tolist()


def test_clones_of_a_function_get_the_models_in_turn(scenario: Scenario) -> None:
    world = world_of(scenario, draws(scenario.trace, "all", 1, 80)[0])
    assert world.function_count == 80
    assert world.functions.model_us[:8].tolist() == world.functions.model_us[72:].tolist()


def test_merging_puts_the_pieces_side_by_side(scenario: Scenario) -> None:
    first, second = draws(scenario.trace, "all", 1, 8)[0], draws(scenario.trace, "Normal", 1, 8)[0]
    both = merged([second, first])
    assert both.functions == second.functions + first.functions
    assert both.starts_us == second.starts_us + first.starts_us
    assert (both.name, both.index) == ("Normal-8-0+all-8-0", 0)


def every(gap_min: int, minutes: int) -> np.ndarray:
    return np.arange(0, minutes, gap_min, dtype=np.int64) * MINUTE_US


def test_who_is_in_the_band_by_hand(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    # windows of 60 minutes after a warm-up of 10, in 100 minutes: from 10, 20, 30 and 40
    settings = scenario.trace.model_copy(update={"window_min": 60, "warm_up_min": 10})
    arrivals = [
        every(5, 100),  # 12 in each window
        every(3, 100),  # 20 in each, the most
        np.sort(np.append(every(3, 100), every(3, 100)[25] + 1)),  # 21 in those that hold the minute 75
        every(12, 60),  # in the first hour only: 4 from 10 on, and fewer later
        every(15, 100),  # 4 in each, too few
        np.array([*np.linspace(40, 41, 9), 95.0]) * MINUTE_US,  # a burst, and another request
    ]
    counts = np.array([np.bincount((each // MINUTE_US).astype(int), minlength=100) for each in arrivals], np.int32)
    table = SimpleNamespace(counts=counts, names=tuple("abcdef"), end_us=100 * MINUTE_US)
    monkeypatch.setattr(draws_module, "_counts", lambda _: table)
    monkeypatch.setattr(draws_module, "arrivals_of", lambda _, function: np.asarray(arrivals[function], np.int64))
    found = draws_module.candidates.__wrapped__(settings, "all")
    starts = {function: (each // MINUTE_US).tolist() for function, each in found.items()}
    assert starts == {0: [10, 20, 30, 40], 1: [10, 20, 30, 40], 2: [10], 5: [10, 20, 30, 40]}
    wide = Band(shortest_gap_min=2, longest_gap_min=15, least_requests=4)
    found = draws_module.candidates.__wrapped__(settings, "all", wide)
    assert {function: len(each) for function, each in found.items()} == {0: 4, 1: 4, 2: 4, 3: 1, 4: 4, 5: 4}
    # the class is that of the window: of the burst alone, or of the burst and one request long after it
    even = draws_module.candidates.__wrapped__(settings, "Predictable")
    assert (even[5] // MINUTE_US).tolist() == [10, 20, 30]
    uneven = draws_module.candidates.__wrapped__(settings, "Normal")
    assert {function: (each // MINUTE_US).tolist() for function, each in uneven.items()} == {5: [40]}


def test_a_case_has_its_own_pre_warming_and_settings(scenario: Scenario) -> None:
    scene = DrawScene(scenario, draws(scenario.trace, "all", 1, 8)[0], "faascache", settings={"command_us": 123})
    world = scene.world(scene.requests())
    assert (world.settings.prewarm, world.settings.command_us) == (PREWARM["faascache"], 123)
    places = [f"{function}-{place}" for place, function in enumerate(scene.draw.functions)]
    assert list(world.names) == places
    # it alone has a forecast, of every minute of the five hours
    assert world.forecast.size == 0
    assert replace(scene, prewarm="icebreaker").world(scene.requests()).forecast.shape == (8, 300)
    modes = {scene.world_key, replace(scene, mode="realistic").world_key}
    assert len(modes) == 2


def test_a_history_ends_with_the_piece_and_says_what_is_past(scenario: Scenario) -> None:
    draw = draws(scenario.trace, "Normal", 1, 8)[0]
    world = world_of(scenario, draw)
    for place, (counts, past) in enumerate(DrawScene(scenario, draw, "openwhisk").history(world).minutes()):
        assert len(counts) == past + 300
        assert counts[past:].sum() == (world.arrival_function == place).sum()


def test_a_band_that_nothing_is_in_is_refused(scenario: Scenario) -> None:
    with pytest.raises(DrawError, match="no function of the trace qualifies"):
        draws(scenario.trace, "Predictable", 1, 8, Band(0.01, 0.02))
