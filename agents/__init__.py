"""Policies of tyche-env, how they are played and trained, and the evidence about them.

``import agents`` is light: the names below are the public face, each loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.evidence.bound import bound
    from agents.evidence.evaluation import evaluate
    from agents.evidence.plan import Plan
    from agents.evidence.run_folder import RunFolder
    from agents.playing.play import play
    from agents.playing.scene import WindowScene, play_in
    from agents.playing.spread import Spread, play_all, play_each
    from agents.playing.timeline import TimelineWatcher
    from agents.policies.builtin import POLICIES
    from agents.policies.loading import load, names, wrap
    from agents.policies.policy import Policy, PolicyError
    from agents.training.vec_envs import ClusterVecEnv, FunctionVecEnv, HoldPriceVecEnv
    from traces.blame import UserCodeError

_HOME = {
    "bound": "agents.evidence.bound",
    "evaluate": "agents.evidence.evaluation",
    "Plan": "agents.evidence.plan",
    "RunFolder": "agents.evidence.run_folder",
    "play": "agents.playing.play",
    "WindowScene": "agents.playing.scene",
    "play_in": "agents.playing.scene",
    "Spread": "agents.playing.spread",
    "play_all": "agents.playing.spread",
    "play_each": "agents.playing.spread",
    "TimelineWatcher": "agents.playing.timeline",
    "POLICIES": "agents.policies.builtin",
    "load": "agents.policies.loading",
    "names": "agents.policies.loading",
    "wrap": "agents.policies.loading",
    "Policy": "agents.policies.policy",
    "PolicyError": "agents.policies.policy",
    "ClusterVecEnv": "agents.training.vec_envs",
    "FunctionVecEnv": "agents.training.vec_envs",
    "HoldPriceVecEnv": "agents.training.vec_envs",
    "UserCodeError": "traces.blame",
}

__all__ = [
    "POLICIES",
    "ClusterVecEnv",
    "FunctionVecEnv",
    "HoldPriceVecEnv",
    "Plan",
    "Policy",
    "PolicyError",
    "RunFolder",
    "Spread",
    "TimelineWatcher",
    "UserCodeError",
    "WindowScene",
    "bound",
    "evaluate",
    "load",
    "names",
    "play",
    "play_all",
    "play_each",
    "play_in",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(
            f"module 'agents' has no attribute {name!r}; this is the package of tyche-env, with {', '.join(__all__)}"
        )
    return getattr(import_module(_HOME[name]), name)
