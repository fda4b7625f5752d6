"""A third-party package with one of everything, installed, is found, and each part does what it says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents import load
from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.playing.spread import ALONE
from tyche_env import extensions
from tyche_env.backends import make_backend
from tyche_env.cli import run
from tyche_env.conformance import CHECKS, CheckFunction, example_world
from tyche_env.scenario import Scenario, ScenarioError
from tyche_env.world import Kernel, Prewarm, Routing

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "docs" / "examples" / "plugin"
LONGEST = {"backend": 60}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package as pip installs it from its source, in a folder that only this module looks in."""
    target = tmp_path_factory.mktemp("site")
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, *words, "--disable-pip-version-check", str(PLUGIN)], check=True)
    sys.path.insert(0, str(target))
    importlib.invalidate_caches()
    yield target
    sys.path.remove(str(target))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tyche_extras"]:
        del sys.modules[name]


def small(**changes: Any) -> Scenario:
    return Scenario.load("small").with_(**changes)


def rows(tmp_path: Path, scenario: Scenario, *policies: str, **options: Any) -> list[dict[str, Any]]:
    plan = Plan(scenario, policies, windows=2, **options)
    return evaluate(plan, tmp_path / "run", spread=ALONE).rows


def results(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what names the policy and what the clock says."""
    timed = ("policy", "cpu_s", "decision_us_mean", "invocations_per_cpu_s")
    return [{key: value for key, value in row.items() if key not in timed} for row in rows]


@pytest.mark.parametrize("path", sorted(PLUGIN.glob("*/*.py")), ids=lambda path: path.stem)
def test_each_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST.get(path.stem, 30)


def test_the_same_policy_in_python_and_as_a_kernel_gives_the_same_result(tmp_path: Path) -> None:
    found = rows(tmp_path, small(), "patient", "patient-kernel", decision=10.0)
    python, kernel = ([row for row in found if row["policy"] == name] for name in ("patient", "patient-kernel"))
    assert results(python) == results(kernel)
    assert python[0]["loads"] > 0


def test_a_kernel_is_asked_at_events(tmp_path: Path) -> None:
    (row, _) = rows(tmp_path, small(), "patient-kernel")
    assert row["decision"] == "event"
    assert load("patient-kernel").kernel == Kernel.OWN


def test_a_predictor_is_a_policy(tmp_path: Path) -> None:
    found = rows(tmp_path, small(), "none", "last-hour")
    none, forecast = ([row for row in found if row["policy"] == name] for name in ("none", "last-hour"))
    assert sum(row["loads"] for row in forecast) > 0
    means = [sum(row["warming_loading_ms_function_mean"] for row in part) for part in (forecast, none)]
    assert means[0] < means[1]


def test_pre_warming_makes_containers_ahead_of_requests(tmp_path: Path) -> None:
    assert small(**{"prewarm.policy": "half-gap"}).world().settings.prewarm == Prewarm.OWN
    own = rows(tmp_path, small(), "tyche", prewarm=("half-gap", "openwhisk"))
    half, fixed = (next(row for row in own if row["prewarm"] == name) for name in ("half-gap", "openwhisk"))
    assert half["idle_gb_s"] < fixed["idle_gb_s"]


def test_routing_goes_round() -> None:
    from tyche_env.simulate import simulate

    world = small(routing="round-robin").world(kernel="lru")
    assert world.settings.routing == Routing.OWN
    log = simulate(world).log
    assert log is not None
    first = log[log["function"] == log["function"][0]]["node"]
    nodes = world.node_count
    assert np.mean(np.diff(first) % nodes == 1) > 0.5


def test_a_reward_term_is_added() -> None:
    env = gym.make("tyche_env:tyche/Preload-v1", scenario=small(**{"reward.terms": ["cold-starts"]}), split="test")
    env.reset(seed=0, options={"window": 0})
    total, over = 0.0, False
    while not over:
        _, reward, _, over, info = env.step(np.zeros(env.action_space.shape or (), np.float32))
        assert float(reward) == pytest.approx(sum(info["reward_terms"].values()))
        total += info["reward_terms"]["cold-starts"]
    log = env.unwrapped.backend.log()  # type: ignore[attr-defined]
    assert total == pytest.approx(-0.1 * (log["start_type"] == 4).sum())
    assert total < 0
    env.close()


def test_a_trace_format_is_read_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "access.log"
    log.write_text("1000.5 POST /resnet 131ms\n1000.25 POST /bert 80ms\n1003 POST /resnet 120ms\n", encoding="utf-8")
    assert run(["trace", "inspect", str(log), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["functions"], about["requests"]) == (2, 3)
    log.write_text("1000.5 POST /resnet 131ms\n1000.25 POST /bert soon\n", encoding="utf-8")
    assert run(["trace", "inspect", str(log)]) == 2
    assert "row 2: expected SECONDS METHOD" in capsys.readouterr().err


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_backend_conforms(check: CheckFunction) -> None:
    check(lambda: make_backend("slow-disk"), example_world())


def test_what_is_installed_is_listed_and_a_misspelt_name_suggests_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "list"]) == 0
    assert "patient-kernel   installed: tyche_extras.kernel:patient 0.1.0" in capsys.readouterr().out
    with pytest.raises(ScenarioError, match="did you mean half-gap"):
        small(**{"prewarm.policy": "half-gab"})
    with pytest.raises(ScenarioError, match="did you mean round-robin"):
        small(routing="round-robbin")


def test_the_version_of_an_extension_is_part_of_a_scenario_s_hash() -> None:
    assert extensions.digest("prewarm", "half-gap") == "tyche_extras.prewarm:half_gap 0.1.0"
    assert small(**{"prewarm.policy": "half-gap"}).hash() != small(**{"prewarm.policy": "openwhisk"}).hash()


def test_a_single_file_does_as_well(tmp_path: Path) -> None:
    text = (PLUGIN / "tyche_extras" / "prewarm.py").read_text(encoding="utf-8")
    path = tmp_path / "mine.py"
    path.write_text(text + "\nprewarm = half_gap\n", encoding="utf-8")
    scenario = small(**{"prewarm.policy": str(path)})
    assert scenario.world().settings.prewarm == Prewarm.OWN
    before = scenario.hash()
    path.write_text(text + "\n\nprewarm = half_gap\n", encoding="utf-8")
    assert scenario.hash() != before
