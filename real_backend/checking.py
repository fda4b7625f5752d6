"""``tyche platform check``: whether a platform can do what a replay asks of it, one line a question."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from real_backend.client import Activation, Client, ClientError, Needs, ServerLimits, problems_of
from real_backend.functions.payloads import sample_payload
from real_backend.functions.protocol import FunctionError, load_functions
from real_backend.making import Making, functions_of, names_of
from real_backend.preflight import rates, slots_of
from real_backend.slots import PREFIX, Deployment, Place, Reply, failure_of, memory_mib, reply_of
from tyche_env.codes import Status
from tyche_env.errors import UserError
from tyche_env.world import World

TIMEOUT_S = 120.0
"""Time limit of an invocation, as in a replay."""
_WARM_CALLS = 5
_OF_A_RUN = re.compile(rf"{PREFIX}[0-9a-f]{{8}}-.+")


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a question.

    Attributes:
        well: whether it can be played; None: it cannot be known from here.
        what: what was asked.
        text: what was found, with the setting to change.
    """

    well: bool | None
    what: str
    text: str

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "FAIL", None: "?   "}[self.well]
        return f"{mark} {self.what}: {self.text}"


@dataclass(frozen=True, slots=True)
class Question:
    """What a replay would ask of the platform.

    Attributes:
        making: what its actions are made of.
        declared: module or file of its functions.
        world: what is to be played; None: one slot with the first declared function.
        memory_mb: of a container, without a world.
        keep_warm: whether slots are called so that they are not paused.
    """

    making: Making
    declared: str
    world: World | None = None
    memory_mb: int = 512
    keep_warm: bool = False

    @property
    def container_mib(self) -> int:
        """Memory of the largest container."""
        return memory_mib(self.memory_mb if self.world is None else int(self.world.functions.container_mb.max()))

    @property
    def profiles(self) -> tuple[str, ...]:
        """Declared names of the functions that are needed."""
        return tuple(load_functions(self.declared))[:1] if self.world is None else self.world.profiles

    def deployment(self, client: Client, embedded: bool) -> tuple[Deployment, str]:
        """What makes the action, and what its action server calls the first function."""
        if self.world is None:
            return Deployment(client, embedded, TIMEOUT_S, self.making, self.declared), self.profiles[0]
        functions = functions_of(self.world)
        deployment = Deployment(client, embedded, TIMEOUT_S, self.making, self.declared, functions)
        return deployment, names_of(self.world)[0]


async def check(client: Client, question: Question, tell: Callable[[Finding], None]) -> bool:
    """Ask the platform everything; whether nothing would fail.

    Args:
        client: of the platform.
        question: what a replay would ask.
        tell: told each finding as it is there.
    """
    failed = False

    def note(well: bool | None, what: str, text: str) -> None:
        nonlocal failed
        failed = failed or well is False
        tell(Finding(well, what, text))

    try:
        embedded = await client.is_embedded()
        limits = await client.limits()
    except ClientError as error:
        note(False, "platform", str(error))
        return False
    note(True, "platform", "embedded" if embedded else "an OpenWhisk that is not ours")
    if question.world is None:
        try:
            load_functions(question.declared)
        except FunctionError as error:
            note(False, "functions", str(error))
            return False
    for finding in _limits(question, limits):
        note(*finding)
    note(*await _others(client))
    note(*await _pool(client, question, embedded))
    try:
        await question.making.require(client)
        deployment, function = question.deployment(client, embedded)
    except (UserError, FunctionError) as error:
        note(False, "deployment", str(error))
        return False
    try:
        for finding in await _slot(deployment, function, question):
            note(*finding)
    except (ClientError, UserError) as error:
        note(False, "deployment", str(error))
    finally:
        left = await deployment.close()
    note(not left, "left behind", ", ".join(left) or "nothing of this check")
    return not failed


Row = tuple[bool | None, str, str]


def _limits(question: Question, limits: ServerLimits) -> Iterable[Row]:
    """Sizes, and rates where a trace is known."""
    largest = max(len(json.dumps(sample_payload(name, 15))) for name in question.profiles)
    needs = Needs(
        memory_mib=question.container_mib,
        timeout_ms=round(TIMEOUT_S * 1000),
        logs_mib=0,
        payload_bytes=largest,
    )
    problems = problems_of(needs, limits)
    text = f"{needs.memory_mib} MiB, {TIMEOUT_S:.0f} s, no logs, payloads of {largest} bytes"
    yield not problems, "limits", "; ".join(problems) or f"{text} are allowed"
    if question.world is None:
        yield None, "rates", "name a --scenario to compare its trace with the limits"
        return
    wanted = rates(question.world, False, question.keep_warm)
    problems = problems_of(wanted, limits)
    text = (
        f"at most {wanted.per_minute} calls in a minute and {wanted.concurrent} at once, of "
        f"{limits.invocations_per_minute or 'an unknown number'} and {limits.concurrent_invocations or 'as many'}"
    )
    yield not problems, "rates", "; ".join(problems) or text


