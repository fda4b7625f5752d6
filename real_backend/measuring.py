"""Measuring profiles: each stage of each function, many times, in a container of the kind that will run it."""

from __future__ import annotations

import asyncio
import math
import platform
import statistics
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from real_backend.client import Client, Credentials
from real_backend.embedded import EmbeddedPlatform, container_environment
from real_backend.functions.protocol import Function, FunctionError, load_functions
from real_backend.functions.weights import weights_folder
from real_backend.health import machine
from real_backend.platform.config import Containers, Limits, NodeSpec, PlatformConfig
from real_backend.slots import Deployment, Place, Reply, Slot, memory_mib
from tyche_env.codes import Status
from tyche_env.errors import UserError
from tyche_env.profiles import FunctionProfile

T = TypeVar("T")

FEWEST = 10
"""Repetitions that a profile needs at least."""
_CREATIONS = 10
NODE = "invoker0"
"""The node of a platform for measuring."""
TIME_LIMIT_S = 300.0
_PACKAGES = {
    "magika": ("magika", "onnxruntime"),
    "onnxruntime": ("onnxruntime",),
    "torch": ("torch",),
    "torch+transformers": ("torch", "transformers"),
}
_LARGEST_SIGMA = 2.0


class MeasuringError(UserError):
    """Something cannot be measured; the message names it and what would be right."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        names: of the functions.
        functions: module or file that declares them.
        repetitions: of each stage.
        containers: what the container is.
        container_mb: its size, which goes into the profile.
        gpu: device whose stages are measured, too, or None.
    """

    names: tuple[str, ...]
    functions: str = "real_backend.functions.catalogue"
    repetitions: int = FEWEST
    containers: Containers = "process"
    container_mb: int = 2048
    gpu: str | None = None

    def declared(self) -> dict[str, Function]:
        """The functions to measure.

        Raises:
            MeasuringError: too few repetitions, a function that is not declared or does not fit.
        """
        if self.repetitions < FEWEST:
            raise MeasuringError(f"--repetitions: a profile needs at least {FEWEST}, got {self.repetitions}")
        try:
            known = load_functions(self.functions)
        except FunctionError as error:
            raise MeasuringError(str(error)) from error
        for name in self.names:
            if name not in known:
                raise MeasuringError(f"{name}: {self.functions} declares {', '.join(known)}")
            if known[name].resources.peak_mb > self.container_mb:
                raise MeasuringError(
                    f"--container-mb: {name} needs {known[name].resources.peak_mb} MB, got {self.container_mb}"
                )
        return {name: known[name] for name in self.names}


def measure(
    plan: Plan, payload: Callable[[str, int], Mapping[str, Any]], progress: Callable[[str], None]
) -> list[FunctionProfile]:
    """Measure on an embedded platform of its own, one thing after the other.

    Args:
        plan: what.
        payload: what requests ask: (function, number) -> JSON object.
        progress: told what is done.

    Raises:
        MeasuringError: the plan is wrong, or a function fails.
    """
    functions = plan.declared()

    async def work(client: Client) -> list[FunctionProfile]:
        return await _measure(plan, functions, Deployment(client, True, TIME_LIMIT_S), payload, progress)

    return on_own_platform(plan, work)


