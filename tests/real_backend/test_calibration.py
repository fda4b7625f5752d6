"""Fitting profiles and delays to the records of a real run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from real_backend.calibration import CalibrationError, calibrate
from real_backend.health import COLUMNS
from real_backend.profile_commands import profile
from tests.real_backend.worlds import toy_scenario
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


def test_runs_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no folder of a finished run"):
        calibrate(tmp_path)
    with pytest.raises(CalibrationError, match="make one with --backend openwhisk"):
        calibrate(write_run(tmp_path, None))
