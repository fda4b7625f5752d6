"""Policies, evaluation and statistics of tyche-env.

``import agents`` is light: the parts below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.bound import bound
    from agents.evaluation import Plan, evaluate
    from agents.policy import POLICIES, Policy, PolicyError, load, wrap

__all__ = ["POLICIES", "Plan", "Policy", "PolicyError", "bound", "evaluate", "load", "wrap"]

_HOME = {
    "bound": "agents.bound",
    "Plan": "agents.evaluation",
    "evaluate": "agents.evaluation",
    "POLICIES": "agents.policy",
    "Policy": "agents.policy",
    "PolicyError": "agents.policy",
    "load": "agents.policy",
    "wrap": "agents.policy",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(
            f"module 'agents' has no attribute {name!r}; this is the package of tyche-env, with {', '.join(__all__)}"
        )
    return getattr(import_module(_HOME[name]), name)
