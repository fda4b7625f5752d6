"""The list of the state's tables is what a new state holds, and what compiled code is told about it."""

from __future__ import annotations

import typing

import pytest

from tests.tyche_env.simulator.strategies import random_run
from tyche_env.state import FIELDS, TABLES, ClusterState, new_state, sizes_of
from tyche_env.world import Kernel


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize(("record", "features"), [(True, False), (False, True)])
def test_every_table_has_the_listed_type_and_shape(record: bool, features: bool, crowd: bool) -> None:
    for seed in range(60):
        world = random_run(seed, crowd).world
        state, sizes = new_state(world, record, features), sizes_of(world, record, features)
        for name, table in TABLES.items():
            array = getattr(state, name)
            shape = table.shape(sizes)
            assert array.shape == (shape if isinstance(shape, tuple) else (shape,)), (name, seed)
            assert (array.dtype, array.ndim) == FIELDS[name], (name, seed)
            assert array.flags.c_contiguous, (name, seed)


def test_the_list_follows_the_fields_and_says_what_each_is() -> None:
    assert list(TABLES) == list(FIELDS) == list(ClusterState._fields)
    annotated = typing.get_type_hints(ClusterState)
    for name, table in TABLES.items():
        assert table.meaning
        assert table.records is None or table.records.names
        numbers = typing.get_args(typing.get_args(annotated[name])[1])[0]
        assert (numbers is typing.Any) == (table.records is not None), name


def test_tables_that_nobody_reads_are_short() -> None:
    world = next(run.world for run in map(random_run, range(100)) if run.world.settings.kernel == Kernel.LRU)
    plain, observed = (new_state(world, features=features) for features in (False, True))
    assert len(plain.gap_bins) == 1
    assert len(observed.gaps) == len(observed.gap_bins) == world.function_count
