"""A world refuses what no engine can run, and lays its nodes out the same way every time."""

from __future__ import annotations

from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tyche_env.world import (
    FUNCTION_FIELDS,
    AfterRun,
    FunctionTable,
    Kernel,
    Routing,
    Settings,
    World,
    WorldError,
)

ROW = dict.fromkeys(FUNCTION_FIELDS, 1) | {"container_mb": 300, "hold_mb": 100, "peak_mb": 200}


def table(*rows: dict[str, int]) -> FunctionTable:
    return FunctionTable.from_rows([ROW | row for row in rows])


def a_world(**changes: Any) -> World:
    world = World(
        functions=table({}, {}),
        node_memory_mb=np.array([300, 500]),
        gpu_node=np.array([0, 1]),
        gpu_memory_mb=np.array([100, 100]),
        arrival_us=np.array([1, 2]),
        arrival_function=np.array([0, 1], dtype=np.int32),
        arrival_duration_us=np.zeros(0, dtype=np.int64),
        score_from_us=0,
        end_us=10,
    )
    return replace(world, **changes)


def contended(**changes: Any) -> dict[str, Any]:
    """Changes that make a world one with contention."""
    settings = Settings(contention=True)
    return {"node_cores": np.array([1, 2]), "node_disk_streams": np.array([1, 1]), "settings": settings} | changes


def test_a_sound_world_is_accepted_and_counted() -> None:
    world = a_world().validate()
    assert (world.function_count, world.node_count, world.gpu_count) == (2, 2, 2)
    assert a_world(**contended()).validate().functions.read_ppm.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"functions": FunctionTable.from_rows([])}, "functions: the table is empty"),
        ({"node_memory_mb": np.zeros(0, dtype=np.int64)}, "nodes: the table is empty"),
        ({"functions": table({}, {"init_us": -1})}, "functions row 1: init_us is negative"),
        ({"settings": Settings(contention=True)}, r"node_cores: contention needs one value a node, got shape \(0,\)"),
        (contended(node_disk_streams=np.array([1])), r"node_disk_streams: contention needs one value a node"),
        (contended(node_cores=np.array([2, 0])), r"node_cores: every value must lie in 1\.\.1024"),
        (contended(functions=table({}, {"read_ppm": 1_000_001})), "functions row 1: read_ppm is above 10"),
        (
            contended(functions=table({"model_us": 1 << 41, "sigma_ppm": 2_000_000}, {})),
            r"contention: a stage of \d+ us shared by \d+ jobs is too long",
        ),
        (
            {"functions": table({"peak_mb": 400})},
            "functions row 0: needs hold_mb <= peak_mb <= container_mb, got 100, 400",
        ),
        ({"functions": table({"hold_mb": 201})}, "functions row 0: needs hold_mb <= peak_mb"),
        ({"functions": table({"hold_mb": 0})}, "functions row 0: hold_mb and container_mb must be positive"),
        (
            {"functions": table({}, {"container_mb": 301})},
            "functions row 1: its container of 301 MB is larger than a node",
        ),
        ({"arrival_us": np.array([2, 1])}, "arrivals row 1: time runs back"),
        ({"arrival_us": np.array([1, 2, 3])}, "arrival_us and arrival_function differ in length"),
        ({"arrival_duration_us": np.array([1])}, "arrival_duration_us must be empty or as long"),
        ({"arrival_us": np.array([1, 10])}, r"every time must lie in \[0, end_us\)"),
        ({"arrival_us": np.array([-1, 1])}, r"every time must lie in \[0, end_us\)"),
        ({"arrival_function": np.array([0, 2], dtype=np.int32)}, "names a function that is not in the table"),
        ({"score_from_us": 11}, "window: needs 0 <= score_from_us <= end_us"),
        ({"end_us": 1 << 42}, "window: needs 0 <= score_from_us <= end_us"),
        ({"gpu_node": np.array([1, 0])}, "gpu_node must ascend"),
        ({"gpu_node": np.array([0, 2])}, "gpu_node must ascend and name existing nodes"),
        (
            {"settings": Settings(kernel=Kernel.AGENT)},
            r"with kernel AGENT nobody answers at events; .*event_mode False",
        ),
        ({"settings": Settings(window=0)}, r"window must lie in 1\.\.64, got 0"),
        ({"settings": Settings(window=65)}, r"window must lie in 1\.\.64, got 65"),
        ({"settings": Settings(copies=9)}, r"copies must lie in 1\.\.8, got 9"),
        ({"settings": Settings(prior_gap_us=0)}, r"prior_gap_us must be positive, got 0"),
    ],
)
def test_an_unsound_world_is_refused_with_the_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        a_world(**changes).validate()


@pytest.mark.parametrize("row", [{"cores": 1}, {}])
def test_a_function_row_has_exactly_its_columns(row: dict[str, int]) -> None:
    wrong = dict.fromkeys(FUNCTION_FIELDS[1:], 1) | row
    with pytest.raises(WorldError, match=r"functions row 0: missing or unknown columns .*'tenant'"):
        FunctionTable.from_rows([wrong])


def test_changed_settings_leave_the_requests_alone() -> None:
    world = a_world()
    changed = world.with_settings(kernel=Kernel.TYCHE)
    assert changed.settings.kernel == Kernel.TYCHE
    assert changed.arrival_us is world.arrival_us
    assert world.settings.kernel == Kernel.NONE


@pytest.mark.parametrize(
    ("kernel", "fate"), [(Kernel.NONE, AfterRun.DISCARD), (Kernel.LRU, AfterRun.KEEP), (Kernel.AGENT, AfterRun.KEEP)]
)
def test_the_fate_of_a_process_depends_on_the_pre_loader(kernel: Kernel, fate: AfterRun) -> None:
    assert Settings(kernel=kernel).after_run == fate


@given(nodes=st.integers(1, 40), routing=st.sampled_from(Routing))
def test_every_walk_visits_every_node_once(nodes: int, routing: Routing) -> None:
    world = a_world(node_memory_mb=np.full(nodes, 300), settings=Settings(routing=routing))
    order, home, step = world.node_order(), world.home_position(), world.walk_step()
    assert sorted(order.tolist()) == list(range(nodes))
    for f in range(world.function_count):
        assert gcd(int(step[f]), nodes) == 1
        assert {int(order[(home[f] + i * step[f]) % nodes]) for i in range(nodes)} == set(range(nodes))


def test_the_ring_moves_few_functions_when_a_node_joins() -> None:
    # The order of the old nodes stays; the new one is put somewhere between them.
    few, many = (
        a_world(node_memory_mb=np.full(n, 300), settings=Settings(routing=Routing.RING)).node_order().tolist()
        for n in (8, 9)
    )
    assert [n for n in many if n != 8] == few


def test_the_layout_does_not_depend_on_the_seed() -> None:
    layouts = [
        a_world(node_memory_mb=np.full(8, 300), settings=Settings(seed=seed, routing=Routing.RING)) for seed in (1, 2)
    ]
    np.testing.assert_array_equal(layouts[0].node_order(), layouts[1].node_order())
    np.testing.assert_array_equal(layouts[0].home_position(), layouts[1].home_position())
