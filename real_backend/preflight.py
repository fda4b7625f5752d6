"""Before time begins: is what a run needs there, and does each function load, answer and go again?"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from real_backend.client import Needs
from real_backend.slots import Deployment, Place, Slot, memory_mib
from tyche_env.codes import Status
from tyche_env.world import World

KEEP_WARM_S = 9.0
"""OpenWhisk pauses a container that is silent for 10 s."""
LOAD_WAIT_S = 0.25
"""How long a call waits for a load, and so a start at most for a slot in which something loads."""
_REMEDY = (
    "an OpenWhisk binds a slot to a node only where its new scheduler has invokers with the tags in TYCHE_NODE_TAGS; "
    "take a world of one node"
)
_IN_FLIGHT_S = 10.0
"""How long a request may be in flight where nobody but the platform decides: what a cold start takes, and its queue."""


def slots_of(world: World) -> int:
    """How many containers the world's nodes can hold at once."""
    return int((world.node_memory_mb // int(world.functions.container_mb.min())).sum())


def rates(world: World, native: bool, keep_warm: bool) -> Needs:
    """How many calls the trace will take, at most: in any minute, and at once.

    A request is a call; where functions are held, it may bring a load, which is a call each quarter of a second, and an
    off-load.  A slot has one call in flight.
    """
    calls = np.ones(world.function_count)
    if world.settings.preloads and not native:
        load_s = (world.functions.library_us + world.functions.model_us) / 1e6
        calls += 2 + np.floor(load_s / LOAD_WAIT_S)
    per_minute = _most(world.arrival_us, calls[world.arrival_function], 60.0)
    if keep_warm and not native:
        per_minute += slots_of(world) * 60 / KEEP_WARM_S
    one = np.ones(len(world.arrival_us))
    concurrent = _most(world.arrival_us, one, _IN_FLIGHT_S) if native else slots_of(world)
    return Needs(per_minute=math.ceil(per_minute), concurrent=math.ceil(concurrent))


def _most(at_us: NDArray[np.int64], amount: NDArray[np.float64], within_s: float) -> float:
    """The most that falls into any stretch of so many seconds."""
    if not len(at_us):
        return 0.0
    total = np.concatenate(([0.0], np.cumsum(amount)))
    ends = np.searchsorted(at_us, at_us + round(within_s * 1e6), side="left")
    return float((total[ends] - total[: len(at_us)]).max())


async def try_functions(
    world: World,
    deployment: Deployment,
    functions: Sequence[str],
    nodes: Sequence[str],
    payload: Callable[[str, int], Mapping[str, Any]],
    passed: Collection[int] = (),
) -> list[str]:
    """Load, ask and off-load each function once, in a slot of its size, which another run of a slot uses again.

    Args:
        world: whose functions.
        deployment: makes the slots.
        functions: (F,) what the action server calls them.
        nodes: (N,) what the platform calls the nodes.
        payload: what a request asks.
        passed: functions that need not be tried.

    Returns:
        A line for each function that fails, with the reason; none if all is well.
    """
    problems: list[str] = []
    on_gpu = world.gpu_count > 0
    for size in sorted(set(world.functions.container_mb.tolist())):
        todo = [f for f in range(world.function_count) if world.functions.container_mb[f] == size and f not in passed]
        fits = [node for node in range(world.node_count) if world.node_memory_mb[node] >= size]
        fits.sort(key=lambda node: node not in world.gpu_node.tolist())
        if not todo or not fits:
            continue
        slot = Slot(deployment, Place(nodes[fits[0]], memory_mib(size)))
        async with slot.lock:
            for f in todo:
                gpu = on_gpu and int(world.functions.gpu_mb[f]) > 0
                asks = dict(payload(world.profiles[f], 0))
                name = functions[f]
                for body in (
                    {"op": "load", "gpu": gpu},
                    {"op": "infer", "gpu": gpu, "payload": asks},
                    {"op": "offload"},
                ):
                    reply = await slot.invoke({**body, "function": name})
                    if reply.status != Status.OK:
                        problems.append(f"{name}: {body['op']}: {reply.message.removeprefix(f'{name}: ')}")
                        break
            await slot.remove()
    return problems


async def try_nodes(world: World, deployment: Deployment, nodes: Sequence[str]) -> str:
    """Ask one slot of each node where it is; why the nodes are not those of the world, empty if they are."""
    homes = Homes()
    for node, memory_mb in zip(nodes, world.node_memory_mb.tolist(), strict=True):
        size = max(size for size in world.functions.container_mb.tolist() if size <= memory_mb)
        slot = Slot(deployment, Place(node, memory_mib(size)))
        async with slot.lock:
            reply = await slot.invoke({"op": "status"})
            await slot.remove()
        if reply.status != Status.OK:
            return f"{node}: a slot there does not answer: {reply.message}"
        problem = homes.note(node, reply.home or "an unknown machine")
        if problem:
            return problem
    return ""


class Homes:
    """On which machine the slots of each node are, as their action servers say."""

    def __init__(self) -> None:
        self._machines: dict[str, str] = {}
        self._nodes: dict[str, str] = {}

    def note(self, node: str, machine: str) -> str:
        """Note where a slot of a node is; why that cannot be, empty if it can."""
        before = self._machines.setdefault(node, machine)
        if before != machine:
            return f"slots of {node} are on two machines ({before} and {machine}); {_REMEDY}"
        other = self._nodes.setdefault(machine, node)
        if other != node:
            return f"slots of {other} and {node} are on the same machine ({machine}); {_REMEDY}"
        return ""
