"""A scenario so small that whole episodes of its environment take a blink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tyche_env.env import PreloadEnv
from tyche_env.scenario import Scenario

MakeEnv = Callable[..., PreloadEnv]


@pytest.fixture(scope="session")
def tiny() -> Scenario:
    """Ten functions that are short of memory on two nodes, one of them with a GPU; noise on every stage."""
    return Scenario.load("small").with_(
        **{
            "name": "tiny",
            "cluster.nodes": [
                {"count": 1, "memory_mb": 6000, "gpus": 1, "gpu_memory_mb": 1200},
                {"count": 1, "memory_mb": 5000},
            ],
            "functions.noise": True,
            "trace.synthesis": {"functions": 200, "minutes": 120, "seed": 3},
            "trace.group_size": 10,
            "trace.window_min": 15,
            "trace.warm_up_min": 15,
            "trace.min_requests": 4,
            "controller": {"scheduling_ms": 2, "clear_ms": 1, "command_ms": 3, "offload_ms": 20},
        }
    )


@pytest.fixture
def make_env(tiny: Scenario) -> Iterator[MakeEnv]:
    """Makes environments of the tiny scenario, or of one that differs from it, and closes them."""
    made = []

    def make(changes: dict[str, Any] | None = None, **options: Any) -> PreloadEnv:
        env = PreloadEnv(tiny.with_(**(changes or {})), **options)
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()
