"""One run on real containers: events go into the decision core, its commands become invocations.

Everything here happens in one asyncio loop.  Events are handled as they come, each to its end; only invocations wait.
The core's containers are worker slots (:mod:`real_backend.slots`).  What the core believes about latencies comes from
the world's profiles; what a request's record says was measured.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_backend.client import ClientError
from real_backend.core import NONE_DUE, begin, give_up, next_timer, on_event
from real_backend.health import Invocation, Kind
from real_backend.preflight import LOAD_WAIT_S, Homes
from real_backend.replay import START_TYPES, Failing, Replay
from real_backend.slots import STAGES, Place, Reply, Slot, memory_mib
from tyche_env.backend import BackendError
from tyche_env.codes import (
    ARRIVAL,
    CREATED,
    DO_CREATE,
    DO_DEMOTE,
    DO_LOAD,
    DO_OFFLOAD,
    DO_REMOVE,
    DO_START,
    DO_TRANSFER,
    FINISH,
    HELD,
    IDLE,
    LOAD_FAILED,
    LOADED,
    OFFLOADED,
    PRIORITIES,
    Status,
)
from tyche_env.control.handles import handles_of
from tyche_env.control.hooks import check_rules, install
from tyche_env.control.interval import take_priorities
from tyche_env.control.queue import NO_KEY
from tyche_env.world import StartType, World

_MARGIN = 8
_EVENTS_S = 5.0
_EVENTS_PAUSE_S = 0.5
_KEEP_WARM_TICK_S = 0.25
_OVERTAKEN = ("cancelled", "busy")
"""Codes of loads that somebody else's turn ended: they say nothing about the function."""
_TIMES_EXPECTED = 4
"""How much longer than its profile says a function may take before its container counts as silent."""


@dataclass(frozen=True, slots=True)
class Order:
    """A command of the core, copied from its table."""

    kind: int
    function: int
    container: int
    resident: int
    request: int
    start_type: int
    on_gpu: bool
    kept: int
    at_us: int


