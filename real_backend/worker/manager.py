"""The pre-load manager of one container: which functions' processes it holds, and what an invocation does to them.

Rules, as in the Tyche paper: a function's libraries and model live in a process of its own; the start of a function
kills every other one in the container; a request that meets its own load in progress waits for the rest of it.
A load is admitted if the declared memory of all residents (the peak of what loads, the held size of what is loaded)
fits the container.  At most one request runs at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from real_backend.functions.protocol import Resources
from real_backend.worker.memory import Cgroup, peak_mb, proportional_mb, resident_mb
from real_backend.worker.messages import ActionError, Code, Run, WorldFunction
from real_backend.worker.process import FunctionProcess, ProcessEndedError, Stage, now_ns

StartType = Literal["gpu", "memory", "loading", "warm"]
State = Literal["loading", "held", "running"]
STAGES = ("clear", "library", "model", "transfer", "inference")


class Sized(Protocol):
    """What the manager has to know of a function."""

    @property
    def resources(self) -> Resources:
        """What it needs."""


class Starter(Protocol):
    """What starts processes: :class:`~.process.Launcher` or :class:`~.process.ZygoteLauncher`."""

    async def start(self, name: str, begin_ns: int) -> FunctionProcess:
        """Start a function's process."""

    async def close(self) -> None:
        """End whatever it keeps between starts."""


@dataclass(slots=True)
class _Resident:
    name: str
    gpu: bool = False
    kept: bool = False
    state: State = "loading"
    process: FunctionProcess | None = None
    task: asyncio.Task[None] | None = None
    doom: ActionError | None = None
    oom_kills: int | None = None
    exact_mb: float | None = None
    exact_rss_mb: float = 0.0
    torch_reserved_mb: float = 0.0


