"""Before time begins: functions that cannot be used, and rates that are too low; and loads that fail all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from real_backend.backend import OpenWhiskBackend, RealSettings
from real_backend.client import Credentials
from real_backend.native import NativeBackend
from real_backend.platform.config import Limits
from real_backend.preflight import rates
from real_backend.replay import Patience
from real_backend.run import Run
from real_backend.slots import Reply
from tests.real_backend.genuine import Genuine
from tests.real_backend.worlds import TOYS, toy_platform, toy_world
from tyche_env.backend import BackendError
from tyche_env.codes import Status
from tyche_env.metrics import totals_from_log
from tyche_env.world import AfterRun, Kernel, StartType, World


@pytest.fixture(scope="module")
def platform() -> Iterator[Credentials]:
    with toy_platform(1024, limits=Limits(invocations_per_minute=600, concurrent_invocations=3)) as credentials:
        yield credentials


@pytest.fixture(autouse=True)
def _nothing_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("real_backend.backend._PASSED", set())


def corrupt_world() -> World:
    """Nobody asks for the corrupt function until late; it is wanted all the time."""
    return toy_world(
        [(0.0, 0), (5.5, 1)],
        6.0,
        ("toy", "toy-corrupt"),
        kernel=Kernel.AGENT,
        event_mode=False,
        after_run_preloader=AfterRun.KEEP,
    )


def test_functions_that_cannot_be_imported_are_one_line() -> None:
    backend = OpenWhiskBackend(RealSettings(functions="no_such_module"))
    with pytest.raises(BackendError, match=r"^backend openwhisk: TYCHE_FUNCTIONS: no_such_module: cannot be imported"):
        backend.reset(toy_world([(0.0, 0)], 1.0, ("toy",), (400,)))
    backend.close()


@pytest.mark.parametrize("kind", [OpenWhiskBackend, NativeBackend])
def test_a_function_that_does_not_load_is_refused_by_name(platform: Credentials, kind: type[OpenWhiskBackend]) -> None:
    backend = kind(RealSettings(credentials=platform, functions=TOYS))
    world = toy_world([(0.0, 0)], 1.0, ("toy", "toy-corrupt"), (400,))
    with pytest.raises(BackendError) as error:
        backend.reset(world)
    text = str(error.value)
    assert text.startswith("backend openwhisk: 1 of 2 functions cannot be used: 1-toy-corrupt: load: its model cannot")
    assert "EOFError: the model file ends too early" in text
    assert "TYCHE_PREFLIGHT=0 or --no-preflight" in text
    assert "\n" not in text
    assert "0-toy" not in text
    backend.close()


def test_a_function_that_does_not_answer_is_refused_as_well(platform: Credentials) -> None:
    backend = OpenWhiskBackend(RealSettings(credentials=platform, functions=TOYS), lambda *_: {"fail": True})
    with pytest.raises(BackendError, match=r"0-toy: infer: it raised: .*RuntimeError: told to fail"):
        backend.reset(toy_world([(0.0, 0)], 1.0, ("toy",), (400,)))
    backend.close()


def test_what_was_tried_is_gone_before_time_begins(platform: Credentials) -> None:
    transport = Genuine()
    backend = OpenWhiskBackend(RealSettings(credentials=platform, functions=TOYS), transport=lambda: transport)
    try:
        backend.reset(toy_world([(0.0, 0)], 1.0, ("toy-slow",), (800,)))
        ops = [each["op"] for each in transport.calls]
        assert ops == ["load", "infer", "offload"]
        # the slot that tried it is one of the two that the run has, and the first that it takes
        assert len(transport.actions) == 2
        backend.drain()
        assert backend.log()["status"].tolist() == [0]
        assert backend.log()["start_type"].tolist() == [StartType.WARM]
    finally:
        backend.close()


def test_the_busiest_minute_counts() -> None:
    world = toy_world([(0.0, 0), (30.0, 0), (59.0, 0), (70.0, 0), (80.0, 0), (200.0, 0)], 300.0)
    # from second 30 on: 30, 59, 70, 80; no policy that holds, so each is one call; a node of two containers
    assert (rates(world, False, False).per_minute, rates(world, False, False).concurrent) == (4, 2)
    # each may bring a load of 400 ms, which is two calls of a quarter of a second, and an off-load
    holding = world.with_settings(kernel=Kernel.TYCHE)
    assert rates(holding, False, False).per_minute == 4 * (1 + 2 + 1)
    # two slots that are called every nine seconds
    assert rates(world, False, True).per_minute == 4 + 14
    native = rates(world, True, True)
    # nobody but the platform makes requests wait: those of ten seconds may be in flight at once
    assert (native.per_minute, native.concurrent) == (4, 1)
    close = toy_world([(0.0, 0), (1.0, 0), (9.0, 0), (11.0, 0)], 12.0)
    assert rates(close, True, False).concurrent == 3


def test_a_rate_that_the_platform_does_not_allow_is_refused(platform: Credentials) -> None:
    arrivals = [(0.01 * number, 0) for number in range(601)]
    for preflight, reason in (
        (True, r"activations a minute: 601 needed, at most 600; set limits.actions"),
        (False, ""),
    ):
        backend = OpenWhiskBackend(RealSettings(credentials=platform, functions=TOYS, preflight=preflight))
        try:
            if reason:
                with pytest.raises(BackendError, match=reason):
                    backend.reset(toy_world(arrivals, 7.0, ("toy",), (400,)))
            else:
                backend.reset(toy_world(arrivals, 7.0, ("toy",), (400,)))
        finally:
            backend.close()


def test_the_environment_turns_it_off_and_keeps_warm() -> None:
    assert RealSettings.from_environment({}).preflight
    assert not RealSettings.from_environment({"TYCHE_PREFLIGHT": "0"}).preflight
    assert RealSettings.from_environment({}).patience.keep_warm_s is None
    found = RealSettings.from_environment({"TYCHE_KEEP_WARM": "1", "TYCHE_NODE_TAGS": "a,b"})
    assert (found.patience.keep_warm_s, found.node_tags) == (9.0, ("a", "b"))
    with pytest.raises(BackendError, match="TYCHE_KEEP_WARM: 1 is on, 0 is off, got 'yes'"):
        RealSettings.from_environment({"TYCHE_KEEP_WARM": "yes"})


@pytest.mark.parametrize(("code", "counts"), [("corrupt_model", True), ("", True), ("cancelled", False)])
def test_a_load_that_was_overtaken_says_nothing_about_its_function(code: str, counts: bool) -> None:
    run = SimpleNamespace(_failing={}, _counts=Counter(), _patience=Patience(), now_us=lambda: 0)
    Run._learn(cast(Run, run), 0, Reply(Status.FAILED, "why", code))
    assert run._counts["failed loads"] == counts
    assert [each.until_us for each in run._failing.values()] == ([1_000_000] if counts else [])


def test_loads_that_fail_are_tried_ever_more_rarely_and_named(platform: Credentials) -> None:
    world = corrupt_world()
    transport = Genuine()
    backend = OpenWhiskBackend(
        RealSettings(credentials=platform, functions=TOYS, preflight=False, patience=Patience(load_pause_s=0.5)),
        transport=lambda: transport,
    )
    try:
        backend.reset(world)
        backend.advance_until_us(1_000_000)
        wanted = (np.ones((2, 2), np.int8), np.full((2, 2), 1 << 20))
        # the policy asks for it twenty times in four seconds; it may be tried after 0.5 s, then 1, then 2
        for tick in range(20):
            backend.set_priorities(*wanted)
            backend.advance_until_us(1_000_000 + 200_000 * tick)
        backend.drain()
        health = backend.health
        log = np.sort(backend.log(), order="request")
    finally:
        backend.close()
    loads = [each for each in transport.calls if each["op"] == "load" and each["function"] == "1-toy-corrupt"]
    assert 2 <= health.failed_loads <= 4
    assert health.postponed_loads >= 5
    total, reason = health.failing_loads["1-toy-corrupt"]
    assert total == health.failed_loads <= len(loads)
    assert "EOFError" in reason
    assert health.summary()["failing_loads"] == {"1-toy-corrupt": [total, reason]}
    # and its request counts as one that was not served, with all its time
    assert log["status"].tolist() == [Status.OK, Status.CORRUPT_MODEL]
    totals = totals_from_log(log, world.functions)
    assert totals["failed"].tolist() == [0, 1]
    assert totals["unserved_us"][1] >= log["end_us"][1] - log["arrival_us"][1]
