"""PPO on priced memory, and its way into the row network.

One function is one agent; all share weights.  Memory has a price that is drawn anew for every episode and observed, so
the policy learns, for each state, up to which price holding pays.  That *critical price* (in starts per interval) is
what memory for the function is worth, so it is the priority in a cluster, where the decision core turns it into a
density by the latency saved and the memory taken.  It is read off the policy by bisection and distilled into the row
network, which then needs neither price nor torch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from torch import nn

from agents.playing.runs import Crew
from agents.playing.spread import THIS_PROCESS
from agents.policies.bundle import Bundle
from agents.policies.interpreted import Standardised
from agents.policies.recipe import PricedRecipe
from agents.training.algorithms import moments_of_play
from agents.training.choose import Candidate, choose
from agents.training.course import Course, Log, Progress, learn
from agents.training.data import rows_of
from agents.training.hazard import HELD, export, make_network, moments
from agents.training.manifest import manifest, of_choice
from agents.training.vec_envs import HoldPriceVecEnv
from tyche_env.hold_price import PRICES
from tyche_env.network import HIDDEN

_BISECTIONS = 14
_DISTILL_ROWS, _DISTILL_EPOCHS, _DISTILL_BATCH = 200_000, 6, 2048
_LOWEST, _HIGHEST = np.log(PRICES[0] / 10), 0.0


def train_priced(
    recipe: PricedRecipe,
    seed: int,
    log: Log | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    workers: Crew = THIS_PROCESS,
) -> Bundle:
    """Train by a recipe; the validation windows choose the checkpoint and the bonus."""
    torch.set_num_threads(1)
    started = time.process_time() + workers.cpu_s
    scenario = recipe.scenario_of(recipe.scenario)
    env = make_env(recipe)
    model = make_ppo(recipe, env, seed)
    rows = rows_of(scenario, seeds=(seed,), share=0.25).features
    draw = np.random.default_rng(seed)
    rows = rows[draw.permutation(len(rows))[:_DISTILL_ROWS]]
    rows[:, HELD] = draw.integers(0, 2, len(rows))
    mean, deviation = moments(rows)

    def at_stage() -> dict[str, Any]:
        network = distill(rows, critical_price(model, rows), seed)
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        output = linear[2].weight.detach().numpy()[0]
        weights = export(linear[:2], mean, deviation, output, float(linear[2].bias.detach()[0]))
        return {"rows": model.num_timesteps, "network": weights}

    stages = learn(
        model, env, Course(recipe.steps, recipe.checkpoints, at_stage, checkpoint, log=log, progress=progress)
    )
    candidates = [Candidate(f"{stage['rows']} rows", stage["network"]) for stage in stages]
    chosen = choose(candidates, recipe.choice, [recipe.scenario_of(name) for name in recipe.choice.scenarios], workers)
    return Bundle(
        network=chosen.candidate.network,
        mean=mean,
        deviation=deviation,
        settings={"displace_percent": chosen.displace_percent},
        recipe=recipe,
        manifest=manifest([scenario], seed, model.num_timesteps, started - workers.cpu_s) | of_choice(chosen),
    )


def make_env(recipe: PricedRecipe) -> HoldPriceVecEnv:
    """The environment of a recipe."""
    return HoldPriceVecEnv(
        recipe.clusters,
        recipe.scenario_of(recipe.scenario),
        load_cost=recipe.load_cost,
        decision_interval_s=recipe.decision_interval_s,
    )


def make_ppo(recipe: PricedRecipe, env: HoldPriceVecEnv, seed: int) -> PPO:
    """PPO of stable-baselines3 over a batch of clusters, its observations standardised."""
    mean, deviation = moments_of_play(env, seed)
    return PPO(
        "MlpPolicy",
        env,
        n_steps=recipe.rollout,
        batch_size=recipe.batch_size,
        n_epochs=recipe.epochs,
        gamma=recipe.gamma,
        gae_lambda=recipe.gae_lambda,
        learning_rate=lambda left: recipe.learning_rate * max(0.1, left),
        ent_coef=recipe.entropy,
        seed=seed,
        device="cpu",
        policy_kwargs={
            "net_arch": {"pi": [HIDDEN, HIDDEN], "vf": [HIDDEN, HIDDEN]},
            "activation_fn": nn.ReLU,
            "features_extractor_class": Standardised,
            "features_extractor_kwargs": {"mean": mean.tolist(), "deviation": deviation.tolist()},
        },
    )


def critical_price(model: PPO, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Up to which price the policy rather holds than lets go, (n,) in starts per interval, by bisection."""
    low = np.full(len(features), _LOWEST)
    high = np.full(len(features), _HIGHEST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        observed = torch.from_numpy(np.column_stack([features, middle]).astype(np.float32))
        with torch.no_grad():
            distribution: Any = model.policy.get_distribution(observed)
            logit = distribution.distribution.logits
        holds = (logit[:, 1] > logit[:, 0]).numpy()
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    price: NDArray[np.float32] = np.exp((low + high) / 2).astype(np.float32)
    return price


def distill(features: NDArray[np.float32], price: NDArray[np.float32], seed: int) -> nn.Sequential:
    """A row network whose priority is the given price, for features minus their mean over their deviation."""
    mean, deviation = moments(features)
    x, y = torch.from_numpy((features - mean) / deviation), torch.from_numpy(price).clamp(0, 1)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(1)
    steps = _DISTILL_EPOCHS * max(1, len(x) // _DISTILL_BATCH)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    target = torch.logit(y.clamp(1e-5, 1 - 1e-3))
    for step in range(steps):
        if step % max(1, len(x) // _DISTILL_BATCH) == 0:
            order = torch.randperm(len(x), generator=generator)
        at = step % max(1, len(x) // _DISTILL_BATCH)
        taken = order[at * _DISTILL_BATCH : (at + 1) * _DISTILL_BATCH]
        # on the logits, since the order of rare functions matters as much as that of hot ones
        loss: Any = nn.functional.smooth_l1_loss(network(x[taken])[:, 0], target[taken])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network
