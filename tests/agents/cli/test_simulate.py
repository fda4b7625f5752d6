"""``tyche simulate``, and evaluations of windows so long that their log is written meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from agents.bench.memory import repeat_world
from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.playing.spread import ALONE
from tyche_env.cli import run
from tyche_env.scenario import Scenario
from tyche_env.simulate import simulate
from tyche_env.stored import read_world

MOST_MB = 160


def test_a_saved_world_runs_like_its_scenario(
    scenario_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", "--scenario", scenario_file, "--window", "1", "--save", str(tmp_path / "world")]) == 0
    capsys.readouterr()
    found: list[tuple[dict[str, float], Path]] = []
    for source in (["--scenario", scenario_file, "--window", "1"], ["--world", str(tmp_path / "world")]):
        log = tmp_path / f"{len(found)}.parquet"
        assert run(["simulate", *source, "--policy", "tyche", "--log", str(log), "--json"]) == 0
        metrics = json.loads(capsys.readouterr().out)
        assert metrics["requests"] == pq.read_metadata(log).num_rows > 0
        found.append(({k: v for k, v in metrics.items() if not k.endswith("cpu_s") and k != "wall_s"}, log))
    assert found[0][0] == found[1][0]
    assert pq.read_table(found[0][1]).equals(pq.read_table(found[1][1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "needs either --scenario or --world"),
        (["--scenario", "small", "--policy", "bound"], "bound: is a lower bound, not a policy"),
        (["--world", ".", "--window", "3"], "--window: decides nothing with --world; leave it out"),
        (["--scenario", "small", "--save", "w", "--log", "x.parquet"], "--log: decides nothing with --save"),
        (["--scenario", "small", "--save", "."], "--save: . holds something else than a world"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("record", ["all", "sample"])
def test_a_long_window_s_requests_are_those_of_a_short_one(
    plan_of: Callable[..., Plan], tmp_path: Path, record: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("none", "tyche", engine="compiled", record=record)
    kept = evaluate(plan, tmp_path / "kept", spread=ALONE)
    monkeypatch.setattr("agents.evidence.evaluation.STREAM_ABOVE", 10)
    streamed = evaluate(plan, tmp_path / "streamed", spread=ALONE)
    assert pq.read_table(kept.folder.requests).equals(pq.read_table(streamed.folder.requests))
    for before, after in zip(kept.rows, streamed.rows, strict=True):
        for key, value in before.items():
            # percentiles of a few requests have no interpolation here; tests of the histogram bound their error
            if not key.startswith("end_to_end_ms_p") and not key.endswith("cpu_s"):
                assert after[key] == value


def test_a_repeated_world_asks_the_same_over_and_over(tiny: Scenario, tmp_path: Path) -> None:
    world = tiny.world("test", 0)
    repeat_world(world, 3, tmp_path / "world")
    found = read_world(tmp_path / "world").validate()
    count = len(world.arrival_us)
    assert len(found.arrival_us) == 3 * count
    assert found.end_us == 3 * world.end_us
    assert (found.arrival_us[count : 2 * count] == world.arrival_us + world.end_us).all()
    assert simulate(found, record="none").totals["requests"].sum() > 0


@pytest.mark.slow
def test_a_million_requests_leave_memory_as_it_is(tmp_path: Path) -> None:
    from tyche_env.bench.measurement import SPEED
    from tyche_env.simulator.loading import warm_up

    warm_up()
    repeat_world(Scenario.load(SPEED / "speed-200.yaml").world(), 3, tmp_path / "world")
    files = [str(tmp_path / "world"), "none", str(tmp_path / "log.parquet")]
    command = [sys.executable, "-m", "agents.bench.memory", *files]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["invocations"] > 2_000_000
    assert pq.read_metadata(tmp_path / "log.parquet").num_rows == found["requests"]
    assert found["peak_mb"] - found["imports_mb"] < MOST_MB
