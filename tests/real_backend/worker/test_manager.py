"""The pre-load manager with real processes of toy functions."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from real_backend.functions.protocol import load_functions
from real_backend.worker.manager import Manager, Starter
from real_backend.worker.messages import ActionError, Run
from real_backend.worker.process import Launcher, ZygoteLauncher

TOYS = "real_backend.functions.toy"
T = TypeVar("T")


def with_manager(
    play: Callable[[Manager], Awaitable[T]],
    memory_mb: float | None = None,
    zygote: bool = False,
    reference: str = TOYS,
) -> T:
    """Run a play on a manager of its own, and see that it leaves no process behind."""

    async def run() -> T:
        functions = load_functions(reference)
        starter: Starter = (
            ZygoteLauncher(reference, dict(os.environ), {name: f.library for name, f in functions.items()})
            if zygote
            else Launcher(reference, dict(os.environ), {})
        )
        manager = Manager(functions, starter, memory_mb, "zygote" if zygote else "fresh")
        try:
            return await play(manager)
        finally:
            await manager.close()
            assert manager.snapshot()["residents"] == []

    before = children()
    try:
        return asyncio.run(run())
    finally:
        assert children() <= before


def children() -> set[int]:
    tasks = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in tasks.split()}


def residents(manager: Manager) -> dict[str, dict[str, Any]]:
    return {entry["function"]: entry for entry in manager.snapshot()["residents"]}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes, however slow the machine is."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def declared(folder: Path, functions: str) -> str:
    """A reference to functions of the test's own beside the toys."""
    path = folder / "mine.py"
    path.write_text(
        "from real_backend.functions.protocol import Resources\n"
        "from real_backend.functions.toy import FUNCTIONS as TOYS, Toy\n"
        f"FUNCTIONS = TOYS | {functions}\n"
    )
    return str(path)


def pid_of(manager: Manager, name: str) -> int:
    process = manager._residents[name].process
    assert process is not None
    return process.pid


@pytest.fixture
def endless(tmp_path: Path) -> str:
    """The toys, and a function whose load outlasts every test."""
    return declared(tmp_path, "{'endless': Toy(Resources(60, 80), model_ms=1e6)}")


@pytest.mark.parametrize("zygote", [False, True], ids=["fresh", "zygote"])
def test_a_loaded_function_starts_from_memory_and_pays_only_its_inference(zygote: bool) -> None:
    async def play(manager: Manager) -> None:
        load = await manager.run(Run("load", "toy-slow"))
        assert load["stages_ms"]["library"] >= 150
        assert load["stages_ms"]["model"] >= 250
        assert residents(manager)["toy-slow"]["state"] == "held"
        reply = await manager.run(Run("infer", "toy-slow", payload={"numbers": [1, 2, 3.5]}))
        assert reply["answer"]["sum"] == 6.5
        assert reply["start_type"] == "memory"
        assert reply["stages_ms"]["library"] == reply["stages_ms"]["model"] == 0
        assert reply["stages_ms"]["inference"] >= 20

    with_manager(play, zygote=zygote)


@pytest.mark.parametrize("zygote", [False, True], ids=["fresh", "zygote"])
def test_a_function_that_is_not_loaded_pays_for_everything(zygote: bool) -> None:
    async def play(manager: Manager) -> None:
        reply = await manager.run(Run("infer", "toy-slow"))
        assert reply["start_type"] == "warm"
        assert reply["stages_ms"]["library"] >= 150
        assert reply["stages_ms"]["model"] >= 250

    with_manager(play, zygote=zygote)


