"""The built-in policies by name: the paper's system, its rivals, baselines, ablations, and what knows the future."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agents.policies.policy import Action, KernelPolicy, Observation, PolicyError
from tyche_env.world import FunctionTable, Isolation, Kernel, Packing, Routing, Scope, World


@dataclass(frozen=True, slots=True)
class RestorePolicy(KernelPolicy):
    """No pre-loading, but snapshots: a start restores container, libraries and model from disk (REAP, ASPLOS'21).

    Another mechanism than loading ahead, so that neither the oracle nor the bound, which do without, say anything
    about it.
    """

    def equip(self, world: World) -> World:
        """The world with restoring in place of starting and loading."""
        return KernelPolicy.equip(self, replace(world, functions=restored(world.functions)))

    def predict(self, observation: Observation, *_: object, **__: object) -> tuple[Action, int]:
        """Refuse: it is the platform that restores.

        Raises:
            PolicyError: always.
        """
        raise PolicyError(f"policy {self.name}: changes the platform; run it through `tyche evaluate`")


RESTORE_MS = (300, 600)
"""What restoring takes (facts of the Tyche paper): for the least and the most memory of its eight functions."""
_RESTORED_MB = (649, 1648)


def restored(functions: FunctionTable) -> FunctionTable:
    """Functions that are restored from snapshots: nothing to create or import, no GPU.

    The time grows in proportion to the memory, between :data:`RESTORE_MS` and never beyond.
    """
    fast_us, slow_us = (1000 * each for each in RESTORE_MS)
    least_mb, most_mb = _RESTORED_MB
    beyond_mb = np.clip(functions.hold_mb, least_mb, most_mb) - least_mb
    none = np.zeros_like(functions.init_us)
    return replace(
        functions,
        init_us=none,
        library_us=none,
        model_us=fast_us + beyond_mb * (slow_us - fast_us) // (most_mb - least_mb),
        gpu_mb=none,
    )


def _builtin(
    kernel: Kernel, summary: str, privileged: bool = False, name: str | None = None, **settings: Any
) -> KernelPolicy:
    return KernelPolicy(name or kernel.name.lower().replace("_", "-"), kernel, privileged, summary, settings)


POLICIES: dict[str, KernelPolicy] = {
    policy.name: policy
    for policy in (
        _builtin(Kernel.NONE, "no pre-loading: what the platform does by itself"),
        _builtin(Kernel.LRU, "keep what ran until it is evicted; load nothing"),
        _builtin(Kernel.TYCHE, "load and off-load at quantiles of a Poisson process (window 10, 0.06 / 0.94)"),
        _builtin(Kernel.HISTOGRAM, "chance of a request from the function's own gaps", name="tyche-histogram"),
        _builtin(Kernel.CENSORED, "a rate that falls while no request comes"),
        _builtin(Kernel.EWMA, "Tyche's rule on exponentially smoothed gaps", name="tyche-ewma"),
        _builtin(Kernel.EMPIRICAL, "hazard of the function's own last 32 gaps at the present age"),
        _builtin(
            Kernel.TYCHE,
            "each worker decides alone, routing to the fewest busy containers (SoCC'24)",
            name="instainfer",
            scope=Scope.WORKER,
            routing=Routing.FEWEST_BUSY,
        ),
        _builtin(
            Kernel.TYCHE,
            "instainfer whose router gives ties to the first node, not by a hash of the function",
            name="instainfer-first",
            scope=Scope.WORKER,
            routing=Routing.FEWEST_BUSY_FIRST,
        ),
        _builtin(Kernel.NO_TIMERS, "ablation: Tyche without timers", name="tyche-np"),
        _builtin(
            Kernel.TYCHE,
            "ablation: Tyche without packing, one function a container",
            name="tyche-ns",
            packing=Packing.SINGLE,
        ),
        _builtin(
            Kernel.NO_TIMERS,
            "ablation: neither timers nor packing, each container reloads its own function",
            name="tyche-nps",
            packing=Packing.OWN,
        ),
        _builtin(Kernel.TYCHE, "Tyche with one function a container", name="tyche-strict", isolation=Isolation.STRICT),
        _builtin(Kernel.TYCHE, "Tyche with worst fit", name="tyche-worst-fit", packing=Packing.WORST),
        _builtin(
            Kernel.GREEDY_DUAL,
            "hold everything; displace by clock + frequency x latency saved / memory",
            displace_percent=0,
            busy_counts=True,
        ),
        RestorePolicy("reap", Kernel.NONE, False, "no pre-loading; starts restore a snapshot within 0.6 s, on the CPU"),
        _builtin(Kernel.RANDOM, "load, leave or off-load by lot"),
        KernelPolicy(
            "oracle", Kernel.ORACLE, True, "knows every arrival, and which policy serves them best", hindsight=True
        ),
        _builtin(Kernel.MINUTE_ORACLE, "knows the number of arrivals of every minute", privileged=True),
    )
}
"""The built-in policies by name."""
