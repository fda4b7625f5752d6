"""What a run has cost so far, read off tables whose values are planted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tyche_env import accounting
from tyche_env.state import CLUSTER_DTYPE, FUNCTION_DTYPE, NODE_DTYPE


def a_state() -> Any:
    """At 100 us: two nodes and two functions; every counter of the cluster holds a number of its own."""
    cluster, nodes, functions = np.zeros(1, CLUSTER_DTYPE), np.zeros(2, NODE_DTYPE), np.zeros(2, FUNCTION_DTYPE)
    for number, name in enumerate(accounting.COUNTERS):
        if name != "load_us":
            cluster[name] = 1000 + number
    cluster["now_us"], cluster["ended_load_us"] = 100, 77
    for number, kind in enumerate(accounting.INTEGRALS):
        # 10, 20, 30 and 40 MB since 25 us on the first node, and one more since 50 us on the second
        mb = 10 * (number + 1)
        nodes[f"{kind}_mb"], nodes[f"{kind}_weighted"] = (mb, mb + 1), (mb * 25, (mb + 1) * 50)
    # one load since 90 us; two since 40 and 60 us, and one that has ended took 5
    functions["loading_copies"], functions["loading_weighted"] = (1, 2), (90, 40 + 60 - 5)
    return SimpleNamespace(cluster=cluster, nodes=nodes, functions=functions)


def test_memory_x_time_is_each_level_for_as_long_as_it_lasted() -> None:
    found = {name: values.tolist() for name, values in accounting.integrals(a_state()).items()}
    assert found == {
        "busy": [10 * 75, 11 * 50],
        "idle": [20 * 75, 21 * 50],
        "preload": [30 * 75, 31 * 50],
        "gpu": [40 * 75, 41 * 50],
    }


def test_loads_count_up_to_now_and_counters_have_their_names() -> None:
    state = a_state()
    assert accounting.loading_us(state).tolist() == [10, 60 + 40 + 5]
    expected = {name: 1000 + number for number, name in enumerate(accounting.COUNTERS)} | {"load_us": 115}
    assert accounting.counters(state) == expected
    assert accounting.ended_load_us(state) == 77