@pytest.mark.parametrize(("zygote", "imports"), [(False, 2), (True, 1)], ids=["fresh", "zygote"])
def test_forks_of_a_zygote_do_not_import_again_and_have_profiles_of_their_own(
    tmp_path: Path, zygote: bool, imports: int
) -> None:
    declaration = tmp_path / "mine.py"
    declaration.write_text(
        "import sys\n"
        "from real_backend.functions.protocol import Resources\n"
        "from real_backend.functions.toy import Toy\n"
        "class Mine(Toy):\n"
        "    def libraries(self):\n"
        "        if 'make-believe toy' not in sys.modules:\n"
        f"            open({str(tmp_path / 'imports')!r}, 'a').write('once ')\n"
        "        super().libraries()\n"
        "FUNCTIONS = {'mine': Mine(Resources(1, 1))}\n"
    )

    async def play(manager: Manager) -> None:
        await manager.run(Run("load", "mine"))
        assert residents(manager)["mine"]["profile"] == ("mine-zygote" if zygote else "mine")
        await manager.run(Run("offload", "mine"))
        await manager.run(Run("load", "mine"))

    with_manager(play, reference=str(declaration), zygote=zygote)
    assert (tmp_path / "imports").read_text() == imports * "once "


def test_a_request_that_meets_its_load_pays_only_the_rest(tmp_path: Path) -> None:
    async def play(manager: Manager) -> None:
        load = asyncio.create_task(manager.run(Run("load", "slow")))
        await until(lambda: "slow" in manager._residents)
        resident = manager._residents["slow"]
        await until(lambda: resident.process is not None and any(s.name == "library" for s in resident.process.stages))
        reply = await manager.run(Run("infer", "slow"))
        assert reply["start_type"] == "loading"
        whole = (await load)["stages_ms"]
        assert whole["library"] >= 150
        assert reply["stages_ms"]["library"] == 0
        assert 0 < reply["stages_ms"]["model"] < whole["model"]

    with_manager(play, reference=declared(tmp_path, "{'slow': Toy(Resources(60, 80), library_ms=150, model_ms=1000)}"))


def test_a_start_kills_every_other_process_and_cancels_other_loads(endless: str) -> None:
    async def play(manager: Manager) -> None:
        await manager.run(Run("load", "toy"))
        load = asyncio.create_task(manager.run(Run("load", "endless")))
        await until(lambda: "endless" in residents(manager) and manager._residents["endless"].process is not None)
        reply = await manager.run(Run("infer", "toy-gpu"))
        assert reply["start_type"] == "warm"
        assert set(residents(manager)) == {"toy-gpu"}
        with pytest.raises(ActionError, match="toy-gpu started in this container") as caught:
            await load
        assert caught.value.code == "cancelled"

    with_manager(play, reference=endless)


def test_a_load_that_does_not_fit_is_refused_and_fits_once_another_is_evicted() -> None:
    async def play(manager: Manager) -> None:
        await manager.run(Run("load", "toy-slow"))
        with pytest.raises(
            ActionError, match=r"toy: needs 40 MB to load; of the container's 90 MB 60 are held"
        ) as caught:
            await manager.run(Run("load", "toy"))
        assert caught.value.code == "out_of_memory"
        await manager.run(Run("load", "toy", evict=("toy-slow",)))
        assert set(residents(manager)) == {"toy"}

    with_manager(play, memory_mb=90)


def test_while_it_loads_a_function_counts_with_its_peak() -> None:
    async def play(manager: Manager) -> None:
        load = asyncio.create_task(manager.run(Run("load", "toy-slow")))
        await until(lambda: "toy-slow" in residents(manager))
        with pytest.raises(ActionError, match="80 are held"):
            await manager.run(Run("load", "toy"))
        await load
        await manager.run(Run("load", "toy"))

    with_manager(play, memory_mb=100)


def test_a_function_that_cannot_fit_the_container_never_starts() -> None:
    async def play(manager: Manager) -> None:
        with pytest.raises(ActionError, match="toy-big: needs 1000 MB"):
            await manager.run(Run("infer", "toy-big"))
        assert (await manager.run(Run("infer", "toy")))["start_type"] == "warm"

    with_manager(play, memory_mb=500)


def test_what_becomes_of_a_process_after_its_run() -> None:
    async def play(manager: Manager) -> None:
        await manager.run(Run("infer", "toy", after_run="keep"))
        assert residents(manager)["toy"]["kept"]
        await manager.run(Run("infer", "toy", after_run="discard"))
        assert residents(manager) == {}
        await manager.run(Run("infer", "toy", after_run="reload"))
        assert residents(manager)["toy"]["state"] == "loading"
        reply = await manager.run(Run("infer", "toy"))
        assert reply["start_type"] == "loading"

    with_manager(play)


