"""What the gate looks at, number by number, in a cluster worked out by hand."""

from __future__ import annotations

from math import exp, log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.policies import gate as gate_module
from agents.policies.gate import CONTEXT, GATED_SIZE, decide, gated
from tyche_env.codes import BUSY, IDLE
from tyche_env.network import HIDDEN, INPUTS, SIZE
from tyche_env.rules import HOLD, LEAVE, NEVER

NOW_US = 1_000_000_000


def a_function(**changes: Any) -> SimpleNamespace:
    row = {
        "window_count": 5,
        "loading_copies": 0,
        "container_mb": 1000,
        "home_node": 0,
        "resident_head": -1,
        "group": 1,
        "rate_10min": 0.0,
        "last_arrival_us": NOW_US,
        "idle_copies": 0,
        "running": 0,
        "saved_us": 3_000_000,
        "hold_mb": 500,
    }
    return SimpleNamespace(**(row | changes))


def a_cluster() -> SimpleNamespace:
    """Five functions on two nodes.

    Node 0 holds four idle containers in the order of their ranks, 3, 0, 1, 2, of which 0 is owned by function 3 and
    holds functions 0 (asked about), 1 and 2; function 4 is loading twice.
    """
    ago = {1: 300_000_000, 2: 600_000_000, 3: 0}
    functions = [
        a_function(resident_head=0, idle_copies=1, container_mb=2000),
        a_function(rate_10min=0.02, last_arrival_us=NOW_US - ago[1]),
        a_function(rate_10min=0.05, last_arrival_us=NOW_US - ago[2]),
        a_function(rate_10min=0.1, last_arrival_us=NOW_US - ago[3]),
        a_function(loading_copies=2, container_mb=3000),
    ]
    residents = [
        SimpleNamespace(container=0, function=0, container_next=1),
        SimpleNamespace(container=0, function=1, container_next=2),
        SimpleNamespace(container=0, function=2, container_next=-1),
    ]
    containers = [
        SimpleNamespace(node=0, owner=owner, state=IDLE, resident_head=head, worth=worth, idle_previous=previous)
        for owner, head, worth, previous in ((3, 0, 10, 3), (1, -1, 4, 0), (1, -1, 10, 1), (2, -1, 9, -1))
    ]
    return SimpleNamespace(
        cluster=[SimpleNamespace(functions=5, nodes=2, contention=True, now_us=NOW_US)],
        functions=functions,
        residents=residents,
        containers=containers,
        nodes=[
            SimpleNamespace(memory_mb=9000, busy_mb=3000, idle_tail=2),
            SimpleNamespace(memory_mb=7000, busy_mb=1000, idle_tail=-1),
        ],
        resources=[SimpleNamespace(jobs=3, capacity=2)],
        activations=np.zeros(INPUTS + 2 * HIDDEN, np.float32),
        network=np.zeros(GATED_SIZE, np.float32),
    )


HELD = {
    "held": 1.0,
    "processor": 3 / 2 - 0.5,
    "loading": 2 / 2 - 0.3,
    "latency": log(3.001) - 0.7,
    "memory": log(0.501) + 0.7,
    "room": log(16_000 / 8_000) + 1.2,
    "busy": 4 / 16 - 0.5,
    "fits": 0.5,
    # the two that share the container, faded over ten minutes, and half of its owner, by the minute
    "visits": log(60 * (0.02 * exp(-0.5) + 0.05 * exp(-1) + 0.5 * 0.1) + 0.03),
    "neighbours": 2 - 1.0,
    # of the node's three other idle containers two are worth less
    "outlives": 2 / 3 - 0.5,
}
"""Of function 0, which is held; all in the order of the docstring of ``CONTEXT``."""


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's score is 0, and nothing fits on a node where nothing is planted."""
    monkeypatch.setattr(gate_module, "score", lambda st, function: 0.0)
    monkeypatch.setattr(gate_module, "walk", lambda st, function, step: step)
    monkeypatch.setattr(gate_module, "fitting_container", lambda st, function, node: -1)