class Run(Replay):
    """One run of a world, from its first instant on; make it inside the loop."""

    def __init__(self, world: World, *more: Any) -> None:
        super().__init__(world, *more)
        install(self._state, world.rules)
        self._handles = handles_of(self._state)
        self._slots: dict[int, Slot] = {}
        self._removals: dict[int, set[asyncio.Task[None]]] = {node: set() for node in range(world.node_count)}
        self._homes = Homes()
        table = world.functions
        stages_us = table.library_us + table.model_us + table.transfer_us + table.inference_us
        self._longest_s = self._patience.silence_s + _TIMES_EXPECTED * stages_us / 1e6
        self._ticket = 0
        self._alarm: asyncio.TimerHandle | None = None

    # -- what the backend asks of it -----------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Deploy the actions of as many slots as the nodes can hold."""
        sizes = sorted(set(self.world.functions.container_mb.tolist()))
        await asyncio.gather(
            *(
                self._deployment.provide(Place(name, memory_mib(size)), int(memory) // size)
                for name, memory in zip(self._nodes, self.world.node_memory_mb.tolist(), strict=True)
                for size in sizes
            )
        )

    def set_priorities(self, decision: NDArray[np.int8], priority: NDArray[np.int64]) -> None:
        """New decisions of the policy."""
        self.start()
        take_priorities(self._handles, decision, priority)
        self._event(PRIORITIES, 0)

    async def close(self) -> None:
        """Stop everything that is under way; containers and actions are the deployment's matter."""
        if self._alarm is not None:
            self._alarm.cancel()
        await super().close()

    # -- the core ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        begin(self._handles)
        self._set_alarm()
        if self._deployment.embedded:
            self._spawn(self._follow())
        if self._patience.keep_warm_s is not None:
            self._spawn(self._keep_warm(self._patience.keep_warm_s))

    def _arrive(self, request: int) -> None:
        self._event(ARRIVAL, int(self._state.arrival_function[request]), request)

    def _event(self, kind: int, entity: int, request: int = 0) -> None:
        """Tell the core of an event and carry out what it orders."""
        self._make_room()
        started = time.perf_counter()
        count = on_event(self._handles, self.now_us(), kind, entity, request)
        self._decision_us.append(1e6 * (time.perf_counter() - started))
        check_rules()
        if count < 0:
            raise BackendError("backend openwhisk: a pool of the core overflowed; please report the scenario and seed")
        at_us = int(self._cluster["now_us"])
        for order in [_copy(row, at_us) for row in self._state.commands[:count]]:
            self._carry_out(order)
        self._set_alarm()

    def _make_room(self) -> None:
        """Double the pools of the core that are nearly full."""
        s, state = self._cluster, self._state
        full = any(
            int(s[count]) + _MARGIN > len(heap)
            for count, heap in (("timer_count", state.timers), ("soon_count", state.soon))
        )
        if not full and not (s["waiting_free"] == 0 and s["waiting_fresh"] >= len(state.waiting)):
            return
        tables = {name: getattr(state, name) for name in ("timers", "soon", "waiting", "free_waiting")}
        self._state = state._replace(**{n: np.concatenate([t, np.zeros_like(t)]) for n, t in tables.items()})
        self._handles = handles_of(self._state)

    def _set_alarm(self) -> None:
        """Be called when the core's next timer is due."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        _, due_us = next_timer(self._handles, -1)
        if due_us >= 0:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(0.0, (due_us - self.now_us()) / 1e6), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        try:
            kind, entity = next_timer(self._handles, self.now_us())
            if kind != NONE_DUE:
                self._event(kind, entity)
            else:
                self._set_alarm()
        except Exception as error:
            self._fail(error)

    # -- commands ------------------------------------------------------------------------------------------------------

    def _carry_out(self, order: Order) -> None:
        if order.kind == DO_REMOVE:
            slot = self._slots.pop(order.container, None)
            if slot is not None:
                node = self._nodes.index(slot.place.node)
                task = self._spawn(self._remove(slot))
                self._removals[node].add(task)
                task.add_done_callback(self._removals[node].discard)
            return
        slot = self._slots.get(order.container)
        if order.kind == DO_START:
            if slot is None:
                slot = self._new_slot(order.container)
            self._spawn(self._serve(slot, order, self._log_start(order)))
        elif order.kind == DO_CREATE:
            self._spawn(self._create(self._new_slot(order.container), order.container))
        elif slot is None:
            return
        elif order.kind in (DO_LOAD, DO_TRANSFER, DO_OFFLOAD):
            r = self._state.residents[order.resident]
            if r["function"] == order.function and r["container"] == order.container:
                # as in the simulator, a key says whether the resident still waits for this very command
                self._ticket += 1
                self._state.residents["due_key"][order.resident] = self._ticket
                if order.kind == DO_OFFLOAD:
                    self._spawn(self._offload(slot, order, self._ticket))
                elif order.function in self._failing and self.now_us() < self._failing[order.function].until_us:
                    self._spawn(self._postpone(order, self._ticket))
                else:
                    self._spawn(self._load(slot, order, self._ticket))
        elif order.kind == DO_DEMOTE:
            self._spawn(self._demote(slot, order))
        # a killed function is evicted by the load that takes its place, or was discarded after its run

    def _new_slot(self, container: int) -> Slot:
        row = self._state.containers[container]
        place = Place(self._nodes[int(row["node"])], memory_mib(int(row["size_mb"])))
        slot = self._slots[container] = Slot(self._deployment, place)
        return slot

    def _log_start(self, order: Order) -> int:
        """Begin the record of a request; its stages are filled in when it has ended."""
        at = self._new_record(order.request)
        row = self._state.log[at]
        row["container"], row["node"] = order.container, self._state.containers["node"][order.container]
        row["queue_us"] = max(0, int(self._cluster["now_us"]) - int(row["arrival_us"]))
        row["end_us"] = row["arrival_us"] + row["queue_us"]
        row["start_type"] = order.start_type
        return at

    async def _serve(self, slot: Slot, order: Order, at: int) -> None:
        """A request's inference."""
        begin_us = self.now_us()
        joined = slot.loading == order.function
        async with slot.lock:
            slot.loading = None
            turn_us = self.now_us()
            joined_us = turn_us - begin_us if joined else 0
            making_us = 0
            if not slot.alive:
                wait_us = self.now_us()
                await self._removed(slot)
                making_us = self.now_us() - wait_us
            profile = self.world.profiles[order.function]
            reply = await slot.invoke(
                {
                    "op": "infer",
                    "function": self._functions[order.function],
                    "gpu": order.on_gpu,
                    "after_run": self._after_run,
                    "payload": dict(self._payload(profile, order.request)),
                },
                float(self._longest_s[order.function]),
            )
        if reply.fresh:
            start_type = int(StartType.COLD)
        elif joined and reply.status == Status.OK:
            start_type = int(StartType.LOADING)
        else:
            start_type = int(START_TYPES.get(reply.start_type or "", StartType(order.start_type)))
        row = self._state.log[at]
        row["start_type"] = start_type
        row["kept"] = order.kept if start_type <= StartType.MEMORY else 0
        row["on_gpu"] = order.on_gpu
        stages = reply.stages_us
        row["warming_us"] = making_us + reply.warming_us
        for stage in ("library", "model", "transfer"):
            row[f"{stage}_us"] = stages.get(stage, 0)
        # the wait for the call that looked after the load was a wait for the stage in which the load was
        row["library_us" if row["library_us"] > 0 else "model_us"] += joined_us
        row["inference_us"] = stages.get("inference", 0)
        self._note("infer", order, turn_us, reply, making_us, start_type)
        self._end_record(at, reply.status)
        self._event(FINISH, order.container)
        self._reconcile(slot, order.container, reply)
        self._changed.set()

    async def _load(self, slot: Slot, order: Order, ticket: int) -> None:
        """A load, or the move of a model to the GPU; one at a time in a slot."""
        async with slot.load_lock:
            await self._load_alone(slot, order, ticket)

    async def _load_alone(self, slot: Slot, order: Order, ticket: int) -> None:
        done = False
        turn_us = -1
        while not done:
            # between two calls others get the slot: a start joins the load, or ends it
            async with slot.lock:
                if not self._waits(order.resident, ticket):
                    return
                turn_us = self.now_us() if turn_us < 0 else turn_us
                if not slot.alive:
                    await self._removed(slot)
                slot.loading = order.function
                reply = await slot.invoke(
                    {
                        "op": "load",
                        "function": self._functions[order.function],
                        "gpu": order.kind == DO_TRANSFER,
                        "evict": self._unwanted(order.container, slot, order.function),
                        "wait_s": LOAD_WAIT_S,
                    },
                    self._patience.silence_s,
                )
                done = reply.done
                if done:
                    slot.loading = None
            if self._slots.get(order.container) is slot:
                self._reconcile(slot, order.container, reply, order.resident)
        self._note("transfer" if order.kind == DO_TRANSFER else "load", order, turn_us, reply)
        self._learn(order.function, reply)
        if self._waits(order.resident, ticket):
            self._state.residents["due_key"][order.resident] = NO_KEY
            self._event(LOADED if reply.status == Status.OK else LOAD_FAILED, order.resident)

    def _learn(self, function: int, reply: Reply) -> None:
        """After a load that failed the next one of its function waits, twice as long each time."""
        if reply.status == Status.OK:
            if function in self._failing:
                self._failing[function].row = self._failing[function].until_us = 0
            return
        if reply.code in _OVERTAKEN:
            return
        self._counts["failed loads"] += 1
        failing = self._failing.setdefault(function, Failing())
        pause_s = min(self._patience.load_pause_longest_s, self._patience.load_pause_s * 2**failing.row)
        failing.total += 1
        failing.row += 1
        failing.until_us = self.now_us() + round(1e6 * pause_s)
        failing.reason = reply.message

    async def _postpone(self, order: Order, ticket: int) -> None:
        """Do not try a load so soon after one of the same function failed; the core may ask again."""
        if self._waits(order.resident, ticket):
            self._counts["postponed loads"] += 1
            self._state.residents["due_key"][order.resident] = NO_KEY
            self._event(LOAD_FAILED, order.resident)

    async def _offload(self, slot: Slot, order: Order, ticket: int) -> None:
        reply = None
        async with slot.lock:
            if not self._waits(order.resident, ticket):
                return
            turn_us = self.now_us()
            if slot.alive:
                body = {"op": "offload", "function": self._functions[order.function]}
                reply = await slot.invoke(body, self._patience.silence_s)
                self._note("offload", order, turn_us, reply)
        if self._waits(order.resident, ticket):
            self._state.residents["due_key"][order.resident] = NO_KEY
            self._event(OFFLOADED, order.resident)
        if reply is not None and self._slots.get(order.container) is slot:
            self._reconcile(slot, order.container, reply)

    def _note(self, kind: Kind, order: Order, turn_us: int, reply: Reply, making_us: int = 0, met: int = -1) -> None:
        """Keep what an order came to."""
        stages = {f"{name}_us": reply.stages_us.get(name, 0) for name in STAGES}
        self._invocations.append(
            Invocation(
                kind=kind,
                function=order.function,
                container=order.container,
                order_us=order.at_us,
                begin_us=turn_us,
                end_us=self.now_us(),
                warming_us=making_us + reply.warming_us,
                met=met,
                status=int(reply.status),
                **stages,
            )
        )

    async def _demote(self, slot: Slot, order: Order) -> None:
        async with slot.lock:
            r = self._state.residents[order.resident]
            if r["function"] == order.function and r["container"] == order.container and r["state"] == HELD:
                body = {"op": "load", "function": self._functions[order.function], "gpu": False}
                await slot.invoke(body, float(self._longest_s[order.function]))

    async def _create(self, slot: Slot, container: int) -> None:
        async with slot.lock:
            await self._removed(slot)
            # if it cannot be made, the first request that comes to it makes it
            await slot.create()
        self._event(CREATED, container)

    async def _remove(self, slot: Slot) -> None:
        async with slot.lock:
            await slot.remove()

    async def _removed(self, slot: Slot) -> None:
        """Wait until what was to make room on the slot's node is gone, or the platform would evict something else."""
        removals = self._removals[self._nodes.index(slot.place.node)]
        while removals:
            await asyncio.wait(tuple(removals))

    # -- what is there, and what the core believes ---------------------------------------------------------------------

    def _waits(self, resident: int, ticket: int) -> bool:
        return int(self._state.residents["due_key"][resident]) == ticket

    def _residents(self, container: int) -> list[int]:
        found, at = [], int(self._state.containers["resident_head"][container])
        while at >= 0:
            found.append(at)
            at = int(self._state.residents["container_next"][at])
        return found

    def _unwanted(self, container: int, slot: Slot, loads: int) -> list[str]:
        """Functions that the container still holds but shall not, when another one is loaded."""
        wanted = {loads}
        if self._slots.get(container) is slot:
            wanted |= {int(self._state.residents["function"][at]) for at in self._residents(container)}
        return sorted(slot.held - {self._functions[f] for f in wanted})

    def _reconcile(self, slot: Slot, container: int, reply: Reply, but: int = -1) -> None:
        """Tell the core of functions that are no longer where it believes them to be."""
        if reply.lost:
            self._counts["lost containers"] += 1
        self._place(slot, reply)
        if self._slots.get(container) is not slot or (reply.held is None and not reply.lost):
            return
        self._give_up(container, reply.held or frozenset(), but)

    def _place(self, slot: Slot, reply: Reply) -> None:
        """Refuse a world whose slots are not where they shall be, as far as the action servers say.

        Raises:
            BackendError: slots of one node are on several machines, or those of several nodes on one.
        """
        if self._deployment.embedded or len(self._nodes) < 2 or reply.home is None:
            return
        problem = self._homes.note(slot.place.node, reply.home)
        if problem:
            raise BackendError(f"backend openwhisk: {problem}")

    def _give_up(self, container: int, held: frozenset[str], but: int = -1) -> None:
        for resident in self._residents(container):
            r = self._state.residents[resident]
            if (
                resident != but
                and self._state.containers["state"][container] == IDLE
                and r["state"] == HELD
                and r["container"] == container
                and self._functions[int(r["function"])] not in held
            ):
                self._counts["lost residents"] += 1
                give_up(self._handles, resident)
                self._event(OFFLOADED, resident)

    async def _keep_warm(self, every_s: float) -> None:
        """Call slots that hold something and were quiet for so long, before the platform pauses them."""
        while True:
            await asyncio.sleep(min(every_s, _KEEP_WARM_TICK_S))
            for container, slot in tuple(self._slots.items()):
                quiet_s = time.monotonic() - slot.quiet_since_s
                if slot.alive and slot.held and not slot.lock.locked() and quiet_s >= every_s:
                    self._spawn(self._wake(slot, container))

    async def _wake(self, slot: Slot, container: int) -> None:
        async with slot.lock:
            if not slot.alive or not slot.held:
                return
            began_s = time.monotonic()
            reply = await slot.invoke({"op": "status"}, self._patience.silence_s)
            self._counts["keep-warm calls"] += 1
            self._keep_warm_ms += 1e3 * (time.monotonic() - began_s)
        self._reconcile(slot, container, reply)

    async def _follow(self) -> None:
        """Hear from the platform of containers that vanish while nobody uses them."""
        number = 0
        while True:
            living: set[str] | None = None
            gone: set[str] = set()
            try:
                page = await self._client.events(number, _EVENTS_S)
                if page.events and page.oldest <= number + 1:
                    gone = {each.container for each in page.events if each.kind == "removed"}
                else:
                    # events were missed, or a platform that was restarted counts anew
                    living = {each.id for each in await self._client.containers()}
                if page.events:
                    number = page.events[-1].number
            except ClientError:
                await asyncio.sleep(_EVENTS_PAUSE_S)
                continue
            for container, slot in tuple(self._slots.items()):
                name = slot.container
                if name is None or slot.lock.locked():
                    continue
                if name in gone or (living is not None and name not in living):
                    number = 0 if living is not None else number
                    slot.forget()
                    self._counts["lost containers"] += 1
                    self._give_up(container, frozenset())


def _copy(row: Any, at_us: int) -> Order:
    return Order(
        kind=int(row["kind"]),
        function=int(row["function"]),
        container=int(row["container"]),
        resident=int(row["resident"]),
        request=int(row["request"]),
        start_type=int(row["start_type"]),
        on_gpu=bool(row["on_gpu"]),
        kept=int(row["kept"]),
        at_us=at_us,
    )