def test_a_preloaded_function_is_not_kept_until_it_has_run() -> None:
    async def play(manager: Manager) -> None:
        await manager.run(Run("load", "toy"))
        assert not residents(manager)["toy"]["kept"]

    with_manager(play)


def test_a_model_moves_between_memory_and_gpu() -> None:
    async def play(manager: Manager) -> None:
        load = await manager.run(Run("load", "toy-gpu", gpu=True))
        assert load["stages_ms"]["transfer"] >= 30
        assert residents(manager)["toy-gpu"]["gpu"]
        assert (await manager.run(Run("infer", "toy-gpu", gpu=True)))["start_type"] == "gpu"
        await manager.run(Run("load", "toy-gpu", gpu=False))
        assert not residents(manager)["toy-gpu"]["gpu"]
        reply = await manager.run(Run("infer", "toy-gpu", gpu=True))
        assert reply["start_type"] == "memory"
        assert reply["stages_ms"]["transfer"] >= 30
        with pytest.raises(ActionError, match="toy: declares no GPU memory"):
            await manager.run(Run("load", "toy", gpu=True))

    with_manager(play)


def test_a_request_past_its_deadline_is_killed_and_the_container_lives_on() -> None:
    async def play(manager: Manager) -> None:
        with pytest.raises(ActionError, match="deadline passed during infer") as caught:
            await manager.run(Run("infer", "toy", payload={"sleep_ms": 60_000}), seconds_left=0.3)
        assert caught.value.code == "deadline"
        with pytest.raises(ActionError, match="deadline passed during load"):
            await manager.run(Run("load", "toy-slow"), seconds_left=0.1)
        with pytest.raises(ActionError, match="had passed before it arrived"):
            await manager.run(Run("infer", "toy"), seconds_left=-1)
        assert residents(manager) == {}
        assert (await manager.run(Run("infer", "toy"), seconds_left=30))["start_type"] == "warm"

    with_manager(play)


def test_a_container_runs_one_request_at_a_time() -> None:
    async def play(manager: Manager) -> None:
        first = asyncio.create_task(manager.run(Run("infer", "toy", payload={"sleep_ms": 1000})))
        await until(lambda: "toy" in residents(manager) and residents(manager)["toy"]["state"] == "running")
        for run in (Run("infer", "toy"), Run("load", "toy-slow"), Run("offload", "toy")):
            with pytest.raises(ActionError, match="runs") as caught:
                await manager.run(run)
            assert caught.value.code == "busy"
        assert (await first)["answer"]["sum"] == 0

    with_manager(play)


def test_an_offload_cancels_a_load_and_is_idempotent(endless: str) -> None:
    async def play(manager: Manager) -> None:
        load = asyncio.create_task(manager.run(Run("load", "endless")))
        await until(lambda: "endless" in residents(manager) and manager._residents["endless"].process is not None)
        await manager.run(Run("offload", "endless"))
        with pytest.raises(ActionError, match="its off-load was ordered"):
            await load
        await manager.run(Run("offload", "endless"))
        assert residents(manager) == {}

    with_manager(play, reference=endless)


@pytest.mark.parametrize("zygote", [False, True], ids=["fresh", "zygote"])
def test_a_manager_that_closes_while_a_process_starts_leaves_none(zygote: bool) -> None:
    before = children()

    async def play(manager: Manager) -> asyncio.Task[dict[str, Any]]:
        load = asyncio.create_task(manager.run(Run("load", "toy")))
        await until(lambda: children() > before)
        return load

    load = with_manager(play, zygote=zygote)  # looks whether any is left
    assert isinstance(load.exception(), ActionError)


