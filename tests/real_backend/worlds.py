"""Small worlds and a scenario of toy functions for a backend in real time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from real_backend.client import Credentials
from real_backend.embedded import EmbeddedPlatform, container_environment
from real_backend.platform.config import NodeSpec, PlatformConfig
from tyche_env.draws import Concern, draw_u64
from tyche_env.profiles import FunctionProfile, write_catalogue
from tyche_env.scenario import Scenario
from tyche_env.world import AfterRun, FunctionTable, Kernel, Settings, World

TOYS = "real_backend.functions.toy"
ROW = {
    "tenant": 0,
    "container_mb": 400,
    "hold_mb": 60,
    "peak_mb": 80,
    "gpu_mb": 0,
    "init_us": 400_000,
    "library_us": 150_000,
    "model_us": 250_000,
    "transfer_us": 0,
    "inference_us": 20_000,
    "gpu_inference_us": 20_000,
    "sigma_ppm": 0,
}


def toy_world(
    arrivals: list[tuple[float, int]],
    end_s: float,
    profiles: tuple[str, ...] = ("toy-slow",),
    node_memory_mb: tuple[int, ...] = (800,),
    score_from_s: float = 0.0,
    **settings: Any,
) -> World:
    """A world of toys: arrivals as (second, function)."""
    arrivals = sorted(arrivals)
    chosen: dict[str, Any] = {
        "kernel": Kernel.NONE,
        "after_run_platform": AfterRun.DISCARD,
        "keep_alive_us": 600_000_000,
    }
    return World(
        functions=FunctionTable.from_rows([ROW] * len(profiles)),
        node_memory_mb=np.array(node_memory_mb),
        gpu_node=np.zeros(0, np.int64),
        gpu_memory_mb=np.zeros(0, np.int64),
        arrival_us=np.array([round(second * 1e6) for second, _ in arrivals], np.int64),
        arrival_function=np.array([f for _, f in arrivals], np.int32),
        arrival_duration_us=np.zeros(0, np.int64),
        score_from_us=round(score_from_s * 1e6),
        end_us=round(end_s * 1e6),
        settings=Settings(**(chosen | settings)),
        names=tuple(f"f{f}" for f in range(len(profiles))),
        profiles=profiles,
    ).validate()


def busy_world(seconds: float = 8.0) -> World:
    """A few seconds in which three functions on two nodes share containers, queue, and fall silent."""
    drawn = [(draw_u64(0, Concern.POLICY, f, i) % 1000 / 1000 * 0.7 * seconds, f) for f in range(3) for i in range(3)]
    return toy_world(
        [*drawn, (seconds - 0.05, 0)],
        seconds,
        ("toy-slow", "toy", "toy-slow"),
        (400, 400),
        score_from_s=seconds / 4,
        kernel=Kernel.AGENT,
        event_mode=False,
        displace_percent=10,
        busy_counts=True,
        after_run_platform=AfterRun.KEEP,
        keep_alive_us=4_000_000,
        offload_us=10_000,
    )


_SCENARIO = {
    "name": "toys",
    "title": "Toys",
    "cluster": {"nodes": [{"count": 1, "memory_mb": 1000}]},
    "functions": {"catalogue": "", "assign": "position", "container_mb": 500},
    "trace": {
        "family": "synthetic",
        "synthesis": {"functions": 60, "minutes": 60, "seed": 3},
        "min_requests": 60,
        "group_size": 2,
        "window_min": 0.1,
        "warm_up_min": 0.05,
        "splits": {
            "train": {"functions": [0.0, 0.3], "time": [0.0, 0.5]},
            "validation": {"functions": [0.3, 0.6], "time": [0.0, 0.5]},
            "test": {"functions": [0.6, 1.0], "time": [0.5, 1.0]},
        },
    },
    "prices": {
        "date": "2026-06-17",
        "source": "none",
        "container_usd_per_gb_s": 0,
        "gpu_usd_per_gb_s": 0,
        "request_usd": 0,
    },
}


def toy_scenario(folder: Path) -> Scenario:
    """Nine seconds of two toys, with a catalogue in ``folder``."""
    write_catalogue(folder / "toys.csv", [_profile_of("toy-slow"), _profile_of("toy")])
    return Scenario.from_mapping(_SCENARIO).with_(**{"functions.catalogue": str(folder / "toys.csv")})


def _profile_of(name: str) -> FunctionProfile:
    return FunctionProfile(
        name=name,
        container_init_ms=300,
        library_ms=150,
        model_ms=250,
        transfer_ms=0,
        inference_ms=20,
        gpu_inference_ms=0,
        hold_mb=60,
        peak_mb=80,
        gpu_mb=0,
        container_mb=500,
        sigma=0,
        source="told",
    )


@contextmanager
def toy_platform(memory_mib: int, folder: Path | None = None, **about: Any) -> Iterator[Credentials]:
    """A platform of one node that knows the toys and does nothing by itself.

    Args:
        memory_mib: of its node, ``invoker0``.
        folder: of its state; None: a temporary one.
        about: further settings of its ``PlatformConfig``.
    """
    own = EmbeddedPlatform(folder)
    config = PlatformConfig(
        nodes=(NodeSpec(name="invoker0", memory_mib=memory_mib),),
        pause_after_s=None,
        keep_alive_s=None,
        worker_arguments=("--functions", TOYS),
        environment=container_environment(),
        **about,
    )
    try:
        yield own.start(config)
    finally:
        own.stop()
