"""Profiles are measured in containers; what comes out is a catalogue."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from real_backend import measuring
from real_backend.measuring import MeasuringError, Plan
from real_backend.slots import Reply
from tests.real_backend.worlds import TOYS
from tyche_env.cli import run
from tyche_env.codes import Status
from tyche_env.profiles import load_catalogue


@pytest.mark.slow
def test_measured_stages_are_what_the_function_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toys.csv"
    words = ["profile", "measure", "toy-slow", "toy", "--functions", TOYS, "--container-mb", "300", "--out", str(out)]
    assert run(words) == 0
    slow, quick = load_catalogue(out)
    assert (slow.name, quick.name) == ("toy-slow", "toy")
    # the library's stage includes the start of the process
    assert 150 <= slow.library_ms < 1000
    assert 250 <= slow.model_ms < 500
    assert 20 <= slow.inference_ms < 60
    assert quick.model_ms < slow.model_ms
    assert slow.container_init_ms > 0
    assert (slow.hold_mb, slow.peak_mb, slow.gpu_mb, slow.container_mb) == (60, 80, 0, 300)
    for part in ("measured 20", "no GPU was seen", "median of 10", "Python 3."):
        assert part in slow.source
    assert "2 profiles in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(("toy",), TOYS, repetitions=9), "--repetitions: a profile needs at least 10, got 9"),
        (Plan(("tyo",), TOYS), "tyo: real_backend.functions.toy declares toy, toy-slow"),
        (Plan(("toy-big",), TOYS, container_mb=500), "--container-mb: toy-big needs 1000 MB, got 500"),
        (Plan(("toy",), "no.such.module"), "no.such.module: cannot be imported"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(plan: Plan, message: str) -> None:
    with pytest.raises(MeasuringError, match=message):
        plan.declared()


def stages(number: int, gpu: bool) -> dict[str, int]:
    """Stages of a run in us; those of the fourth of five are far off, as a median must not notice."""
    times = (1, 2, 3, 1000, 2)[number % 5]
    base = {"library": 100_000, "model": 200_000, "transfer": 30_000 * gpu, "inference": 4_000 if gpu else 50_000}
    return {name: value * times for name, value in base.items()}


class FakeSlot:
    """Containers that take 11, 12, 19 ms and so on to make, and whose first inference of a process is far slower."""

    made = 0
    runs = 0
    asked: list[dict[str, Any]]

    def __init__(self, *_: object) -> None:
        FakeSlot.made += 1

    async def invoke(self, parameters: dict[str, Any]) -> Reply:
        if parameters["op"] == "status":
            return Reply(Status.OK, warming_us=(11_000, 12_040, 900_000)[FakeSlot.made % 3], fresh=True)
        FakeSlot.asked.append(parameters)
        found = stages(FakeSlot.runs, parameters["gpu"])
        if "after_run" not in parameters:
            return Reply(Status.OK, stages_us=found | {"inference": 9_999_999})
        FakeSlot.runs += 1
        return Reply(Status.OK, stages_us={"library": 0, "model": 0, "transfer": 0, "inference": found["inference"]})

    async def remove(self) -> None:
        return


def test_a_profile_holds_the_medians_of_planted_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSlot, "asked", [], raising=False)
    monkeypatch.setattr(measuring, "Slot", FakeSlot)
    resources = SimpleNamespace(hold_mb=60, peak_mb=80, gpu_mb=100)
    functions: Any = {"f": SimpleNamespace(resources=resources, library="none")}
    plan = Plan(("f",), TOYS, repetitions=10, container_mb=300, gpu="0")
    told: list[str] = []
    nobody: Any = None
    (profile,) = asyncio.run(measuring._measure(plan, functions, nobody, lambda name, n: {"n": n}, told.append))
    # the median of 1, 2, 2, 3 and 1000 is 2; made are containers of 11, 12.04 and 900 ms, most of 12.04
    assert (profile.library_ms, profile.model_ms, profile.inference_ms) == (200.0, 400.0, 100.0)
    assert (profile.transfer_ms, profile.gpu_inference_ms) == (60.0, 8.0)
    assert profile.container_init_ms == 12.0
    assert (profile.hold_mb, profile.peak_mb, profile.gpu_mb, profile.container_mb) == (60, 80, 100, 300)
    assert told == ["container: 12 ms", "f: library 200 ms, model 400 ms, inference 100.0 ms"]
    assert "GPU 0" in profile.source
    # ten on the CPU, ten on the GPU, and each again in the same process
    assert [each["gpu"] for each in FakeSlot.asked] == [False] * 20 + [True] * 20
    assert [each["payload"]["n"] for each in FakeSlot.asked] == 2 * [n for n in range(10) for _ in (0, 1)]


@pytest.mark.parametrize(("device", "gpu_mb"), [(None, 100), ("0", 0)])
def test_without_a_device_or_memory_on_one_nothing_is_measured_there(
    monkeypatch: pytest.MonkeyPatch, device: str | None, gpu_mb: int
) -> None:
    monkeypatch.setattr(FakeSlot, "asked", [], raising=False)
    monkeypatch.setattr(measuring, "Slot", FakeSlot)
    resources = SimpleNamespace(hold_mb=60, peak_mb=80, gpu_mb=gpu_mb)
    functions: Any = {"f": SimpleNamespace(resources=resources, library="none")}
    plan = Plan(("f",), TOYS, container_mb=300, gpu=device)
    nobody: Any = None
    (profile,) = asyncio.run(measuring._measure(plan, functions, nobody, lambda name, n: {}, lambda _: None))
    assert {each["gpu"] for each in FakeSlot.asked} == {False}
    assert (profile.gpu_mb, profile.gpu_inference_ms) == (0, 0)
    assert "no GPU was seen" in profile.source


def test_the_spread_is_that_of_the_logarithms_of_library_model_and_inference() -> None:
    function: Any = SimpleNamespace(resources=SimpleNamespace(hold_mb=60, peak_mb=80, gpu_mb=100), library="none")
    runs = [
        # each adds up to e^x ms; the transfer does not count
        {"library": round(1e6 * math.exp(x)) - 30_000, "model": 20_000, "inference": 10_000, "transfer": 77}
        for x in (-0.1, 0.0, 0.1)
    ]
    plan = Plan(("f",), TOYS, container_mb=300)
    profile = measuring._profile(plan, "f", function, 12_345.0, runs, [])
    assert profile.sigma == 0.1
    assert (profile.gpu_mb, profile.transfer_ms, profile.gpu_inference_ms) == (0, 0.0, 0.0)
    assert profile.container_init_ms == 12.3
    wild = [runs[0] | {"library": 1}, runs[0] | {"library": 10**9}]
    assert measuring._profile(plan, "f", function, 1.0, wild, []).sigma == 2.0


def test_the_source_says_where_how_often_and_with_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "machine", lambda: "16 x a processor")
    monkeypatch.setattr(measuring, "date", SimpleNamespace(today=lambda: "2026-01-02"))
    monkeypatch.setattr("platform.python_version", lambda: "3.99.1")
    monkeypatch.setattr(measuring, "version", lambda package: {"magika": "7.8", "onnxruntime": "9.10"}[package])
    resources = SimpleNamespace(hold_mb=60, peak_mb=80, gpu_mb=100)
    function: Any = SimpleNamespace(resources=resources, library="magika")
    # twelve repetitions, which are neither the containers made nor the runs that are handed over here
    plan = Plan(("f",), TOYS, repetitions=12, containers="docker", container_mb=300, gpu="3")
    runs = [stages(number, False) for number in range(2)]
    on_gpu = [stages(number, True) for number in range(3)]
    assert measuring._profile(plan, "f", function, 1.0, runs, on_gpu).source == (
        "measured 2026-01-02 on 16 x a processor, GPU 3, docker containers, median of 12, one thread; "
        "Python 3.99.1, magika 7.8, onnxruntime 9.10; memory as declared"
    )