def test_a_load_may_go_on_in_the_background_and_be_asked_about_again() -> None:
    async def play(manager: Manager) -> None:
        for _ in range(2):
            reply = await manager.run(Run("load", "toy-slow", wait_s=0))
            assert reply == {"op": "load", "function": "toy-slow", "done": False}
        assert residents(manager)["toy-slow"]["state"] == "loading"
        replies: list[dict[str, Any]] = []
        while not replies or not replies[-1]["done"]:
            replies.append(await manager.run(Run("load", "toy-slow", wait_s=0.05)))
        assert residents(manager)["toy-slow"]["state"] == "held"
        # a start meanwhile is a start like any other: it joins the load, or ends it
        await manager.run(Run("load", "toy-gpu", wait_s=0.0))
        await manager.run(Run("infer", "toy-slow"))
        assert list(residents(manager)) == ["toy-slow"]

    with_manager(play)


def test_loading_what_is_loaded_costs_nothing() -> None:
    async def play(manager: Manager) -> None:
        both = await asyncio.gather(manager.run(Run("load", "toy")), manager.run(Run("load", "toy")))
        pid = pid_of(manager, "toy")
        third = await manager.run(Run("load", "toy"))
        assert all(reply["op"] == "load" for reply in both)
        assert {name for name, ms in third["stages_ms"].items() if ms} <= {"clear"}
        assert pid_of(manager, "toy") == pid

    with_manager(play)


def test_a_corrupt_model_is_named_and_leaves_nothing() -> None:
    async def play(manager: Manager) -> None:
        said = r"toy-corrupt: its model cannot be loaded: toy\.py, line 55: EOFError"
        with pytest.raises(ActionError, match=said) as caught:
            await manager.run(Run("load", "toy-corrupt"))
        assert caught.value.code == "corrupt_model"
        assert residents(manager) == {}
        assert manager.snapshot()["lost"] == []

    with_manager(play)


def test_mistakes_in_a_payload_and_exceptions_leave_the_process_loaded() -> None:
    async def play(manager: Manager) -> None:
        await manager.run(Run("load", "toy"))
        for payload, code in (
            ({"numbers": 3}, "bad_request"),
            ({"fail": True}, "failed"),
            ({"numbers": [1e999]}, "failed"),
        ):
            with pytest.raises(ActionError) as caught:
                await manager.run(Run("infer", "toy", payload=payload))
            assert caught.value.code == code
        assert (await manager.run(Run("infer", "toy")))["start_type"] == "memory"

    with_manager(play)


@pytest.mark.parametrize("zygote", [False, True], ids=["fresh", "zygote"])
def test_a_process_that_ends_by_itself_is_reported_with_its_code(zygote: bool) -> None:
    async def play(manager: Manager) -> None:
        with pytest.raises(ActionError, match="ended by itself with code 3") as caught:
            await manager.run(Run("infer", "toy", payload={"exit": 3}))
        assert caught.value.code == "died"
        assert residents(manager) == {}

    with_manager(play, zygote=zygote)


def test_an_idle_process_that_dies_is_reported_once_as_lost() -> None:
    async def play(manager: Manager) -> None:
        await manager.run(Run("load", "toy"))
        os.kill(pid_of(manager, "toy"), signal.SIGSEGV)
        async with asyncio.timeout(10):
            while manager._residents:
                await asyncio.sleep(0.01)
        lost = manager.snapshot()["lost"]
        assert lost == [{"function": "toy", "code": "died", "message": "toy: its process died of SIGSEGV"}]
        assert manager.snapshot()["lost"] == []

    with_manager(play)


def test_an_unknown_function_is_refused_with_the_known_ones() -> None:
    async def play(manager: Manager) -> None:
        for run in (Run("infer", "nobody"), Run("load", "toy", evict=("nobody",))):
            with pytest.raises(ActionError, match="nobody: no such function here; there are toy, ") as caught:
                await manager.run(run)
            assert caught.value.code == "unknown_function"

    with_manager(play)


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    declaration = tmp_path / "mine.py"
    declaration.write_text(
        "from real_backend.functions.protocol import Resources\n"
        "from real_backend.functions.toy import Toy\n"
        "class Mine(Toy):\n"
        "    def libraries(self):\n"
        "        import not_there\n"
        "FUNCTIONS = {'mine': Mine(Resources(1, 1))}\n"
    )

    async def play(manager: Manager) -> None:
        with pytest.raises(ActionError, match=r"mine: its libraries cannot be imported: .*not_there") as caught:
            await manager.run(Run("load", "mine"))
        assert caught.value.code == "failed"

    with_manager(play, reference=str(declaration))