@dataclass(slots=True)
class Manager:
    """Holds the residents of one container.

    Attributes:
        functions: the declared functions by name, or those of a world (:meth:`offer`).
        starter: starts their processes.
        memory_mb: the container's memory in MB; None if nobody limits it.
        style: how processes start; each but ``fresh`` has profiles of its own, named ``FUNCTION-STYLE``.
        cgroup: the container's cgroup, which tells who was killed for memory.
    """

    functions: Mapping[str, Sized]
    starter: Starter
    memory_mb: float | None = None
    style: Literal["fresh", "zygote"] = "fresh"
    cgroup: Cgroup = field(default_factory=Cgroup)
    _declared: dict[str, str] = field(default_factory=dict)
    _residents: dict[str, _Resident] = field(default_factory=dict)
    _running: str | None = None
    _dying: set[asyncio.Task[None]] = field(default_factory=set)
    _lost: list[dict[str, str]] = field(default_factory=list)
    _working: set[asyncio.Task[None]] = field(default_factory=set)

    def offer(self, functions: Mapping[str, WorldFunction]) -> None:
        """Offer the functions of a world in place of the declared ones, each in processes of its own.

        Raises:
            ActionError: unknown_function, one of them is not declared.
        """
        for each in functions.values():
            if each.declared not in self.functions:
                raise ActionError(
                    "unknown_function", f"{each.declared}: no such function here; there are {', '.join(self.functions)}"
                )
        self._declared = {name: each.declared for name, each in functions.items()}
        self.functions = functions

    async def run(self, run: Run, seconds_left: float | None = None) -> dict[str, Any]:
        """Carry out one invocation.

        Args:
            run: what to do.
            seconds_left: the time until its deadline; None if it has none.

        Returns:
            The body of the reply, without what every reply carries (:meth:`snapshot`).

        Raises:
            ActionError: why it failed.
        """
        for name in (run.function, *run.evict):
            if name is not None and name not in self.functions:
                raise ActionError(
                    "unknown_function", f"{name}: no such function here; there are {', '.join(self.functions)}"
                )
        if run.gpu and run.function is not None and self.functions[run.function].resources.gpu_mb == 0:
            raise ActionError("bad_request", f"{run.function}: declares no GPU memory, so gpu must be false")
        if seconds_left is not None and seconds_left <= 0:
            raise ActionError("deadline", "the activation's deadline had passed before it arrived")
        if run.op == "status" or run.function is None:
            self._measure()
            return {"op": "status"}
        begin_ns = now_ns()
        if run.op == "offload":
            await self._offload(run.function)
            return {"op": "offload", "stages_ms": _clip((("clear", begin_ns, now_ns()),), begin_ns)}
        try:
            async with asyncio.timeout(seconds_left):
                if run.op == "load":
                    return await self._load(run, run.function, begin_ns)
                return await self._infer(run, run.function, begin_ns)
        except TimeoutError:
            raise ActionError("deadline", f"{run.function}: the activation's deadline passed during {run.op}") from None

    def snapshot(self) -> dict[str, Any]:
        """What every reply carries: the residents, what was lost since the last reply, and memory in MB.

        Memory is exact after a load and in a status; between those, it is the exact size plus the growth of the
        resident set, because an exact reading takes milliseconds.
        """
        residents = [self._describe(resident) for resident in self._residents.values()]
        own = resident_mb(os.getpid()) or 0.0
        lost, self._lost = self._lost, []
        return {
            "residents": residents,
            "lost": lost,
            "memory_mb": round(own + self._zygotes_mb() + sum(entry["memory_mb"] for entry in residents), 1),
            "torch_reserved_mb": round(sum(entry["torch_reserved_mb"] for entry in residents), 1),
        }

    async def close(self) -> None:
        """Kill every process and wait until they are gone."""
        for resident in list(self._residents.values()):
            self._kill(resident, "cancelled", "the container ends")
        await self._settle()
        # whoever is killed while its process starts has none yet; the start sees that, or fails with its zygote
        while self._working:
            await self.starter.close()
            await asyncio.wait(tuple(self._working), return_when=asyncio.FIRST_COMPLETED)
        await self.starter.close()

    # -- operations ------------------------------------------------------------------------------------------------

    async def _offload(self, name: str) -> None:
        self._refuse_running(name)
        if name in self._residents:
            self._kill(self._residents[name], "cancelled", "its off-load was ordered")
        await self._settle()

    async def _load(self, run: Run, name: str, begin_ns: int) -> dict[str, Any]:
        if self._running is not None:
            raise ActionError("busy", f"{name}: not loaded, because the container runs {self._running}")
        for other in run.evict:
            if other in self._residents and other != name:
                self._kill(self._residents[other], "cancelled", f"it was evicted for a load of {name}")
        clear_ns = now_ns()
        if run.evict:
            await self._settle()
            clear_ns = now_ns()
        resident = self._residents.get(name)
        # a load under way is told whole, though it may have taken several calls
        since_ns = begin_ns if resident is not None and resident.state != "loading" else 0
        resident = resident or self._begin(name, run.gpu, begin_ns)
        if run.wait_s is not None and resident.task is not None:
            await asyncio.wait((resident.task,), timeout=run.wait_s)
            if not resident.task.done():
                return {"op": "load", "function": name, "done": False}
        try:
            await self._ready(resident, run.gpu)
        except asyncio.CancelledError:
            self._kill(resident, "deadline", "its load took longer than the activation's deadline allows")
            raise
        self._measure(resident)
        stages = (("clear", begin_ns, clear_ns), *_spans(resident.process))
        return {"op": "load", "function": name, "done": True, "stages_ms": _clip(stages, since_ns)}

    async def _infer(self, run: Run, name: str, begin_ns: int) -> dict[str, Any]:
        if self._running is not None:
            raise ActionError("busy", f"{name}: not started, because the container runs {self._running}")
        self._running = name
        resident: _Resident | None = None
        try:
            for other in list(self._residents.values()):
                if other.name != name:
                    self._kill(other, "cancelled", f"{name} started in this container")
            await self._settle()
            clear_ns = now_ns()
            resident = self._residents.get(name)
            start_type = _start_type(resident, run.gpu)
            if resident is None:
                resident = self._begin(name, run.gpu, begin_ns)
            elif resident.process is not None and resident.state == "held":
                resident.process.forget_stages()
            await self._ready(resident, run.gpu)
            resident.state = "running"
            done = await self._ask(resident, {"op": "infer", "payload": dict(run.payload)})
            resident.torch_reserved_mb = done["torch_reserved_mb"]
            stages = (("clear", begin_ns, clear_ns), *_spans(resident.process))
        except asyncio.CancelledError:
            if resident is not None:
                self._kill(resident, "deadline", "its run took longer than the activation's deadline allows")
            raise
        finally:
            self._running = None
            if resident is not None and resident.state == "running":
                resident.state = "held"
                resident.kept = True
                self._after(resident, run)
        return {
            "op": "infer",
            "function": name,
            "stages_ms": _clip(stages, begin_ns),
            "start_type": start_type,
            "answer": done["answer"],
        }

    def _after(self, resident: _Resident, run: Run) -> None:
        if run.after_run == "keep" or resident.doom is not None:
            return
        self._kill(resident, "cancelled", "its run is over")
        if run.after_run == "reload":
            self._begin(resident.name, run.gpu, now_ns())

    # -- residents -------------------------------------------------------------------------------------------------

    def _refuse_running(self, name: str) -> None:
        if self._running == name:
            raise ActionError("busy", f"{name}: it runs")

    def _begin(self, name: str, gpu: bool, begin_ns: int) -> _Resident:
        """Admit a function and begin to load it."""
        need = self.functions[name].resources.peak_mb
        others = sum(self._reserved_mb(resident) for resident in self._residents.values())
        if self.memory_mb is not None and others + need > self.memory_mb:
            raise ActionError(
                "out_of_memory",
                f"{name}: needs {need} MB to load; of the container's {self.memory_mb:.0f} MB {others} are held",
            )
        resident = self._residents[name] = _Resident(name)
        self._work(resident, self._bring_up(resident, gpu, begin_ns))
        return resident

    def _reserved_mb(self, resident: _Resident) -> int:
        resources = self.functions[resident.name].resources
        return resources.peak_mb if resident.state == "loading" else resources.hold_mb

    def _work(self, resident: _Resident, work: Any) -> None:
        resident.state = "loading"
        resident.task = asyncio.create_task(work)
        self._working.add(resident.task)
        resident.task.add_done_callback(self._working.discard)
        # Whoever waits for it hears of its failure; a background reload has nobody who waits.
        resident.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _ready(self, resident: _Resident, gpu: bool) -> None:
        """Wait until a resident is loaded and where it shall be."""
        assert resident.task is not None
        await asyncio.shield(resident.task)
        if resident.gpu != gpu:
            self._work(resident, self._move(resident, gpu))
            await asyncio.shield(resident.task)

    async def _bring_up(self, resident: _Resident, gpu: bool, begin_ns: int) -> None:
        await self._settle()
        resident.oom_kills = self.cgroup.oom_kills()
        try:
            process = await self.starter.start(self._declared.get(resident.name, resident.name), begin_ns)
        except ActionError:
            self._forget(resident)
            raise
        resident.process = process
        process.ended.add_done_callback(lambda _: self._gone(resident))
        if resident.doom is not None:
            process.kill()
            await asyncio.shield(process.ended)
            raise resident.doom
        await self._ask_or_drop(resident, {"op": "load", "gpu": gpu}, gpu)

    async def _move(self, resident: _Resident, gpu: bool) -> None:
        await self._ask_or_drop(resident, {"op": "move", "gpu": gpu}, gpu)

    async def _ask_or_drop(self, resident: _Resident, message: dict[str, Any], gpu: bool) -> None:
        """A load or move; a process in which one failed is in no known state and is killed."""
        try:
            done = await self._ask(resident, message)
        except ActionError as error:
            self._kill(resident, error.code, error.message)
            raise
        resident.gpu = gpu
        resident.state = "held"
        resident.torch_reserved_mb = done["torch_reserved_mb"]

    async def _ask(self, resident: _Resident, message: dict[str, Any]) -> dict[str, Any]:
        assert resident.process is not None
        try:
            return await resident.process.request(message)
        except ActionError as error:
            raise ActionError(error.code, f"{resident.name}: {error.message}") from error
        except ProcessEndedError:
            raise (resident.doom or self._verdict(resident)) from None

    def _kill(self, resident: _Resident, code: Code, why: str) -> None:
        """Kill a resident; who waits for it hears why.  :meth:`_settle` waits until its memory is free."""
        resident.doom = ActionError(code, f"{resident.name}: {why}")
        self._forget(resident)
        if resident.process is not None:
            resident.process.kill()
        dying = asyncio.create_task(self._see_off(resident))
        self._dying.add(dying)
        dying.add_done_callback(self._dying.discard)

    async def _see_off(self, resident: _Resident) -> None:
        if resident.process is not None:
            await asyncio.shield(resident.process.ended)

    async def _settle(self) -> None:
        """Wait until everything that was killed is gone."""
        while self._dying:
            await asyncio.wait(tuple(self._dying))

    def _forget(self, resident: _Resident) -> None:
        if self._residents.get(resident.name) is resident:
            del self._residents[resident.name]

    def _gone(self, resident: _Resident) -> None:
        """A process ended: unless we killed it, say so in the next reply."""
        if resident.doom is None:
            resident.doom = self._verdict(resident)
            self._lost.append({"function": resident.name, **resident.doom.as_dict()})
        self._forget(resident)

    def _verdict(self, resident: _Resident) -> ActionError:
        """Why a process ended that nobody here killed."""
        assert resident.process is not None
        code = resident.process.ended.result() if resident.process.ended.done() else -signal.SIGKILL
        if code == -signal.SIGKILL:
            before, after = resident.oom_kills, self.cgroup.oom_kills()
            if before is not None and after is not None and after > before:
                return ActionError("out_of_memory", f"{resident.name}: the kernel killed it for memory")
            if before is None or after is None:
                return ActionError("out_of_memory", f"{resident.name}: it was killed, most likely for memory")
        with contextlib.suppress(ValueError):
            if code < 0:
                return ActionError("died", f"{resident.name}: its process died of {signal.Signals(-code).name}")
        return ActionError("died", f"{resident.name}: its process ended by itself with code {code}")

    # -- memory ----------------------------------------------------------------------------------------------------

    def _measure(self, only: _Resident | None = None) -> None:
        for resident in [only] if only is not None else self._residents.values():
            if resident.process is not None:
                resident.exact_mb = proportional_mb(resident.process.pid)
                resident.exact_rss_mb = resident_mb(resident.process.pid) or 0.0

    def _describe(self, resident: _Resident) -> dict[str, Any]:
        memory = peak = 0.0
        if resident.process is not None:
            memory = resident_mb(resident.process.pid) or 0.0
            peak = peak_mb(resident.process.pid) or 0.0
            if resident.exact_mb is not None:
                memory += resident.exact_mb - resident.exact_rss_mb
        return {
            "function": resident.name,
            "profile": resident.name if self.style == "fresh" else f"{resident.name}-{self.style}",
            "state": resident.state,
            "gpu": resident.gpu,
            "memory_mb": round(memory, 1),
            "peak_mb": round(peak, 1),
            "torch_reserved_mb": round(resident.torch_reserved_mb, 1),
            "kept": resident.kept,
        }

    def _zygotes_mb(self) -> float:
        pids: tuple[int, ...] = getattr(self.starter, "pids", ())
        return sum(resident_mb(pid) or 0.0 for pid in pids)


def _start_type(resident: _Resident | None, gpu: bool) -> StartType:
    if resident is None:
        return "warm"
    if resident.state == "loading":
        return "loading"
    return "gpu" if gpu and resident.gpu else "memory"


def _spans(process: FunctionProcess | None) -> tuple[tuple[str, int, int], ...]:
    stages: list[Stage] = process.stages if process is not None else []
    return tuple((stage.name, stage.begin_ns, stage.end_ns) for stage in stages)


def _clip(spans: tuple[tuple[str, int, int], ...], begin_ns: int) -> dict[str, float]:
    """Milliseconds of each stage that fell after the request began: all that a request pays of a load it joins."""
    total = dict.fromkeys(STAGES, 0)
    for name, begin, end in spans:
        total[name] += max(0, end - max(begin, begin_ns))
    return {name: round(ns / 1e6, 3) for name, ns in total.items()}
