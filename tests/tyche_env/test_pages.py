"""Pages of mapped arrays: given back when read, and never where that would lose anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tyche_env.pages import Pages
from tyche_env.scenario import Scenario
from tyche_env.stored import read_world, write_world

ENTRIES = 1 << 17


def mapped(folder: Path, mode: Literal["r", "c"]) -> np.ndarray:
    np.save(folder / "a.npy", np.arange(ENTRIES))
    array: np.ndarray = np.load(folder / "a.npy", mmap_mode=mode)
    return array


def resident_kb(path: Path) -> int:
    """What of a mapped file is in this process's memory."""
    maps = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    at = next(row for row, line in enumerate(maps) if line.endswith(str(path)))
    return next(int(line.split()[1]) for line in maps[at:] if line.startswith("Rss:"))


def test_pages_that_were_read_are_given_back_and_can_be_read_again(tmp_path: Path) -> None:
    array = mapped(tmp_path, "r")
    expected = int(array.sum())
    assert resident_kb(tmp_path / "a.npy") > 1000
    Pages(array, np.arange(3)).release(ENTRIES)
    assert resident_kb(tmp_path / "a.npy") < 10
    assert array.sum() == expected


def test_only_the_entries_named_are_given_back(tmp_path: Path) -> None:
    array = mapped(tmp_path, "r")
    array.sum()
    Pages(array[: ENTRIES // 2]).release(ENTRIES // 4)
    assert resident_kb(tmp_path / "a.npy") == pytest.approx(0.75 * ENTRIES * 8 / 1024, abs=10)


def test_what_was_changed_in_memory_alone_is_kept(tmp_path: Path) -> None:
    array = mapped(tmp_path, "c")
    array[5] = -1
    Pages(array, array[:10]).release(10)
    assert array[5] == -1


def test_validation_leaves_no_arrivals_in_memory(tiny: Scenario, tmp_path: Path) -> None:
    world = tiny.world("test", 0, 0)
    times = 2000
    many = replace(
        world,
        arrival_us=np.concatenate([world.arrival_us + turn * world.end_us for turn in range(times)]),
        arrival_function=np.tile(world.arrival_function, times),
        end_us=world.end_us * times,
    )
    write_world(many, tmp_path / "w")
    read = read_world(tmp_path / "w")
    path = tmp_path / "w" / "arrival_us.npy"
    assert read.arrival_us.sum() > 0
    assert resident_kb(path) > 1000
    read.validate()
    assert resident_kb(path) < 100
