"""The reward: minus the seconds that requests wait for their inference, and optional rent for resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from traces.blame import blaming
from tyche_env import extensions

if TYPE_CHECKING:
    from tyche_env.state import ClusterState

_MB_US_PER_GB_S = 1e9


class Rents(Protocol):
    """Prices of resources in seconds of waiting (a scenario's ``reward``)."""

    @property
    def container_rent_per_gb_s(self) -> float:
        """Container memory, busy or idle."""

    @property
    def preload_rent_per_gb_s(self) -> float:
        """Memory that functions reserve in idle containers."""

    @property
    def gpu_rent_per_gb_s(self) -> float:
        """Reserved GPU memory."""

    @property
    def load_per_s(self) -> float:
        """A second of loading."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of further reward functions."""


def reward_terms(
    rents: Rents,
    waited_s: NDArray[np.float64],
    integrals_mb_us: Mapping[str, NDArray[np.int64]],
    load_us: int,
) -> dict[str, float]:
    """The terms of one step's reward; the reward is their sum.

    Args:
        rents: prices.
        waited_s: (F,) seconds from arrival to the start of inference, of requests whose inference started in the step.
        integrals_mb_us: memory x time of the step by kind, (N,) each.
        load_us: loading time of the step.
    """

    def gb_s(kind: str) -> float:
        return float(integrals_mb_us[kind].sum()) / _MB_US_PER_GB_S

    return {
        "latency": -float(waited_s.sum()),
        "container_rent": -rents.container_rent_per_gb_s * (gb_s("busy") + gb_s("idle")),
        "preload_rent": -rents.preload_rent_per_gb_s * gb_s("preload"),
        "gpu_rent": -rents.gpu_rent_per_gb_s * gb_s("gpu"),
        "load": -rents.load_per_s * load_us / 1e6,
    }


def load_terms(load_per_s: float, load_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """The terms for loading times, of functions or of clusters; to the last bit what ``reward_terms`` has for one."""
    return np.asarray(-load_per_s * load_us / 1e6, np.float64)


def charges_rent(rents: Rents) -> bool:
    """Whether any rent or further term is on; if none is, memory x time need not be measured at each step."""
    return bool(
        rents.container_rent_per_gb_s
        or rents.preload_rent_per_gb_s
        or rents.gpu_rent_per_gb_s
        or rents.load_per_s
        or rents.terms
    )


@dataclass(frozen=True, slots=True)
class Step:
    """What a reward function sees of one decision interval; in the last one, of the draining after it, too.

    Attributes:
        waited_s: (F,) seconds from arrival to the start of inference, of requests whose inference started.
        integrals_mb_us: memory x time by kind (busy, idle, preload, gpu), (N,) each.
        counters: by name (``accounting.COUNTERS``), in this interval.  ``wasted_load_us`` is of loads dropped in it and
            counts all their time since scoring began.
        requests: the requests that started (LOG_DTYPE).
        state: the cluster at the end; read only.
    """

    waited_s: NDArray[np.float64]
    integrals_mb_us: Mapping[str, NDArray[np.int64]]
    counters: Mapping[str, int]
    requests: NDArray[Any]
    state: ClusterState


RewardFunction = Callable[[Step], float]
"""A term of the reward of your own: what it returns is added to the others."""


def reward_function(name: str) -> RewardFunction:
    """A reward function by the name of its entry point (group ``tyche_env.rewards``) or from a Python file.

    Raises:
        ExtensionError: there is none, or it is no function.
        UserCodeError: later, when it is asked and fails.
    """
    found = extensions.find("reward", name)
    if not callable(found):
        raise extensions.ExtensionError(f"reward {name}: needs a function of a Step, got {type(found).__name__}")
    function, home = cast(RewardFunction, found), extensions.home(name, found)

    def asked(step: Step) -> float:
        with blaming(f"reward {name}", home):
            return float(function(step))

    return asked
