"""A trained agent as a policy: a row kernel whose weights it brings along."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.policies.bundle import GATED_NETWORK, Bundle, BundleError, PolicyBundle, load_bundle
from agents.policies.gate import GATED
from agents.policies.policy import Action, KernelPolicy, Observation, PredictorPolicy
from tyche_env.control.kernels import DEAD_ZONE
from tyche_env.features import features_of
from tyche_env.network import priorities
from tyche_env.spaces import column, table
from tyche_env.world import Kernel, World


@dataclass(frozen=True, slots=True, eq=False)
class LearnedPolicy(KernelPolicy):
    """A row network with its weights; with a gate it is a rule of the core (``agents.policies.gate``).

    Attributes:
        network: (SIZE,) float32 weights.
        digest: hash of weights and settings, for plans.
    """

    network: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    digest: str = ""

    def equip(self, world: World) -> World:
        """The world with the weights and the kernel that reads them."""
        return KernelPolicy.equip(self, replace(world, network=self.network))

    def predict(
        self,
        observation: Observation,
        state: int | None = None,
        episode_start: object = None,
        deterministic: bool = True,
    ) -> tuple[Action, int]:
        """Hold every function that was requested before, with the priority that the network gives its row.

        Raises:
            PolicyError: the network has a gate, which looks at more than an observation shows.
        """
        if self.rule is not None:
            return KernelPolicy.predict(self, observation, state, episode_start, deterministic)
        leading = observation["functions"].shape[:-1]
        rows = table(observation, "functions")
        value = DEAD_ZONE + (1 - DEAD_ZONE) * priorities(self.network, features_of(rows))
        value = np.where(rows[:, column("functions", "arrivals_count")] > 0, value, 0.0).astype(np.float32)
        return np.repeat(value.reshape(*leading, -1, 1), 2, axis=-1), 0


@dataclass(frozen=True, slots=True, eq=False)
class InterpretedPolicy(PredictorPolicy):
    """A trained policy of stable-baselines3: asked once an interval, by torch.

    Attributes:
        digest: hash of recipe and weights, for plans.
    """

    digest: str = ""


Trained = LearnedPolicy | InterpretedPolicy


def policy_of(bundle: Bundle | PolicyBundle, name: str) -> Trained:
    """The policy that a bundle is.

    Raises:
        BundleError: the tensors do not fit the recipe.
    """
    if isinstance(bundle, PolicyBundle):
        from agents.policies.interpreted import restore

        try:
            agent = restore(bundle.recipe, bundle.tensors)
        except (RuntimeError, KeyError) as error:
            raise BundleError(f"bundle {name}: {' '.join(str(error).split())}") from None
        return InterpretedPolicy(name, agent, digest=bundle.hash())
    with_gate = bundle.form == GATED_NETWORK
    return LearnedPolicy(
        name=name,
        kernel=Kernel.OWN if with_gate else Kernel.NETWORK,
        rule=GATED if with_gate else None,
        privileged=False,
        summary=f"trained agent, {bundle.recipe.kind}",
        settings=dict(bundle.settings),
        network=bundle.network,
        digest=bundle.hash(),
    )


def load_learned(folder: Path, name: str | None = None) -> Trained:
    """The policy of a bundle's folder.

    Raises:
        BundleError: the bundle cannot be read.
    """
    return policy_of(load_bundle(folder), name or folder.name)