def on_own_platform(plan: Plan, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Do some work on an embedded platform that has one node, with room for two of the plan's containers.

    Args:
        plan: says what the containers are and know, and the device of the node's GPU.
        work: what is done; it is given a client of the platform.
    """
    memory = memory_mib(plan.container_mb)
    reference = str(Path(plan.functions).resolve()) if plan.functions.endswith(".py") else plan.functions
    weights = weights_folder().absolute()
    config = PlatformConfig(
        nodes=(NodeSpec(name=NODE, memory_mib=2 * memory, gpus=(plan.gpu,) if plan.gpu else None),),
        containers=plan.containers,
        limits=Limits(memory_min_mib=min(128, memory), memory_std_mib=memory, memory_max_mib=memory),
        pause_after_s=None,
        keep_alive_s=None,
        start_timeout_s=60.0,
        worker_arguments=("--functions", reference),
        environment=container_environment(),
        mounts=(weights,) if weights.is_dir() else (),
    )

    async def with_client(credentials: Credentials) -> T:
        async with Client(credentials) as client:
            return await work(client)

    own = EmbeddedPlatform()
    try:
        return asyncio.run(with_client(own.start(config)))
    finally:
        own.stop()


async def _measure(
    plan: Plan,
    functions: Mapping[str, Function],
    deployment: Deployment,
    payload: Callable[[str, int], Mapping[str, Any]],
    progress: Callable[[str], None],
) -> list[FunctionProfile]:
    place = Place(NODE, memory_mib(plan.container_mb))
    init_us: list[int] = []
    for _ in range(max(_CREATIONS, plan.repetitions)):
        slot = Slot(deployment, place)
        reply = await slot.invoke({"op": "status"})
        init_us.append(_sound("a container", reply).warming_us)
        await slot.remove()
    progress(f"container: {statistics.median(init_us) / 1e3:.0f} ms")
    slot = Slot(deployment, place)
    found = []
    for name, function in functions.items():
        gpu = plan.gpu is not None and function.resources.gpu_mb > 0
        on_cpu = [await _once(slot, name, False, payload(name, n)) for n in range(plan.repetitions)]
        on_gpu = [await _once(slot, name, True, payload(name, n)) for n in range(plan.repetitions)] if gpu else []
        profile = _profile(plan, name, function, statistics.median(init_us), on_cpu, on_gpu)
        progress(
            f"{name}: library {profile.library_ms:.0f} ms, model {profile.model_ms:.0f} ms, "
            f"inference {profile.inference_ms:.1f} ms"
        )
        found.append(profile)
    return found


async def _once(slot: Slot, name: str, gpu: bool, payload: Mapping[str, Any]) -> dict[str, int]:
    """Stages of a run in a fresh process, and of the one that follows in the same process."""
    first = await slot.invoke({"op": "infer", "function": name, "gpu": gpu, "payload": dict(payload)})
    again = await slot.invoke(
        {"op": "infer", "function": name, "gpu": gpu, "payload": dict(payload), "after_run": "discard"}
    )
    # the first inference of a process warms up what a held function has warm
    return {**_sound(name, first).stages_us, "inference": _sound(name, again).stages_us["inference"]}


def _sound(what: str, reply: Reply) -> Reply:
    if reply.status != Status.OK:
        raise MeasuringError(f"{what}: {reply.message}")
    return reply


def _profile(
    plan: Plan,
    name: str,
    function: Function,
    init_us: float,
    on_cpu: list[dict[str, int]],
    on_gpu: list[dict[str, int]],
) -> FunctionProfile:
    def median_ms(runs: list[dict[str, int]], stage: str) -> float:
        return round(statistics.median(run[stage] for run in runs) / 1e3, 3) if runs else 0.0

    totals = [math.log(max(1, run["library"] + run["model"] + run["inference"])) for run in on_cpu]
    device = f", GPU {plan.gpu}" if on_gpu else "; no GPU was seen"
    return FunctionProfile(
        name=name,
        container_init_ms=round(init_us / 1e3, 1),
        library_ms=median_ms(on_cpu, "library"),
        model_ms=median_ms(on_cpu, "model"),
        transfer_ms=median_ms(on_gpu, "transfer"),
        inference_ms=median_ms(on_cpu, "inference"),
        gpu_inference_ms=median_ms(on_gpu, "inference"),
        hold_mb=function.resources.hold_mb,
        peak_mb=function.resources.peak_mb,
        gpu_mb=function.resources.gpu_mb if on_gpu else 0,
        container_mb=plan.container_mb,
        sigma=round(min(_LARGEST_SIGMA, statistics.stdev(totals)), 3),
        source=f"measured {date.today()} on {machine()}{device}, {plan.containers} containers, median of "
        f"{plan.repetitions}, one thread; Python {platform.python_version()}{_versions(function.library)}; "
        "memory as declared",
    )


def _versions(library: str) -> str:
    found = ""
    for package in _PACKAGES.get(library, ()):
        try:
            found += f", {package} {version(package)}"
        except PackageNotFoundError:
            continue
    return found
