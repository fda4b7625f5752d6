"""``make gpu``: measure the shipped functions on this machine's GPU, and replay requests with and without it.

Needs no network and no Docker: containers are plain processes.  It keeps within ``--minutes``, does what matters most
first, and writes each part into ``--out`` as soon as it is known, so that a run that is cut short leaves the rest:

- ``machine.json``: GPU, driver, versions.
- ``stages.json``: load, transfer, inference, move back and off-load of each function, with the GPU's memory by NVML
  and the worker's own account of it after each.
- ``profiles.csv``: profiles of as many functions as the time allows.
- ``replay.json``: Tyche on ``real-small``, shortened, with the GPU tier and without.

``--page FOLDER`` writes what such a folder holds into docs/real-backend.md and measures nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agents.evidence.evaluation import evaluate
from agents.evidence.pages import fill
from agents.evidence.plan import Plan as Runs
from agents.evidence.tables import ms
from real_backend.client import Client
from real_backend.functions.catalogue import RANDOM_WEIGHTS
from real_backend.functions.payloads import sample_payload
from real_backend.functions.weights import make_weights, weights_folder
from real_backend.health import machine
from real_backend.measuring import TIME_LIMIT_S, Plan, measure, on_own_platform
from real_backend.slots import Deployment, memory_mib
from real_backend.telemetry import Telemetry
from tyche_env.errors import UserError
from tyche_env.profiles import FunctionProfile, write_catalogue
from tyche_env.scenario import Scenario

PAGE = Path(__file__).resolve().parent.parent / "docs" / "real-backend.md"
NAMES = ("resnet18", "bert_base", "resnet50", "vgg19", "alexnet", "inception_v3", "googlenet", "resnet152")
"""Functions with a GPU part and weights that are made here, those first that are to be measured in any case."""
CONTAINER_MB = 4_000
"""A process that has a CUDA context takes far more host memory than one without."""
INFERENCES = 10
_BETWEEN_S = 20.0
"""What a replay takes beside its requests: the platform's start and stop, and what is loaded before."""
_POLL_S = 0.05
_SETTLE_S = 2.0
"""How long the driver may take to show memory that was given back."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 0, 1 if there is no GPU or a function fails on it, 2 after a user's error."""
    parser = argparse.ArgumentParser(
        prog="make gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder for the results (runs/gpu)")
    parser.add_argument("--minutes", type=float, default=8.0, help="how long all of it may take (8)")
    parser.add_argument("--gpu", default="0", help="NVML's index or UUID of the GPU (0)")
    parser.add_argument("--functions", default="real_backend.functions.catalogue", help="module that declares them")
    parser.add_argument("--name", action="append", dest="names", help=f"instead of {', '.join(NAMES[:3])}, ...")
    parser.add_argument("--container-mb", type=int, default=CONTAINER_MB, help=f"size of a container ({CONTAINER_MB})")
    parser.add_argument("--replay-min", type=int, default=1, help="minutes of requests of each replay; 0: none (1)")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write this folder's results into the docs")
    options = parser.parse_args(arguments)
    try:
        if options.page is not None:
            fill(PAGE, {"gpu": page(options.page)})
            return 0
        return check(options)
    except UserError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2


def check(options: argparse.Namespace) -> int:
    """All parts, as far as the time allows."""
    started_s = time.monotonic()
    out: Path = options.out
    names = tuple(options.names or NAMES)
    about = describe(options.gpu)
    write(out, "machine", about)
    print(f"{about['gpu']['name']}, driver {about['driver']}, torch {about['torch']}", flush=True)
    for name in names:
        if name in RANDOM_WEIGHTS:
            make_weights(name, weights_folder())
    plan = Plan(names, options.functions, containers="process", container_mb=options.container_mb, gpu=options.gpu)
    plan.declared()
    said("weights", started_s)

    stages = on_own_platform(plan, lambda client: all_stages(client, plan))
    write(out, "stages", stages)
    said(f"stages of {len(stages)} functions", started_s)

    replays_s = 2 * (60 * options.replay_min + _BETWEEN_S) if options.replay_min else 0.0
    profiles: list[FunctionProfile] = []
    took_s = 0.0
    for name in (each["function"] for each in stages if not each["error"]):
        began_s = time.monotonic()
        if began_s - started_s + took_s + replays_s > 60 * options.minutes:
            print(f"profiles: no time for {name} and what follows", flush=True)
            break
        profiles += measure(replace(plan, names=(name,)), sample_payload, lambda _: None)
        write_catalogue(out / "profiles.csv", profiles)
        took_s = time.monotonic() - began_s
        said(f"profile of {name}", started_s)
    if options.replay_min and profiles:
        write(out, "replay", replays(plan, profiles, out, options.replay_min))
        said("replays", started_s)
    failed = [f"{each['function']}: {each['error']}" for each in stages if each["error"]]
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed or not profiles else 0


