"""The simulated backend: a compiled engine, and a plain-Python reference that says what it must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tyche_env.simulator.backend import SimulatedBackend as SimulatedBackend
    from tyche_env.simulator.loading import warm_up as warm_up

_HOMES = {"SimulatedBackend": "backend", "warm_up": "loading"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
