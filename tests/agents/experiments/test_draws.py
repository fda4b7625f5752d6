"""Draws: chosen by the trace's own statistics, the same for every policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
from tyche_env.scenario import Scenario


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
    assert merged([first, second]).functions == first.functions + second.functions


def test_a_history_ends_with_the_piece_and_says_what_is_past(scenario: Scenario) -> None:
    draw = draws(scenario.trace, "Normal", 1, 8)[0]
    world = world_of(scenario, draw)
    for place, (counts, past) in enumerate(DrawScene(scenario, draw, "openwhisk").history(world).minutes()):
        assert len(counts) == past + 300
        assert counts[past:].sum() == (world.arrival_function == place).sum()


def test_a_band_that_nothing_is_in_is_refused(scenario: Scenario) -> None:
    with pytest.raises(DrawError, match="no function of the trace qualifies"):
        draws(scenario.trace, "Predictable", 1, 8, Band(0.01, 0.02))
