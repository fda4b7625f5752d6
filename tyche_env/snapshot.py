"""The state of a compiled engine as plain arrays, so that a simulation can be left and taken up again exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.simulator.engine import CompiledEngine
from tyche_env.state import FIELDS
from tyche_env.world import World

_CONSTANT = frozenset({"tables", "arrival_us", "arrival_function", "arrival_duration_us", "forecast", "network"})
"""What the world and the code give anew."""

Tables = dict[str, NDArray[Any]]


def snapshot(engine: CompiledEngine) -> Tables:
    """Copies of all tables that a run changes, by name; records as their bytes, (n, record size) uint8."""
    tables: Tables = {}
    for name, (dtype, _) in FIELDS.items():
        if name in _CONSTANT:
            continue
        table = getattr(engine.state, name)
        if dtype.names:
            table = table.view(np.uint8).reshape(len(table), dtype.itemsize)
        tables[name] = table.copy()
    return tables


def take_up(world: World, tables: Tables) -> CompiledEngine:
    """An engine of the same world in the state of a snapshot.

    Args:
        world: that the snapshot's engine ran.
        tables: what :func:`snapshot` gave; copied.
    """
    engine = CompiledEngine(world, record=False, features=True)  # the snapshot says whether there is a log
    content: Tables = {}
    for name, table in tables.items():
        dtype, _ = FIELDS[name]
        content[name] = np.array(table).view(dtype).reshape(-1) if dtype.names else np.array(table, dtype)
    engine.use(engine.state._replace(**content))
    return engine
