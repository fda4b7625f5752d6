"""The real backend on its own embedded platform of processes, with toy functions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from real_backend.backend import OpenWhiskBackend, RealSettings
from tests.real_backend.worlds import TOYS, busy_world, toy_world
from tyche_env.backend import BackendError
from tyche_env.conformance import CHECKS, CheckFunction
from tyche_env.world import AfterRun, Kernel, StartType

TOLERANCE_S = 1.5
"""Measured times on a machine that others use, too."""


def make() -> OpenWhiskBackend:
    return OpenWhiskBackend(RealSettings(functions=TOYS))


@pytest.fixture
def backend() -> Iterator[OpenWhiskBackend]:
    made = make()
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check: CheckFunction) -> None:
    check(make, busy_world(), TOLERANCE_S)


def test_a_request_is_cold_then_warm_and_its_measured_stages_add_up(backend: OpenWhiskBackend) -> None:
    backend.reset(toy_world([(0.0, 0), (3.0, 0)], 3.5))
    backend.advance_until_us(3_500_000)
    backend.drain()
    log = backend.log()
    assert log["start_type"].tolist() == [StartType.COLD, StartType.WARM]
    assert (log["library_us"] >= 150_000).all()
    assert (log["model_us"] >= 250_000).all()
    assert (log["inference_us"] >= 20_000).all()
    assert log["warming_us"][0] > 0
    assert log["warming_us"][1] == 0
    stages = ("queue", "scheduling", "warming", "library", "model", "transfer", "inference")
    assert (log["arrival_us"] + sum(log[f"{stage}_us"] for stage in stages) == log["end_us"]).all()
    assert (log["status"] == 0).all()


def test_what_is_kept_or_loaded_ahead_costs_nothing(backend: OpenWhiskBackend) -> None:
    world = toy_world(
        [(0.0, 0), (3.0, 0), (4.0, 1), (8.0, 0)],
        8.5,
        ("toy-slow", "toy-slow"),
        (400,),
        kernel=Kernel.LRU,
        event_mode=False,
        after_run_preloader=AfterRun.KEEP,
    )
    backend.reset(world)
    backend.advance_until_us(6_000_000)
    # the second function's container has taken the place of the first one's; both functions are wanted now
    backend.set_priorities(np.ones((2, 2), np.int8), np.full((2, 2), 1 << 20))
    backend.advance_until_us(7_500_000)
    assert backend.counters()["loads"] == 1
    backend.advance_until_us(world.end_us)
    backend.drain()
    log = backend.log()
    assert log["start_type"].tolist() == [StartType.COLD, StartType.MEMORY, StartType.COLD, StartType.MEMORY]
    assert log["kept"].tolist() == [0, 1, 0, 0]
    for request in (1, 3):
        assert log["library_us"][request] + log["model_us"][request] + log["warming_us"][request] == 0
    assert backend.health.failed_loads == 0


def test_functions_of_one_profile_are_processes_of_their_own(backend: OpenWhiskBackend) -> None:
    backend.reset(toy_world([(0.0, 0), (3.0, 1)], 3.5, ("toy", "toy"), (400,), after_run_platform=AfterRun.KEEP))
    backend.drain()
    assert backend.log()["start_type"].tolist() == [StartType.COLD, StartType.COLD]
    assert backend.counters()["evictions"] == 1


def test_lateness_and_the_time_of_decisions_are_recorded(backend: OpenWhiskBackend) -> None:
    backend.reset(toy_world([(0.0, 0), (0.2, 0)], 0.5))
    backend.drain()
    health = backend.health
    assert health.statuses == {"OK": 2}
    assert len(health.late_us) == 2
    assert (health.late_us >= 0).all()
    assert len(health.decision_us) >= 4


@pytest.mark.parametrize(
    ("profile", "row", "message"),
    [
        ("no-such", {}, "declares no function 'no-such'; it has toy"),
        ("toy-big", {}, "toy-big declares 520 MB held and 1000 MB at the peak; its profile has only 60 and 80"),
    ],
)
def test_functions_that_cannot_run_are_refused(
    backend: OpenWhiskBackend, profile: str, row: dict[str, int], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        backend.reset(toy_world([(0.0, 0)], 1.0, (profile,)))


def test_the_environment_names_what_it_runs_on() -> None:
    settings = RealSettings.from_environment(
        {"OW_APIHOST": "http://here:3233", "OW_AUTH": "a:b", "TYCHE_GPUS": "0,1", "TYCHE_FUNCTIONS": TOYS}
    )
    assert settings.credentials is not None
    assert settings.credentials.base == "http://here:3233"
    assert settings.gpus == ("0", "1")
    assert settings.functions == TOYS
    with pytest.raises(BackendError, match="TYCHE_ENGINE: there are process and docker, got 'podman'"):
        RealSettings.from_environment({"TYCHE_ENGINE": "podman"})
