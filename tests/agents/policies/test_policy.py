"""How policies are found, loaded and asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agents
from agents.policies.builtin import POLICIES
from agents.policies.loading import load, wrap
from agents.policies.policy import PolicyError
from tyche_env.cli import run
from tyche_env.errors import UserError
from tyche_env.scenario import Scenario
from tyche_env.world import Kernel, WorldError

OBSERVATION = {"functions": np.zeros((3, 5), dtype=np.float32)}
PREDICT = "def predict(self, observation, state=None, episode_start=None, deterministic=True): return 7, state"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_kernel_has_a_policy() -> None:
    # TABLE needs a fitted forecast, NETWORK weights, OWN a rule and AGENT an agent: the name of a kernel brings none
    brought = {Kernel.TABLE, Kernel.NETWORK, Kernel.OWN, Kernel.AGENT}
    assert {policy.kernel for policy in POLICIES.values()} == set(Kernel) - brought
    assert set(POLICIES) == {
        "none",
        "lru",
        "tyche",
        "tyche-histogram",
        "censored",
        "random",
        "oracle",
        "minute-oracle",
        "tyche-ewma",
        "empirical",
        "instainfer",
        "instainfer-first",
        "tyche-np",
        "tyche-ns",
        "tyche-nps",
        "tyche-strict",
        "tyche-worst-fit",
        "greedy-dual",
        "reap",
    }


def test_only_the_oracles_are_privileged() -> None:
    assert {name for name, policy in POLICIES.items() if policy.privileged} == {"oracle", "minute-oracle"}


def test_the_package_offers_the_loader() -> None:
    assert agents.load("tyche") is POLICIES["tyche"]
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = agents.lode


@pytest.mark.parametrize(
    ("name", "hint"),
    [("tych", "did you mean tyche"), ("orcale", "did you mean oracle"), ("xyz", "there are none, lru, tyche")],
)
def test_a_misspelt_name_suggests_the_right_one(name: str, hint: str) -> None:
    with pytest.raises(PolicyError, match=hint):
        load(name)


def test_the_bound_is_no_policy() -> None:
    with pytest.raises(PolicyError, match="is a lower bound, not a policy"):
        load("bound")


@pytest.mark.parametrize("name", ["oracle", "minute-oracle"])
def test_who_knows_the_future_cannot_predict_from_observations(name: str) -> None:
    with pytest.raises(PolicyError, match="knows the future"):
        load(name).predict(OBSERVATION)


@pytest.mark.parametrize(
    "text",
    [
        f"class Policy:\n    {PREDICT}\n",
        f"class Mine:\n    {PREDICT}\n\npolicy = Mine()\n",
        f"class Mine:\n    {PREDICT}\n\ndef make_policy():\n    return Mine()\n",
    ],
    ids=["class", "object", "factory"],
)
def test_a_file_defines_a_policy_in_one_of_three_ways(tmp_path: Path, text: str) -> None:
    policy = load(write(tmp_path, text))
    assert (policy.name, policy.kernel, policy.privileged) == ("mine", None, False)
    assert policy.predict(OBSERVATION, "state") == (7, "state")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines neither an object `policy`, nor `make_policy"),
        ("class Policy:\n    pass\n", r"Policy has no method predict"),
        ("import numpy\n\nnumpy.nothing\n", r"mine\.py, line 3: AttributeError: module 'numpy' has"),
        (
            "class Policy:\n    def __init__(self):\n        1 / 0\n",
            r"mine\.py, line 3: ZeroDivisionError",
        ),
        ("def f(:\n", r"mine\.py, line 1: SyntaxError: invalid syntax"),
    ],
    ids=["nothing", "no predict", "import fails", "construction fails", "no Python"],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, text))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.py: there is no such file"):
        load("nowhere.py")


def test_any_object_that_predicts_can_be_wrapped() -> None:
    class Model:
        def predict(
            self, observation: object, state: object = None, episode_start: object = None, deterministic: bool = True
        ) -> tuple[int, object]:
            return 1, state

    assert wrap(Model(), "model").predict(OBSERVATION) == (1, None)
    with pytest.raises(PolicyError, match="policy number: int has no method predict"):
        wrap(3, "number")


def test_importing_agents_is_light() -> None:
    heavy = ("torch", "pandas", "scipy", "numba")
    code = f"import sys, agents, agents.policies.policy; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((3, 2)), r"policy mine: action: needs shape \(40, 2\), got \(3, 2\)"),
        (np.full((40, 2), np.nan), "policy mine: action: holds a value that is not finite"),
    ],
)
def test_an_action_that_means_nothing_names_its_policy(action: Any, message: str) -> None:
    class Says:
        def predict(self, *_: Any) -> Any:
            return action, None

    with pytest.raises(PolicyError, match=message):
        agents.play(Scenario.load("small").world(), wrap(Says(), "mine"))


def test_an_engine_or_a_record_that_is_none_is_refused() -> None:
    world, policy = Scenario.load("small").world(), load("tyche")
    with pytest.raises(WorldError, match="engine: there are compiled and reference, got 'fast'"):
        agents.play(world, policy, engine="fast")  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="record: needs a function, or one of all, sample, none, got 'some'"):
        agents.play(world, policy, record="some")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--decision: needs 'event' or seconds above 0, got inf"):
        agents.Plan(Scenario.load("small"), ("tyche",), decision=float("inf")).validated()


def test_real_and_simulated_runs_side_by_side_are_not_spread(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--scenario", "real-small", "--policy", "none", "--backend", "both", "--out", str(tmp_path / "run")]
    for spread in (["--on", "ray"], ["--jobs", "2"]):
        assert run(["evaluate", *options, *spread]) == 2
        assert "--on, --jobs: with --backend both runs follow each other" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
