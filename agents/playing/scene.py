"""Where a policy plays: a window of a scenario, one expansion of its requests, and the conditions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from agents.playing.play import play
from agents.playing.runs import shareable
from agents.policies.history import History, history_of
from agents.policies.loading import load
from tyche_env.played import Played
from tyche_env.scenario import AS_IT_IS, Conditions, Scenario, SplitName
from tyche_env.world import Kernel, World


class Scene(Protocol):
    """Makes the world that a policy meets, in two steps: the requests, which scenes share, and what differs."""

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """Names the requests: scenes with equal keys share them.  Numbers and words."""

    def requests(self) -> World:
        """The world of the requests, under any policy and conditions; it can be sent anywhere (``shareable``)."""

    def world(self, requests: World) -> World:
        """That world under the conditions of this scene, without a policy."""

    def history(self, world: World) -> History:
        """What a policy may know before it begins."""


@dataclass(frozen=True, slots=True)
class WindowScene:
    """A window of a scenario.

    Attributes:
        scenario: whose window.
        split: of the window.
        window: its index.
        seed: of the expansion of counts and of every draw.
        conditions: pre-warming policy, mode, when the policy decides.
    """

    scenario: Scenario
    split: SplitName
    window: int
    seed: int
    conditions: Conditions = AS_IT_IS

    @property
    def world_key(self) -> tuple[Hashable, ...]:
        """Scenario, split, window and seed."""
        return (digest_of(self.scenario), self.split, self.window, self.seed)

    def requests(self) -> World:
        """See :class:`Scene`."""
        return shareable(self.scenario.world(self.split, self.window, self.seed))

    def world(self, requests: World) -> World:
        """See :class:`Scene`."""
        return self.scenario.under(requests, self.seed, Kernel.NONE, self.conditions)

    def history(self, world: World) -> History:
        """See :class:`Scene`."""
        return history_of(self.scenario, self.scenario.windows(self.split)[self.window], self.seed, world)


@lru_cache(maxsize=64)
def digest_of(scenario: Scenario) -> str:
    """The scenario's hash, which reads its profiles, once."""
    return scenario.hash()


def play_in(scene: Scene, policy: object, requests: World | None = None, **options: Any) -> Played:
    """Prepare a policy for a scene and play it there.

    Args:
        scene: where.
        policy: not yet prepared; whatever ``agents.load`` takes.
        requests: the scene's, if they are at hand.
        options: of :func:`agents.playing.play.play`.
    """
    world = scene.world(scene.requests() if requests is None else requests)
    return play(world, load(policy).prepare(scene.history(world)), **options)