@pytest.mark.parametrize("zygote", [False, True], ids=["fresh", "zygote"])
def test_a_process_that_hangs_up_is_ended(tmp_path: Path, zygote: bool) -> None:
    declaration = tmp_path / "mine.py"
    declaration.write_text(
        "import os, time\n"
        "from real_backend.functions.protocol import Resources\n"
        "from real_backend.functions.toy import Toy\n"
        "class Mine(Toy):\n"
        "    def infer(self, model, payload):\n"
        "        os.closerange(3, 100)\n"
        "        time.sleep(1000)\n"
        "FUNCTIONS = {'mine': Mine(Resources(1, 1))}\n"
    )

    async def play(manager: Manager) -> None:
        with pytest.raises(ActionError) as caught:
            await manager.run(Run("infer", "mine"), seconds_left=30)
        assert caught.value.code in ("died", "out_of_memory")
        assert residents(manager) == {}

    with_manager(play, reference=str(declaration), zygote=zygote)


def test_memory_is_that_of_the_processes() -> None:
    async def play(manager: Manager) -> None:
        small = manager.snapshot()["memory_mb"]
        await manager.run(Run("load", "toy-slow"))
        await manager.run(Run("status"))
        snapshot = manager.snapshot()
        (entry,) = snapshot["residents"]
        assert 45 < entry["memory_mb"] < 60
        assert entry["peak_mb"] >= entry["memory_mb"]
        assert snapshot["memory_mb"] == pytest.approx(small + entry["memory_mb"], abs=3)

    with_manager(play)


@pytest.mark.parametrize("zygote", [False, True], ids=["fresh", "zygote"])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_arrives_at_once_everything_is_answered_and_memory_is_never_overbooked(
    seed: int, zygote: bool
) -> None:
    chance = random.Random(seed)
    names = ["toy", "toy-slow", "toy-gpu", "toy-corrupt"]

    def draw() -> tuple[Run, float | None]:
        name = chance.choice(names)
        run = chance.choice(
            [
                Run(
                    "load", name, gpu=name == "toy-gpu" and chance.random() < 0.5, evict=tuple(chance.sample(names, 1))
                ),
                Run("load", name),
                Run("offload", name),
                Run("infer", name, payload={"sleep_ms": chance.randrange(30)}),
                Run("infer", name, after_run=chance.choice(["discard", "reload"])),
                Run("infer", name, payload={"exit": 1}),
            ]
        )
        return run, chance.choice([None, None, 0.02, 0.2])

    async def play(manager: Manager) -> None:
        def reserved_mb() -> int:
            functions = manager.functions
            return sum(functions[entry["function"]].resources.hold_mb for entry in manager.snapshot()["residents"])

        async def one(delay_s: float, run: Run, seconds_left: float | None) -> str:
            await asyncio.sleep(delay_s)
            running = asyncio.create_task(manager.run(run, seconds_left))
            await asyncio.sleep(0)  # it is admitted or refused
            booked.append(reserved_mb())
            try:
                reply = await running
            except ActionError as error:
                return error.code
            finally:
                booked.append(reserved_mb())
            return str(reply["op"])

        booked: list[int] = []
        async with asyncio.timeout(300):
            outcomes = await asyncio.gather(*(one(chance.random() * 2, *draw()) for _ in range(60)))
        # which of these a request meets depends on the machine, that it is one of them does not
        codes = {"busy", "cancelled", "corrupt_model", "deadline", "died", "out_of_memory"}
        assert set(outcomes) <= {"infer", "load", "offload", *codes}
        assert 0 < max(booked) <= 130
        assert (await manager.run(Run("infer", "toy")))["answer"]["sum"] == 0

    with_manager(play, memory_mb=130, zygote=zygote)