def said(what: str, started_s: float) -> None:
    """Progress."""
    print(f"{time.monotonic() - started_s:6.0f} s: {what}", flush=True)


def write(out: Path, name: str, content: object) -> None:
    """One part, as JSON."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def describe(gpu: str) -> dict[str, Any]:
    """What this is measured on.

    Raises:
        UserError: there is no such GPU.
    """
    with Telemetry() as telemetry:
        reading = telemetry.read()
    try:
        found = reading.find(gpu)
    except LookupError as error:
        raise UserError(str(error)) from None
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "not installed"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "gpu": {"name": found.name, "total_mb": round(found.total_mb), "stub": found.is_stub},
        "driver": reading.driver,
        "python": platform.python_version(),
        "torch": torch,
        "load_average": os.getloadavg()[0],
    }


async def all_stages(client: Client, plan: Plan) -> list[dict[str, Any]]:
    """The stages of every function, each in a container of its own; one that fails does not end the others."""
    deployment = Deployment(client, True, TIME_LIMIT_S)
    found = []
    with Telemetry() as telemetry:

        def used_mb() -> float:
            return telemetry.read().find(str(plan.gpu)).used_mb

        for name, function in plan.declared().items():
            action = await deployment.deploy(f"gpu-{name}", memory_mib(plan.container_mb))
            row = {"function": name, "declared_gpu_mb": function.resources.gpu_mb, "error": ""}
            try:
                row |= await stages_of(client, action, name, used_mb)
            except UserError as error:
                row["error"] = str(error)
            deployment.discard(action)
            found.append(row)
        await deployment.close()
    return found


async def stages_of(client: Client, action: str, name: str, used_mb: Callable[[], float]) -> dict[str, Any]:
    """One function's way to the GPU and back.

    Args:
        client: of the platform.
        action: of the action server.
        name: of the function.
        used_mb: memory of the GPU that is taken now, by NVML.
    """

    async def call(**parameters: Any) -> dict[str, Any]:
        began_s = time.perf_counter()
        activation = await client.invoke(action, parameters, TIME_LIMIT_S)
        body = activation.response.result
        if not isinstance(body, dict) or not body.get("ok"):
            said = body.get("error", body) if isinstance(body, dict) else body
            raise UserError(f"{parameters['op']}: {said.get('message', said) if isinstance(said, dict) else said}")
        return body | {"call_ms": 1e3 * (time.perf_counter() - began_s)}

    async def on_gpu_mb() -> float:
        (own,) = (each for each in (await call(op="status"))["residents"] if each["function"] == name)
        return float(own["torch_reserved_mb"])

    async def settled_mb(low: float) -> float:
        """What is taken once the driver shows it: memory that is given back may take a moment."""
        end_s = time.monotonic() + _SETTLE_S
        while (now_mb := used_mb()) > low and time.monotonic() < end_s:
            await asyncio.sleep(_POLL_S)
        return now_mb

    await call(op="status")  # makes the container
    payload = sample_payload(name, 0)
    before_mb = used_mb()
    load = await call(op="load", function=name, gpu=False, wait_s=TIME_LIMIT_S / 2)
    on_cpu = await call(op="infer", function=name, gpu=False, payload=payload)
    transfer = await call(op="load", function=name, gpu=True, wait_s=TIME_LIMIT_S / 2)
    moved_mb = used_mb()
    inferences = [await call(op="infer", function=name, gpu=True, payload=payload) for _ in range(INFERENCES)]
    warm_mb, reserved_mb = used_mb(), await on_gpu_mb()
    back = await call(op="load", function=name, gpu=False, wait_s=TIME_LIMIT_S / 2)
    back_mb = await settled_mb(moved_mb - 1)
    gone = await call(op="offload", function=name)
    gone_mb = await settled_mb(before_mb + 1)
    each_ms = [one["stages_ms"].get("inference", 0.0) for one in inferences]
    return {
        "library_ms": load["stages_ms"].get("library", 0.0),
        "model_ms": load["stages_ms"].get("model", 0.0),
        "transfer_ms": transfer["stages_ms"].get("transfer", 0.0),
        "inference_ms": on_cpu["stages_ms"].get("inference", 0.0),
        "gpu_first_inference_ms": each_ms[0],
        "gpu_inference_ms": statistics.median(each_ms[1:]),
        "back_ms": back["call_ms"],
        "offload_ms": gone["call_ms"],
        "start_types": [one.get("start_type") for one in inferences],
        "same_answer": on_cpu.get("answer", {}).get("argmax") == inferences[0].get("answer", {}).get("argmax"),
        "nvml_transfer_mb": round(moved_mb - before_mb, 1),
        "nvml_inference_mb": round(warm_mb - before_mb, 1),
        "nvml_back_mb": round(back_mb - before_mb, 1),
        "nvml_offloaded_mb": round(gone_mb - before_mb, 1),
        "torch_reserved_mb": reserved_mb,
    }


def replays(plan: Plan, profiles: Sequence[FunctionProfile], out: Path, minutes: int) -> list[dict[str, Any]]:
    """Tyche on the same requests with the GPU tier and without."""
    write_catalogue(out / "profiles.csv", profiles)
    base = Scenario.load("real-small").with_(
        **{
            "functions.catalogue": str((out / "profiles.csv").resolve()),
            "functions.profiles": [each.name for each in profiles],
            "functions.container_mb": plan.container_mb,
            "trace.window_min": minutes,
            "trace.warm_up_min": 0,
        }
    )
    node = base.cluster.nodes[0].model_dump() | {"memory_mb": 4 * plan.container_mb, "cores": os.cpu_count()}
    on_gpu_mb = round(sum(each.gpu_mb for each in profiles)) * 2
    found = []
    for tier in (True, False):
        group = node | ({"gpus": 1, "gpu_memory_mb": on_gpu_mb} if tier else {"gpus": 0, "gpu_memory_mb": 0})
        scenario = base.with_(**{"cluster.nodes": [group]})
        # what the backend is told comes from the environment, as for every evaluation on it
        os.environ |= {"TYCHE_CONTAINERS": "process", "TYCHE_GPUS": str(plan.gpu), "TYCHE_FUNCTIONS": plan.functions}
        runs = Runs(scenario, ("tyche",), windows=1, backend="openwhisk", record="all")
        (row,) = evaluate(runs, out / f"replay-{'gpu' if tier else 'cpu'}").folder.rows()
        chosen = ("requests", "warming_loading_ms_mean", "end_to_end_ms_mean", "gpu_rate", "preload_rate", "health")
        found.append({"gpu_tier": tier} | {name: row[name] for name in chosen if name in row})
    return found


def page(folder: Path) -> str:
    """The tables of a folder, as Markdown.

    Raises:
        UserError: it lacks a part, or was measured on the tests' make-believe GPU.
    """
    about, stages = read(folder, "machine"), read(folder, "stages")
    if about["gpu"]["stub"]:
        raise UserError(f"{folder}: was measured on a make-believe GPU, which no page shows")
    head = (
        *("function", "transfer", "inference, CPU", "first on the GPU", "then", "back", "off-load"),
        *("memory, NVML", "of it torch's", "declared", "left afterwards"),
    )
    lines = [
        f"{about['date']}, {about['gpu']['name']}, driver {about['driver']}, torch {about['torch']}, Python "
        f"{about['python']}, {about['machine']}. Times in ms, memory in MB.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for row in stages:
        if row["error"]:
            lines.append(f"| {row['function']} | failed: {row['error']}{' |' * (len(head) - 1)}")
            continue
        times = ("transfer", "inference", "gpu_first_inference", "gpu_inference", "back", "offload")
        sizes = ("nvml_inference_mb", "torch_reserved_mb", "declared_gpu_mb", "nvml_offloaded_mb")
        cells = [row["function"], *(ms(row[f"{name}_ms"]) for name in times), *(f"{row[name]:,.0f}" for name in sizes)]
        lines.append(f"| {' | '.join(cells)} |")
    if (folder / "replay.json").exists():
        lines += [
            "",
            "| Tyche on real-small | requests | warming + loading, ms | end to end, ms |",
            "|---" * 4 + "|",
        ]
        for row in read(folder, "replay"):
            tier = "with the GPU tier" if row["gpu_tier"] else "without"
            means = (ms(row[f"{name}_ms_mean"]) for name in ("warming_loading", "end_to_end"))
            lines.append(f"| {' | '.join([tier, str(row['requests']), *means])} |")
    return "\n".join(lines)


def read(folder: Path, name: str) -> Any:
    """A part of the results.

    Raises:
        UserError: it is not there.
    """
    try:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder}: has no {name}.json ({error.strerror}); make gpu writes it") from None


if __name__ == "__main__":
    sys.exit(main())
