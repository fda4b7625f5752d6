"""A trained agent as a policy: found by name or folder, asked at events or at intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import agents
from agents.evidence.evaluation import evaluate
from agents.evidence.plan import Plan
from agents.playing.spread import ALONE
from agents.policies.bundle import CARD, Bundle
from agents.policies.trained import LearnedPolicy, load_learned
from tyche_env.features import features_of
from tyche_env.network import priorities
from tyche_env.scenario import Scenario
from tyche_env.spaces import column, table
from tyche_env.world import Kernel


def test_a_folder_and_a_shipped_name_give_policies(saved: Path) -> None:
    mine, shipped = agents.load(str(saved)), agents.load("learned")
    assert mine.kernel == shipped.kernel == Kernel.NETWORK
    assert mine.settings == {"displace_percent": 65}
    assert not shipped.privileged
    with pytest.raises(agents.PolicyError, match="did you mean learned"):
        agents.load("learnd")


def test_predict_reads_the_same_network(saved: Path, bundle: Bundle, tiny: Scenario) -> None:
    policy = load_learned(saved)
    env = gym.make("tyche_env:tyche/Preload-v1", scenario=tiny)
    observation, _ = env.reset(seed=0)
    for _ in range(60):
        action, _ = policy.predict(observation)
        observation, *_ = env.step(action)
    rows = table(observation, "functions")
    known = rows[:, column("functions", "arrivals_count")] > 0
    assert known.any()
    action, _ = policy.predict(observation)
    np.testing.assert_allclose(
        (action[known, 0] - 0.05) / 0.95, priorities(bundle.network, features_of(rows))[known], atol=1e-6
    )
    assert not action[~known].any()
    batch = {name: np.stack([values, values]) for name, values in observation.items()}
    np.testing.assert_allclose(policy.predict(batch)[0], np.stack([action, action]), atol=1e-6)


def test_whoever_was_never_requested_is_left(saved: Path, tiny: Scenario) -> None:
    env = gym.make("tyche_env:tyche/Preload-v1", scenario=tiny)
    observation, _ = env.reset(seed=0)
    assert not table(observation, "functions")[:, column("functions", "arrivals_count")].any()
    assert not load_learned(saved).predict(observation)[0].any()
    rows = table(observation, "functions")
    rows[1, column("functions", "arrivals_count")] = 1
    rows[1, column("functions", "censored_rate_per_s")] = 1
    assert (load_learned(saved).predict(observation)[0] > 0).any(axis=1).tolist() == [k == 1 for k in range(len(rows))]


def test_it_is_evaluated_like_any_policy(saved: Path, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    plan = plan_of("tyche", str(saved), engine="compiled", windows=2)
    rows = evaluate(plan, tmp_path / "run", spread=ALONE).rows
    assert [row["decision"] for row in rows] == ["event"] * 4
    assert rows[1]["warming_loading_ms_mean"] != rows[0]["warming_loading_ms_mean"]


def test_a_plan_knows_which_weights_it_ran(saved: Path, plan_of: Callable[..., Plan]) -> None:
    policy = agents.load(str(saved))
    assert isinstance(policy, LearnedPolicy)
    assert plan_of(str(saved)).identity()["policies"][str(saved)] == policy.digest
    assert (saved / CARD).is_file()
