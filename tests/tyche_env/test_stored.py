"""A world on disk is the world that was written, and its arrivals are mapped."""

from __future__ import annotations

import mmap
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from tyche_env.rules import RoutingRule, Rules
from tyche_env.scenario import Scenario
from tyche_env.stored import read_world, write_world
from tyche_env.world import Routing, World, WorldError


@pytest.fixture
def world(tiny: Scenario) -> World:
    return tiny.world("test", 1, 3, "tyche")


def test_what_is_read_is_what_was_written(world: World, tmp_path: Path) -> None:
    write_world(world, tmp_path / "w")
    found = read_world(tmp_path / "w").validate()
    for field in fields(World):
        before, after = getattr(world, field.name), getattr(found, field.name)
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype
            assert np.array_equal(before, after)
        elif field.name == "functions":
            for column in fields(before):
                assert np.array_equal(getattr(before, column.name), getattr(after, column.name))
        else:
            assert before == after
    assert isinstance(found.settings.routing, Routing)


def test_arrivals_are_mapped_and_cannot_be_written(world: World, tmp_path: Path) -> None:
    write_world(world, tmp_path / "w")
    arrivals = read_world(tmp_path / "w").arrival_us
    assert isinstance(arrivals.base, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        arrivals[0] = 1


def test_a_world_without_requests_can_be_kept(world: World, tmp_path: Path) -> None:
    none = replace(world, arrival_us=world.arrival_us[:0], arrival_function=world.arrival_function[:0])
    write_world(none, tmp_path / "w")
    assert len(read_world(tmp_path / "w").arrival_us) == 0


def test_rules_of_one_s_own_are_refused(world: World, tmp_path: Path) -> None:
    own = replace(world, rules=Rules(routing=RoutingRule(lambda st, function: 0)))
    with pytest.raises(WorldError, match="rules of your own cannot be written"):
        write_world(own, tmp_path / "w")


def test_what_is_no_world_is_refused_by_name(world: World, tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"nothing: is no folder of a world \(it has no world.json\)"):
        read_world(tmp_path / "nothing")
    write_world(world, tmp_path / "w")
    (tmp_path / "w" / "gpu_node.npy").unlink()
    with pytest.raises(WorldError, match=r"gpu_node.npy: is missing or no whole table \("):
        read_world(tmp_path / "w")
    (tmp_path / "w" / "world.json").write_text("{")
    with pytest.raises(WorldError, match=r"world.json, line 1: is no JSON"):
        read_world(tmp_path / "w")
    (tmp_path / "w" / "world.json").write_text('{"settings": {"sped": 1}}')
    with pytest.raises(WorldError, match="does not fit this version, see key 'sped'"):
        read_world(tmp_path / "w")
