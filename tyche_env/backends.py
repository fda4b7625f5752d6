"""Backends by their names: the simulated one, and those that installed packages bring."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from traces.blame import blaming, package_of
from traces.errors import did_you_mean
from tyche_env.backend import Backend, BackendError
from tyche_env.errors import UserError


def make_backend(name: str) -> Backend:
    """A backend by its entry-point name (group ``tyche_env.backends``).

    Raises:
        BackendError: there is none of that name; the message suggests one.
        UserCodeError: an installed one cannot be made.
    """
    if name == "simulated":
        # the engine is loaded when it is asked for, so that importing the environment does not take its time
        from tyche_env.simulator.backend import SimulatedBackend

        return SimulatedBackend()
    found = {point.name: point for point in entry_points(group="tyche_env.backends")}
    if name not in found:
        hint = did_you_mean(name, sorted({"simulated", *found}))
        raise BackendError(f"backend {name}: there is no such backend; {hint}")
    with blaming(f"backend {name}", package_of(found[name].module), passing=(UserError,)):
        return cast(Backend, found[name].load()())