async def _others(client: Client) -> Row:
    """Whose actions there are before ours: of replays that go on, or of killed ones."""
    names = await _of_runs(client)
    if not names:
        return True, "other replays", "none"
    runs = sorted({name[: len(PREFIX) + 8] for name in names})
    return (
        None,
        "other replays",
        f"{len(names)} actions of {', '.join(runs)}: one that goes on takes memory and calls from yours; what a killed "
        "one left, `tyche platform check --clean` deletes",
    )


async def _pool(client: Client, question: Question, embedded: bool) -> Row:
    """Whether the world's containers fit the platform's memory."""
    if question.world is None:
        return None, "memory", "name a --scenario to compare its nodes with the platform's"
    wanted = sorted((memory_mib(size) for size in question.world.node_memory_mb.tolist()), reverse=True)
    slots = slots_of(question.world)
    if not embedded:
        return (
            None,
            "memory",
            f"not told by the platform; {len(wanted)} invokers need whisk.container-pool.user-memory of "
            f"{wanted[0]} m or more, for {slots} slots in all",
        )
    there = sorted((node.memory_mib for node in await client.nodes()), reverse=True)
    fits = len(there) >= len(wanted) and all(has >= needs - 1 for has, needs in zip(there, wanted, strict=False))
    text = f"nodes of {there} MiB for the world's {wanted}"
    return (
        fits,
        "memory",
        text if fits else f"{text}; `tyche platform up --nodes {len(wanted)} --memory-mb {wanted[0]}`",
    )


async def _slot(deployment: Deployment, function: str, question: Question) -> list[Row]:
    """Load, hold, infer and off-load one function in a slot, and see whether one container did it all."""
    declared = question.profiles[0]
    nodes = [node.name for node in await deployment.client.nodes()] if deployment.embedded else ["invoker0"]
    spare = await deployment.take(Place(nodes[0], question.container_mib))
    found: list[Row] = []
    boots: list[str | None] = []
    cold = True
    for what, parameters in (
        ("load", {"op": "load", "function": function}),
        ("hold", {"op": "status"}),
        ("infer", {"op": "infer", "function": function, "payload": sample_payload(declared, 1)}),
        ("off-load", {"op": "offload", "function": function}),
    ):
        began_s = time.monotonic()
        reply, _ = await _ask(deployment, spare.action, parameters)
        took_ms = 1e3 * (time.monotonic() - began_s)
        well = reply.status == Status.OK
        text = f"{took_ms:.0f} ms" + (f", of which {reply.warming_us / 1e3:.0f} made the container" if cold else "")
        if well and what == "hold" and reply.held != frozenset({function}):
            well, reply = False, Reply(Status.FAILED, f"the container does not hold {function} any more")
        found.append((well, f"{what} {function}", text if well else f"{reply.status.name}: {reply.message}"))
        boots.append(reply.boot)
        cold = False
        if not well:
            return found
    waits_ms, clocks_ms = [], []
    for _ in range(_WARM_CALLS):
        sent_s, began_s = time.time(), time.monotonic()
        reply, activation = await _ask(deployment, spare.action, {"op": "status"})
        waits_ms.append(1e3 * (time.monotonic() - began_s))
        boots.append(reply.boot)
        if activation is not None:
            clocks_ms.append(activation.start - (activation.wait_ms or 0) - 1e3 * sent_s)
    others = sum(boot != boots[0] for boot in boots)
    found.append(
        (
            others == 0 and boots[0] is not None,
            "one container",
            f"answered all {len(boots)} calls"
            if others == 0
            else f"another one than the first answered {others} of {len(boots)} calls; the action asks for no logs "
            "(limits.logs 0): does the platform override that, or evict (whisk.container-pool.user-memory)?",
        )
    )
    found.append((True, "a warm call", f"{sorted(waits_ms)[len(waits_ms) // 2]:.1f} ms"))
    if clocks_ms:
        off_ms = min(clocks_ms, key=abs)
        found.append((None, "clocks", f"the platform's is {off_ms:+.0f} ms of ours; nothing measured rests on it"))
    return found


async def _ask(deployment: Deployment, action: str, parameters: Mapping[str, Any]) -> tuple[Reply, Activation | None]:
    try:
        activation = await deployment.client.invoke(action, parameters, TIMEOUT_S)
    except ClientError as error:
        return failure_of(error), None
    return reply_of(activation), activation


async def _of_runs(client: Client) -> list[str]:
    return sorted(each.path for each in await client.actions() if _OF_A_RUN.fullmatch(each.path))


async def clean(client: Client) -> list[str]:
    """Delete every action that a run has deployed, of runs that go on as well, and their containers where we can.

    Returns:
        Their names.
    """
    embedded = await client.is_embedded()
    names = await _of_runs(client)
    for name in names:
        await client.delete_action(name)
    if embedded:
        deployment = Deployment(client, True, TIMEOUT_S)
        for each in await client.containers():
            if _OF_A_RUN.fullmatch(each.action or ""):
                await deployment.remove(each.id)
    return names
