"""Finding a backend by its name, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tyche_env.backend import BackendError, Capabilities
from tyche_env.backends import make_backend
from tyche_env.conformance import example_world
from tyche_env.simulator.backend import SimulatedBackend
from tyche_env.world import Prewarm

NOTHING = Capabilities("plain", create_containers=False, remove_containers=False, gpus=False, real_time=True)


def test_the_simulated_backend_is_built_in() -> None:
    assert isinstance(make_backend("simulated"), SimulatedBackend)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simulate", "backend simulate: there is no such backend; did you mean simulated?"),
        ("quantum", "backend quantum: there is no such backend; there are "),
    ],
)
def test_a_misspelt_backend_is_named_with_what_would_be_right(name: str, message: str) -> None:
    with pytest.raises(BackendError) as error:
        make_backend(name)
    assert str(error.value).startswith(message)
    assert "simulated" in str(error.value)


def test_gpus_are_refused_where_there_are_none() -> None:
    NOTHING.require(example_world(gpus=False))
    replace(NOTHING, gpus=True).require(example_world())
    with pytest.raises(BackendError, match="backend plain: has no GPUs; set gpus: 0 in the scenario's cluster"):
        NOTHING.require(example_world())


@pytest.mark.parametrize(("create", "remove"), [(False, False), (True, False), (False, True)])
def test_prewarming_is_refused_unless_containers_can_be_created_and_removed(create: bool, remove: bool) -> None:
    world = example_world(gpus=False).with_settings(prewarm=Prewarm.HISTOGRAM)
    replace(NOTHING, create_containers=True, remove_containers=True).require(world)
    message = "backend plain: cannot create and remove containers, so only prewarm: openwhisk works there"
    with pytest.raises(BackendError, match=message):
        replace(NOTHING, create_containers=create, remove_containers=remove).require(world)


def test_without_a_reset_there_is_nothing_to_ask() -> None:
    backend = SimulatedBackend()
    for ask in (lambda: backend.state, lambda: backend.advance_until_us(1), backend.drain, backend.log):
        with pytest.raises(BackendError, match="backend simulated: call reset first"):
            ask()


def test_events_tell_what_began_since_the_last_call() -> None:
    backend, world = SimulatedBackend(), example_world()
    backend.reset(world)
    told = [backend.advance_until_us(t) for t in (0, 20_000_000, 20_000_000, 40_000_000)] + [backend.drain()]
    assert [len(events.requests) > 0 for events in told] == [False, True, False, True, True]
    assert np.array_equal(np.concatenate([events.requests for events in told]), backend.log())
    assert [events.now_us for events in told[:4]] == [0, 20_000_000, 20_000_000, 40_000_000]
    assert not told[2].waited_s.any()
