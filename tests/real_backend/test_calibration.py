"""Fitting profiles and delays to the records of a real run."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from real_backend.calibration import (
    CalibrationError,
    _alone_ms,
    _read,
    _Samples,
    _sigma,
    _source,
    _take,
    calibrate,
    fit,
)
from real_backend.health import COLUMNS
from real_backend.profile_commands import profile
from tests.real_backend.worlds import toy_scenario
from tyche_env.profiles import load_catalogue, write_catalogue
from tyche_env.scenario import Scenario
from tyche_env.world import StartType


def invocation(kind: str, function: int, stages_ms: dict[str, float], over_ms: float, **more: Any) -> list[Any]:
    """A row of the table; ``over_ms`` is what it took beyond its stages."""
    us = {f"{name}_us": round(1000 * value) for name, value in stages_ms.items()}
    row: dict[str, Any] = dict.fromkeys(COLUMNS, 0) | {"kind": kind, "function": function, "met": -1} | us | more
    row["end_us"] = sum(us.values()) + round(1000 * over_ms)
    return [row[name] for name in COLUMNS]


def write_run(folder: Path, table: list[list[Any]] | None, **controller: Any) -> Path:
    scenario = toy_scenario(folder).with_(**{f"controller.{name}": value for name, value in controller.items()})
    (folder / "scenario.yaml").write_text(scenario.to_yaml(), encoding="utf-8")
    plan = {"split": "test", "windows": 1, "scenario": scenario.name}
    manifest = {"plan": plan, "versions": {"python": "3.11.7", "torch": "2.9"}, "started": "2026-11-24T08:00:00+00:00"}
    row: dict[str, Any] = {"window": 0, "seed": 0, "policy": "tyche"}
    if table is not None:
        health = {"where": "process containers, 2 x Some CPU", "load_average": [0.5, 1.25]}
        row |= {"health": health, "invocations": {"columns": list(COLUMNS), "rows": table}}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps({"rows": [row]}), encoding="utf-8")
    return folder


def some_run(folder: Path) -> Path:
    """Log-normal stages of the first function, by runs and loads; two samples of the second."""
    rng = np.random.default_rng(0)
    table = []
    for each in range(400):
        library, model = 100 * np.exp(0.2 * rng.standard_normal(2)) * (1, 3)
        paid = {"warming": 50.0, "library": library, "model": model, "inference": 7.0, "clear": 4.0}
        met = StartType.COLD if each % 2 else StartType.WARM
        if met == StartType.WARM:
            paid["warming"] = 0.0
        table.append(invocation("infer", 0, paid, over_ms=2.0, met=int(met)))
        table.append(invocation("load", 0, {"library": library, "model": model}, over_ms=9.0))
    table.append(invocation("infer", 0, {"inference": 7.0}, over_ms=2.0, met=int(StartType.MEMORY)))
    table.append(invocation("infer", 0, {"library": 9e3, "inference": 1.0}, over_ms=2.0, met=int(StartType.LOADING)))
    table.append(invocation("infer", 0, {"library": 9e3}, over_ms=2.0, met=int(StartType.WARM), status=5))
    table += [invocation("infer", 1, {"library": 9e3}, over_ms=2.0, met=int(StartType.WARM))] * 2
    table += [invocation("offload", 0, {}, over_ms=15.0)]
    return write_run(folder, table)


def test_stages_are_fitted_such_that_the_simulators_mean_is_that_of_the_run(tmp_path: Path) -> None:
    found = calibrate(some_run(tmp_path))
    fitted, unknown = found.profiles
    assert fitted.sigma == pytest.approx(0.2, rel=0.1)
    assert fitted.library_ms == pytest.approx(100, rel=0.05)
    assert fitted.model_ms == pytest.approx(300, rel=0.05)
    half_variance = fitted.sigma**2 / 2
    assert fitted.container_init_ms * np.exp(half_variance) == pytest.approx(50, rel=0.001)
    assert found.counts[fitted.name] == (800, 402)
    # too few samples
    assert unknown == found.scenario.functions.selected()[1]


def test_delays_are_what_calls_take_beyond_their_stages(tmp_path: Path) -> None:
    delays = calibrate(some_run(tmp_path)).delays
    assert delays == pytest.approx(
        {"scheduling_ms": 2.0, "clear_ms": 4.0, "command_ms": 9.0, "offload_ms": 15.0}, abs=0.01
    )


def test_a_delay_that_the_run_never_met_stays_as_it_was(tmp_path: Path) -> None:
    run = write_run(tmp_path, [invocation("infer", 0, {"inference": 7.0}, over_ms=2.0)], command_ms=11, offload_ms=4)
    assert calibrate(run).delays == {"scheduling_ms": 2.0, "clear_ms": 0.0, "command_ms": 11.0, "offload_ms": 4.0}


def test_the_source_names_window_device_date_load_and_versions(tmp_path: Path) -> None:
    source = calibrate(some_run(tmp_path)).profiles[0].source
    for part in ("1 test windows of toys", "2026-11-24", "2 x Some CPU", "load average up to 1.25", "torch 2.9"):
        assert part in source


def test_the_source_tells_runs_from_windows_and_the_highest_load() -> None:
    plan = {"windows": 3, "split": "train", "scenario": "some"}
    manifest = {"plan": plan, "versions": {"torch": "2.9", "python": "3.11.7"}, "started": "2026-11-24T08:00:00+00:00"}
    rows = [
        {"policy": policy, "health": {"where": "here", "load_average": load}}
        for policy, load in (("tyche", [0.5, 1.25]), ("tyche", [7.5, 0.25]), ("fixed", [2.0, 3.0]), ("fixed", [1.0, 1]))
    ]
    assert _source(manifest, rows) == (
        "fitted to 4 real runs (tyche, fixed) of 3 train windows of some, measured 2026-11-24 on here; "
        "load average up to 7.5; python 3.11.7, torch 2.9"
    )


def test_the_command_writes_a_catalogue_and_a_scenario_that_uses_it(tmp_path: Path) -> None:
    out = tmp_path / "fitted.csv"
    done = CliRunner().invoke(
        profile, ["calibrate", str(some_run(tmp_path)), "--out", str(out)], catch_exceptions=False
    )
    assert "800 loads" in done.output
    scenario = Scenario.load(out.with_suffix(".yaml"))
    assert scenario.controller.offload_ms == pytest.approx(15.0)
    assert scenario.functions.selected()[0].model_ms == pytest.approx(300, rel=0.05)
    assert scenario.world("test", 0).functions.model_us[0] == pytest.approx(300_000, rel=0.05)


def planted(folder: Path) -> Path:
    """Three cold runs of each function with stages of their own, all the same, and loads."""
    table = []
    for f, scale in ((0, 1), (1, 10)):
        stages = {"warming": 64, "clear": 0.5, "library": 128, "model": 256, "transfer": 16, "inference": 32}
        ms = {name: value * scale for name, value in stages.items()}
        table += [invocation("infer", f, ms, over_ms=2.0, met=int(StartType.COLD))] * 3
    memory, short = int(StartType.MEMORY), {"inference": 32.0}
    # cleared what was there; half a millisecond is no sample, for a start that found nothing says so much
    table.append(invocation("infer", 0, short | {"clear": 0.501}, over_ms=2.0, met=memory))
    # a model that was loaded into a library that was there is no whole load
    table.append(invocation("load", 0, {"model": 9_999}, over_ms=7.0))
    table += [invocation("load", 1, {"library": 1280, "model": 2560}, over_ms=7.0)] * 2
    table.append(invocation("offload", 0, {}, over_ms=3.5))
    return write_run(folder, table)


@pytest.mark.parametrize(
    ("kind", "met", "ms", "taken"),
    [
        # what it took beyond clearing and its stages; no sample where it waited for the slot, from 1 ms on
        ("infer", StartType.MEMORY, {"wait": 0.9}, {"inference": [10], "scheduling": [2]}),
        ("infer", StartType.MEMORY, {"wait": 1.0}, {"inference": [10]}),
        # nor where it joined a load, whose stages are no whole ones
        ("infer", StartType.LOADING, {"library": 50}, {"inference": [10]}),
        # from half a millisecond on something was cleared
        ("infer", StartType.GPU, {"clear": 0.5}, {"inference": [10], "scheduling": [2]}),
        ("infer", StartType.GPU, {"clear": 0.6}, {"inference": [10], "scheduling": [2], "clear": [0.6]}),
        (
            "infer",
            StartType.WARM,
            {"library": 30, "model": 40, "transfer": 5},
            {"inference": [10], "scheduling": [2], "library": [30], "model": [40], "loading": [70], "transfer": [5]},
        ),
        (
            "infer",
            StartType.COLD,
            {"warming": 60, "library": 30, "model": 40},
            {"inference": [10], "scheduling": [2], "library": [30], "model": [40], "loading": [70], "init": [60]},
        ),
        ("load", -1, {"library": 30, "model": 40}, {"command": [12], "library": [30], "model": [40], "loading": [70]}),
        ("load", -1, {"model": 40}, {"command": [12]}),
        ("load", -1, {"transfer": 40}, {"command": [12], "transfer": [40]}),
        ("offload", -1, {}, {"offload": [12]}),
    ],
)
def test_what_each_invocation_is_a_sample_of(
    kind: str, met: int, ms: dict[str, float], taken: dict[str, list[float]]
) -> None:
    names = ("warming", "clear", "library", "model", "transfer", "inference")
    spent = dict.fromkeys(names, 0.0) | {"inference": 10.0 if kind == "infer" else 0.0} | ms
    wait = spent.pop("wait", 0.0)
    us = {f"{name}_us": round(1000 * value) for name, value in spent.items()}
    us |= {"order_us": 5_000_000, "begin_us": 5_000_000 + round(1000 * wait)}
    us["end_us"] = us["begin_us"] + sum(us[f"{name}_us"] for name in names) + (2_000 if kind == "infer" else 12_000)
    own = _Samples()
    init_ms: list[float] = []
    orders: dict[str, list[float]] = defaultdict(list)
    _take({"kind": kind, "met": int(met), **us}, spent, own, init_ms, orders)
    found: dict[str, list[float]] = {**own.stages, "loading": own.loading, "init": init_ms, **orders}
    assert {name: pytest.approx(values) for name, values in found.items() if values} == taken


def test_each_stage_and_delay_is_of_the_samples_that_the_rules_name(tmp_path: Path) -> None:
    found = calibrate(planted(tmp_path))
    first, second = found.profiles
    shown = ("library_ms", "model_ms", "transfer_ms", "inference_ms")
    assert [getattr(first, name) for name in shown] == [128, 256, 16, 32]
    assert [getattr(second, name) for name in shown] == [1280, 2560, 160, 320]
    # containers are all alike: the mean of 64 and 640
    assert first.container_init_ms == second.container_init_ms == (64 + 640) / 2
    assert first.sigma == second.sigma == 0
    assert found.counts == {first.name: (3, 4), second.name: (5, 3)}
    # clear: 0.501 and three of 5 ms
    assert found.delays == {"scheduling_ms": 2.0, "clear_ms": 5.0, "command_ms": 7.0, "offload_ms": 3.5}


def test_the_command_says_what_was_and_what_is_under_the_names(tmp_path: Path) -> None:
    words = ["calibrate", str(planted(tmp_path)), "--out", str(tmp_path / "fitted.csv")]
    lines = CliRunner().invoke(profile, words, catch_exceptions=False).output.splitlines()
    assert lines[0].split(None, 1)[1] == (
        "3 loads,    4 runs: container 300 -> 352 ms, library 150 -> 128 ms, model 250 -> 256 ms, "
        "inference 20.0 -> 32.0 ms, spread 0.00 -> 0.00"
    )
    assert lines[1].split(None, 1)[1].startswith("5 loads,    3 runs: container 300 -> 352 ms, library 150 -> 1280 ms")
    assert lines[2] == "scheduling 2.0 ms, clear 5.0 ms, command 7.0 ms, offload 3.5 ms"
    assert lines[3].startswith("2 profiles in ")


def test_the_command_says_what_the_spread_was_and_then_what_it_is(tmp_path: Path) -> None:
    table = []
    for x in (-0.2, 0.0, 0.2):
        ms = {"warming": 64.0, "library": 300 * np.exp(x), "model": 400 * np.exp(x), "inference": 80 * np.exp(x)}
        table.append(invocation("infer", 0, ms, over_ms=2.0, met=int(StartType.COLD)))
    run = write_run(tmp_path, table)
    catalogue = tmp_path / "toys.csv"
    write_catalogue(catalogue, [each.model_copy(update={"sigma": 0.75}) for each in load_catalogue(catalogue)])
    words = ["calibrate", str(run), "--out", str(tmp_path / "fitted.csv")]
    lines = CliRunner().invoke(profile, words, catch_exceptions=False).output.splitlines()
    # 0.2 of the sum is 0.28 of each, and the mean of exp(x) is 1.0134, and exp(0.28^2 / 2) is 1.0400
    assert lines[0].split(None, 1) == [
        "toy-slow",
        "3 loads,    3 runs: container 300 -> 62 ms, library 150 -> 292 ms, model 250 -> 390 ms, "
        "inference 20.0 -> 78.0 ms, spread 0.75 -> 0.28",
    ]
    # of the other nothing is known
    assert lines[1].split(None, 1)[1].endswith("inference 20.0 -> 20.0 ms, spread 0.75 -> 0.75")


def test_the_spread_of_each_stage_is_such_that_their_sum_varies_as_it_did() -> None:
    samples = _Samples()
    library, model = 300.0, 400.0
    for x in (-0.2, 0.0, 0.2):
        samples.stages["library"].append(library)
        samples.stages["model"].append(model)
        samples.loading.append(700 * np.exp(x))
    # of the sum 0.2, and of each sigma (700 / 500)
    assert _sigma(samples) == pytest.approx(0.2 * 7 / 5)
    samples.loading[0] = 1e9
    assert _sigma(samples) == 2.0


def test_stages_lie_end_to_end_before_the_end_of_their_invocation() -> None:
    # both run on one core: the first's library from 0 to 40 and model to 60; the second's inference from 40 to 60
    names = ("warming", "library", "model", "transfer", "inference")
    zero = {f"{name}_us": 0 for name in names}
    first = zero | {"library_us": 40_000, "model_us": 20_000, "end_us": 60_000}
    second = zero | {"inference_us": 20_000, "end_us": 60_000}
    alone = _alone_ms([first, second], 1)
    assert alone[0] == {"warming": 0, "library": 40, "model": 10, "transfer": 0, "inference": 0}
    assert alone[1] == {"warming": 0, "library": 0, "model": 0, "transfer": 0, "inference": 10}
    assert _alone_ms([first, second], None)[0]["model"] == 20


def test_cores_are_those_of_all_nodes_where_stages_share_them(tmp_path: Path) -> None:
    # three runs at once on 2 nodes of one core each: two thirds of their time is theirs; without contention all of it
    row = invocation("infer", 0, {"library": 90, "model": 30}, over_ms=0.0, met=int(StartType.WARM))
    run = write_run(tmp_path, [row] * 3)
    manifest, rows = _read(run)
    scenario = Scenario.load(run / "scenario.yaml")
    assert fit(scenario, "test", rows, _source(manifest, rows)).profiles[0].library_ms == 90
    nodes = [{"count": 2, "memory_mb": 1000, "cores": 1}]
    shared = scenario.with_(**{"cluster.nodes": nodes, "contention": True})
    fitted = fit(shared, "test", rows, "a test").profiles[0]
    assert (fitted.library_ms, fitted.model_ms) == (60, 20)


def test_runs_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no folder of a finished run"):
        calibrate(tmp_path)
    with pytest.raises(CalibrationError, match="make one with --backend openwhisk"):
        calibrate(write_run(tmp_path, None))
