"""tyche-env: opportunistic pre-loading of ML functions in serverless clusters, as a Gymnasium environment."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import gymnasium

from tyche_env.collision import explain_collision

if TYPE_CHECKING:
    from tyche_env.env import PreloadEnv as PreloadEnv
    from tyche_env.played import Played as Played
    from tyche_env.played import Played as Result  # noqa: F401
    from tyche_env.scenario import Conditions as Conditions
    from tyche_env.scenario import Scenario as Scenario

__version__ = "0.1.0"

_HOMES = {
    "PreloadEnv": "tyche_env.env",
    "Scenario": "tyche_env.scenario",
    "Conditions": "tyche_env.scenario",
    "Played": "tyche_env.played",
    "Result": "tyche_env.played",
}


def __getattr__(name: str) -> Any:
    # The names above are loaded when they are first used, so that the command line starts at once.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    # what runs return was called Result once
    return getattr(import_module(_HOMES[name]), "Played" if name == "Result" else name)


if (_collision := explain_collision()) is not None:
    warnings.warn(_collision, stacklevel=2)

for _version in (0, 1):
    if f"tyche/Preload-v{_version}" not in gymnasium.registry:
        gymnasium.register(
            id=f"tyche/Preload-v{_version}",
            entry_point="tyche_env.env:PreloadEnv",
            vector_entry_point="tyche_env.vector:make_vec",
            kwargs={"version": _version},
        )
    if f"tyche/HoldPrice-v{_version}" not in gymnasium.registry:
        gymnasium.register(
            id=f"tyche/HoldPrice-v{_version}",
            entry_point="tyche_env.hold_price:HoldPriceEnv",
            kwargs={"version": _version},
        )
