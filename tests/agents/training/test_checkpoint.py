"""A training that is killed between two rollouts and taken up again gives the same parameters to the last bit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from agents.policies.recipe import AlgorithmRecipe, PricedRecipe, as_recipe
from agents.training.algorithms import make_env, make_model
from agents.training.checkpoint import load_checkpoint, save_checkpoint
from agents.training.course import Course, learn
from agents.training.priced import make_env as make_priced_env
from agents.training.priced import make_ppo

ROLLOUT: dict[str, Any] = {"n_steps": 8, "batch_size": 24, "n_epochs": 1}
REPLAY: dict[str, Any] = {"learning_starts": 60, "batch_size": 32, "buffer_size": 600, "gradient_steps": 2}
CASES: dict[str, dict[str, Any]] = {
    "ppo": {"actions": "logit", "actor": "row", "options": ROLLOUT},
    "maskable-ppo": {"actor": "row", "options": ROLLOUT},
    "recurrent-ppo": {"options": ROLLOUT},
    "dqn": {"options": REPLAY},
    "qr-dqn": {"options": REPLAY},
    "sac": {"actions": "priority", "options": REPLAY},
}
STEPS = 360


class _KilledError(Exception):
    """Stands for the end of the process."""


def made(name: str, scenario: str) -> tuple[Any, Any]:
    """A model and its environment, new."""
    if name == "priced-ppo":
        choice = {"scenarios": [scenario], "displace_percent": [10]}
        options = {"clusters": 2, "rollout": 8, "batch_size": 32, "decision_interval_s": 60}
        recipe = as_recipe({"kind": "priced-ppo", "scenario": scenario, "choice": choice} | options)
        assert isinstance(recipe, PricedRecipe)
        priced = make_priced_env(recipe)
        return make_ppo(recipe, priced, seed=3), priced
    content = {"kind": "algorithm", "algorithm": name, "scenario": scenario, "decision_interval_s": 60} | CASES[name]
    found = as_recipe(content)
    assert isinstance(found, AlgorithmRecipe)
    env = make_env(found, "train")
    return make_model(found, env, seed=3), env


def optimisers(model: Any) -> dict[str, Any]:
    return {name: content for name, content in model.get_parameters().items() if "optimizer" in name}


@pytest.mark.parametrize("name", ["priced-ppo", *CASES])
def test_a_killed_training_ends_with_the_same_parameters(name: str, scenario_file: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole, env = made(name, scenario_file)
    steps = STEPS * 2 if name == "priced-ppo" else STEPS
    stages = learn(whole, env, Course(steps, 2, lambda: {"rows": whole.num_timesteps}))

    checkpoint = tmp_path / "checkpoint.pt"
    killed, env = made(name, scenario_file)

    def kill(share: float) -> None:
        if share >= 0.7:
            raise _KilledError

    course = Course(steps, 2, lambda: {"rows": killed.num_timesteps}, checkpoint, every_s=0.0, progress=kill)
    with pytest.raises(_KilledError):
        learn(killed, env, course)
    # whatever the process that goes on has drawn before
    torch.rand(5)
    np.random.rand(5)  # noqa: NPY002 - the generator that stable-baselines3 draws from
    resumed, env = made(name, scenario_file)
    assert checkpoint.is_file()
    again = learn(resumed, env, Course(steps, 2, lambda: {"rows": resumed.num_timesteps}, checkpoint, every_s=0.0))

    assert again == stages
    assert resumed.num_timesteps == whole.num_timesteps
    for key, value in whole.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[key]), key
    assert str(optimisers(whole)) == str(optimisers(resumed))
    if hasattr(whole, "replay_buffer"):
        np.testing.assert_array_equal(whole.replay_buffer.observations, resumed.replay_buffer.observations)
        np.testing.assert_array_equal(whole.replay_buffer.rewards, resumed.replay_buffer.rewards)


TRAIN = """
import sys
from pathlib import Path
import torch
from agents.training.algorithms import make_env, make_model
from agents.training.course import Course, learn
from agents.training.recipes import load_recipe
torch.set_num_threads(1)
recipe = load_recipe(sys.argv[1])
env = make_env(recipe, "train")
model = make_model(recipe, env, seed=3)
learn(model, env, Course(recipe.steps, 2, dict, Path(sys.argv[2]), every_s=0.0))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_is_taken_up_by_another(scenario_file: str, tmp_path: Path) -> None:
    content = {"kind": "algorithm", "algorithm": "ppo", "scenario": scenario_file, "decision_interval_s": 60}
    steps = 12_000
    recipe = as_recipe(content | CASES["ppo"] | {"steps": steps})
    assert isinstance(recipe, AlgorithmRecipe)
    path, checkpoint = tmp_path / "recipe.yaml", tmp_path / "checkpoint.pt"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))

    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(path), str(checkpoint)], cwd=Path(__file__).parents[3])
    while not checkpoint.is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL

    def trained(file: Path | None) -> Any:
        torch.set_num_threads(1)
        env = make_env(recipe, "train")
        model = make_model(recipe, env, seed=3)
        started: list[float] = []
        learn(model, env, Course(steps, 2, dict, file, every_s=0.0, progress=started.append))
        return model, started[0]

    (whole, at), (resumed, later) = trained(None), trained(checkpoint)
    assert 0.0 == at < later < 1.0
    for key, value in whole.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[key]), key


def test_a_checkpoint_is_read_without_a_pickle(scenario_file: str, tmp_path: Path) -> None:
    model, env = made("ppo", scenario_file)
    env.seed(1)
    model._last_obs = env.reset()
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, model, env, {"stages": [{"network": np.arange(3, dtype=np.float32)}]})
    other, env = made("ppo", scenario_file)
    memory = load_checkpoint(path, other, env)
    np.testing.assert_array_equal(memory["stages"][0]["network"], np.arange(3, dtype=np.float32))
    torch.save({"evil": Path("x")}, path)
    with pytest.raises(Exception, match="weights_only"):
        load_checkpoint(path, other, env)
