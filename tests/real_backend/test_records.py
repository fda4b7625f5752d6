"""The record of a request on real containers, from replies and clocks that are planted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from real_backend.native import NativeRun
from real_backend.run import Order, Run
from real_backend.slots import Place, Reply
from tests.real_backend.worlds import toy_world
from tyche_env.codes import Status
from tyche_env.world import AfterRun, Kernel, StartType, World

STAGES_US = {"clear": 1, "library": 20_000, "model": 300_000, "transfer": 4_000, "inference": 50_000}
STAGES = ("library", "model", "transfer", "inference")


class Clock:
    """Says the times that it was given, one after the other; the last one for ever."""

    def __init__(self, *times_us: int) -> None:
        self.times_us = list(times_us)

    def __call__(self) -> int:
        return self.times_us.pop(0) if len(self.times_us) > 1 else self.times_us[0]


def in_loop(work: Callable[[], Any]) -> Any:
    """A run has to be made inside a loop."""

    async def main() -> Any:
        return await work()

    return asyncio.run(main())


def native(answer: object, clock: Clock, world: World | None = None, **client: Any) -> NativeRun:
    """A run whose deployment answers every call alike, and whose platform calls its two nodes n0 and n1."""

    async def invoke(action: str, parameters: object) -> object:
        return answer

    counts = Counter({"silent": 3, "again": 5, "surplus": 7, "second": 11})
    deployment: Any = SimpleNamespace(invoke=invoke, embedded=False, counts=counts)
    asked: Any = SimpleNamespace(retries={"429": 2}, **client)
    made = world or toy_world([(0.1, 0)], 1.0, node_memory_mb=(800, 800))
    run = NativeRun(made, asked, deployment, ("toy",), ("n0", "n1"), lambda name, row: {}, "a test")
    run._actions = ("action",)
    run._containers = {}
    run.now_us = clock  # type: ignore[method-assign]
    return run


def test_the_stages_of_a_native_request_follow_each_other_from_its_arrival_to_its_end() -> None:
    # due at 100 ms, sent at 103, answered at 900; it waited for 50 ms beside the making of its container
    reply = Reply(Status.OK, stages_us=STAGES_US, start_type="gpu", warming_us=230_000, wait_us=50_000, fresh=True)
    reply = replace(reply, boot="b", node="n1")

    async def work() -> NativeRun:
        run = native(reply, Clock(103_000, 900_000))
        await run._serve(0)
        return run

    run = in_loop(work)
    (row,) = run.snapshot().log[:1]
    assert row["queue_us"] == 3_000 + 50_000
    assert (row["warming_us"], *(row[f"{name}_us"] for name in STAGES)) == (230_000, 20_000, 300_000, 4_000, 50_000)
    # 800 ms from arrival to the end, less 53 of queue, 230 of warming and 374 of stages
    assert row["scheduling_us"] == 800_000 - 53_000 - 230_000 - 374_000
    assert (row["arrival_us"], row["end_us"]) == (100_000, 900_000)
    assert (row["start_type"], row["kept"], row["node"], row["container"]) == (StartType.COLD, 0, 1, 0)
    (order,) = run.health().invocations
    assert (order.order_us, order.begin_us, order.end_us) == (103_000, 153_000, 900_000)
    assert (order.clear_us, order.library_us, order.model_us, order.transfer_us, order.inference_us) == tuple(
        STAGES_US.values()
    )
    assert (order.kind, order.container, order.met, order.status) == ("infer", 0, StartType.COLD, 0)
    assert run._cluster["finished"] == 1
    events = run.take_events()
    assert events.requests["end_us"].tolist() == [900_000]
    # from arrival to the start of inference
    assert events.waited_s.tolist() == [0.75]
    assert run.take_events().waited_s.tolist() == [0.0]


@pytest.mark.parametrize(
    ("said", "met", "kept"),
    [
        ("gpu", StartType.GPU, 1),
        ("memory", StartType.MEMORY, 1),
        ("loading", StartType.LOADING, 0),
        ("warm", StartType.WARM, 0),
    ],
)
def test_what_an_old_container_says_is_the_start_type(said: str, met: StartType, kept: int) -> None:
    reply = Reply(Status.OK, stages_us={"inference": 5}, start_type=said, wait_us=7_000, boot="b", node="n0")

    async def work() -> NativeRun:
        run = native(reply, Clock(100_000, 200_000))
        await run._serve(0)
        return run

    run = in_loop(work)
    (row,) = run.snapshot().log[:1]
    assert (row["start_type"], row["kept"], row["queue_us"], row["node"]) == (met, kept, 7_000, 0)
    assert run.health().statuses == {"OK": 1}
    assert run.health().retries == {"429": 2}


def test_memory_of_containers_is_counted_by_node_and_state_in_mb_for_as_long_as_it_is_there() -> None:
    def container(node: str, state: str, mib: int) -> SimpleNamespace:
        return SimpleNamespace(node=node, state=state, memory_mib=mib)

    # from 1 s on: 300 MiB idle and 100 busy on n0, 50 busy on n1; from 3 s on only 200 idle on n0; until 5 s
    first = [container("n0", "idle", 100), container("n0", "idle", 200), container("n0", "busy", 100)]
    first += [container("n1", "busy", 50), container("n0", "creating", 999), container("elsewhere", "idle", 999)]
    answers = [first, [container("n0", "idle", 200)]]

    async def containers() -> Any:
        if not answers:
            raise asyncio.CancelledError
        return answers.pop(0)

    async def no_sleep(_: float) -> None:
        return

    async def work() -> Any:
        run = native(None, Clock(1_000_000, 3_000_000), containers=containers)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("real_backend.native.asyncio.sleep", no_sleep)
            with pytest.raises(asyncio.CancelledError):
                await run._watch()
        return run._state.nodes

    nodes = in_loop(work)
    used = {name: nodes[f"{name}_mb"] * 5_000_000 - nodes[f"{name}_weighted"] for name in ("idle", "busy")}
    # 300 MiB are 315 MB, 200 are 210, 100 are 105 and 50 are 52
    assert used["idle"].tolist() == [315 * 2_000_000 + 210 * 2_000_000, 0]
    assert used["busy"].tolist() == [105 * 2_000_000, 52 * 2_000_000]


def test_how_late_each_request_is_sent_is_noted_and_none_is_sent_before_it_is_due() -> None:
    async def no_sleep(_: float) -> None:
        return

    async def work() -> Any:
        # due at 100 and 500 ms: at 90 it is too soon, at 103 the first goes off; the second at 507
        run = native(None, Clock(90_000, 103_000, 103_000, 499_000, 507_000), toy_world([(0.1, 0), (0.5, 0)], 1.0))
        sent: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("real_backend.replay.asyncio.sleep", no_sleep)
            patch.setattr(run, "_arrive", sent.append)
            await run._inject()
        return sent, run.late_us.tolist()

    assert in_loop(work) == ([0, 1], [3_000, 7_000])


def test_what_a_run_met_is_counted_under_its_name() -> None:
    async def work() -> Any:
        run = native(None, Clock(0))
        run._counts.update({"lost containers": 2, "lost residents": 3, "failed loads": 5, "DIED": 7, "OK": 11})
        run._counts.update({"postponed loads": 13, "keep-warm calls": 17})
        run._keep_warm_ms = 19.5
        run.late_us[:] = 4
        run._decision_us += [6.0, 8.0]
        before = run.health().late_us.tolist()
        run._cluster["next_arrival"] = 1
        return before, run.health()

    before, health = in_loop(work)
    assert before == []
    assert (health.lost_containers, health.lost_residents, health.failed_loads) == (2, 3, 5)
    assert health.statuses == {"OK": 11, "DIED": 7}
    assert (health.silent_containers, health.run_twice, health.perhaps_run_twice) == (3, 5 + 7, 11)
    assert (health.postponed_loads, health.keep_warm_calls, health.keep_warm_ms) == (13, 17, 19.5)
    assert (health.late_us.tolist(), health.decision_us.tolist(), health.where) == ([4], [6.0, 8.0], "a test")


class FakeSlot:
    """A slot that answers with a planted reply."""

    def __init__(self, reply: Reply, loading: int | None, alive: bool) -> None:
        self.reply, self.loading, self.alive = reply, loading, alive
        self.lock = asyncio.Lock()
        self.place = Place("n0", 400)

    async def invoke(self, parameters: object, silence_s: float) -> Reply:
        return self.reply


@pytest.mark.parametrize(
    ("stages_us", "loading", "alive", "expected"),
    [
        # the wait for a load that went on counts as the stage in which the load was
        ({"library": 5_000, "model": 60_000, "inference": 7_000}, 0, True, (0, 45_000, 60_000, StartType.LOADING)),
        ({"model": 60_000, "inference": 7_000}, 0, True, (0, 0, 100_000, StartType.LOADING)),
        # the wait for something else counts as no stage
        ({"library": 5_000, "model": 60_000, "inference": 7_000}, 1, True, (0, 5_000, 60_000, StartType.WARM)),
        # the wait for the removal of what made room is part of making the container
        ({"library": 5_000, "model": 60_000, "inference": 7_000}, None, False, (30_000, 5_000, 60_000, StartType.WARM)),
    ],
)
def test_waits_of_a_start_count_as_the_stage_that_they_were_for(
    stages_us: dict[str, int], loading: int | None, alive: bool, expected: tuple[int, int, int, StartType]
) -> None:
    world = toy_world([(0.1, 0)], 1.0, kernel=Kernel.AGENT, event_mode=False, after_run_platform=AfterRun.KEEP)

    async def work() -> Any:
        nobody: Any = SimpleNamespace(embedded=False, retries={}, counts=Counter())
        run = Run(world, nobody, nobody, ("toy",), ("n0",), lambda name, row: {}, "a test")
        slot: Any = FakeSlot(Reply(Status.OK, stages_us=stages_us, start_type="warm"), loading, alive)
        told = make_order()
        at = run._log_start(told)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "_event", lambda *_: None)
            patch.setattr(run, "_reconcile", lambda *_: None)
            patch.setattr(run, "_removed", nothing)
            # ordered at 100 ms, its turn comes at 140; without a container that is made, from 140 to 170
            times = (100_000, 140_000, 700_000) if alive else (100_000, 140_000, 140_000, 170_000, 700_000)
            patch.setattr(run, "now_us", Clock(*times))
            await run._serve(slot, told, at)
        return run._state.log[at].copy(), run._invocations

    row, (noted,) = in_loop(work)
    warming_us, library_us, model_us, met = expected
    assert (row["warming_us"], row["library_us"], row["model_us"], row["start_type"]) == (
        warming_us,
        library_us,
        model_us,
        met,
    )
    assert (row["inference_us"], row["end_us"]) == (7_000, 700_000)
    assert row["kept"] == 0  # what the core believed to be held was not
    assert (noted.begin_us, noted.end_us, noted.warming_us, noted.met) == (140_000, 700_000, warming_us, met)
    known = warming_us + library_us + model_us + 7_000
    assert row["scheduling_us"] == 600_000 - known


async def nothing(*_: object) -> None:
    return


def make_order() -> Order:
    """The first request is to start in the first container."""
    whom = dict.fromkeys(("kind", "function", "container", "resident", "request", "at_us"), 0)
    return Order(**whom, start_type=int(StartType.WARM), on_gpu=False, kept=1)