def context_of(st: SimpleNamespace, function: int = 0) -> dict[str, float]:
    """Each number of the context, read off the priority that it alone makes."""
    found = {}
    for at, name in enumerate(CONTEXT):
        weights = np.zeros(len(CONTEXT))
        weights[at] = 1.0
        zeros = np.zeros(HIDDEN + len(CONTEXT) + 1)
        st.network = gated(np.zeros(SIZE, np.float32), zeros, zeros + 1, weights)
        _, priority, _ = decide(st, function)
        found[name] = log(priority / (2**20 - priority))
    return found


def test_the_context_of_a_function_that_is_held() -> None:
    assert context_of(a_cluster()) == pytest.approx(HELD, abs=1e-4)


def test_the_context_of_a_function_that_fits_nowhere() -> None:
    st = a_cluster()
    st.cluster[0].contention = False
    missing = {"held": 0, "processor": -0.5, "fits": -0.5, "visits": 0, "neighbours": -1, "outlives": 0}
    room = {name: value for name, value in HELD.items() if name not in missing}
    assert context_of(st, function=1) == pytest.approx(room | missing, abs=1e-4)


def test_where_it_would_be_loaded_counts_if_it_is_held_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    st = a_cluster()
    st.functions[3].group = 3
    asked = []

    def fitting(st: Any, function: int, node: int) -> int:
        asked.append(node)
        return 0 if node == 1 else -1

    monkeypatch.setattr(gate_module, "fitting_container", fitting)
    found = context_of(st, function=3)
    # nodes in the order of its walk, up to the first with room
    assert asked == [0, 1] * len(CONTEXT)
    # the container is its own, so nobody else's owner comes; all three residents are others
    visits = log(60 * (0.02 * exp(-0.5) + 0.05 * exp(-1)) + 0.03)
    assert (found["fits"], found["neighbours"], found["held"]) == pytest.approx((0.5, 2, 0), abs=1e-4)
    assert found["visits"] == pytest.approx(visits, abs=1e-4)


def test_the_owner_of_a_container_that_runs_does_not_come() -> None:
    st = a_cluster()
    st.containers[0].state = BUSY
    assert context_of(st)["visits"] == pytest.approx(log(60 * (0.02 * exp(-0.5) + 0.05 * exp(-1)) + 0.03), abs=1e-4)


def test_numbers_without_bounds_are_cut() -> None:
    st = a_cluster()
    st.resources[0].jobs, st.functions[4].loading_copies = 100, 100
    found = context_of(st)
    assert (found["processor"], found["loading"]) == pytest.approx((4 - 0.5, 4 - 0.3), abs=1e-4)


@pytest.mark.parametrize(
    ("gate", "keep", "decision", "share"),
    [(0.5, -1, HOLD, 0.5), (-0.5, 1, LEAVE, 0.5), (-0.5, -1, LEAVE, 0.0), (0.0, 0.0, LEAVE, 0.0)],
)
def test_gate_and_keep_decide(gate: float, keep: float, decision: int, share: float) -> None:
    st = a_cluster()
    outputs = np.zeros((2, HIDDEN + len(CONTEXT) + 1))
    outputs[:, -1] = gate, keep
    st.network = gated(np.zeros(SIZE, np.float32), outputs[0], outputs[1], np.zeros(len(CONTEXT)))
    assert decide(st, 0) == (decision, round(share * 2**20), 10_000_000)


def test_each_output_hears_the_hidden_layer_where_it_is_active() -> None:
    st = a_cluster()
    outputs = np.zeros((2, HIDDEN + len(CONTEXT) + 1))
    outputs[0, 3], outputs[1, 4] = 2.0, 1.0
    st.network = gated(np.zeros(SIZE, np.float32), outputs[0], outputs[1], np.zeros(len(CONTEXT)))
    half = 1 << 19
    second = INPUTS + HIDDEN
    for at, value, answer in (
        (3, 0.1, (HOLD, half)),
        (4, 0.1, (LEAVE, half)),
        (3, -0.1, (LEAVE, 0)),
        (5, 9, (LEAVE, 0)),
    ):
        st.activations[:] = 0
        st.activations[second + at] = value
        assert decide(st, 0)[:2] == answer


def test_a_function_that_was_never_requested_is_left() -> None:
    st = a_cluster()
    st.functions[0].window_count = 0
    assert decide(st, 0) == (LEAVE, 0, NEVER)
