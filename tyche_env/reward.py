"""The reward: minus the seconds that requests wait for their inference, and optional rent for resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
        load_us: loading time that ended in the step.
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


def charges_rent(rents: Rents) -> bool:
    """Whether any rent is on; if none is, the environment need not measure memory x time at each step."""
    return bool(
        rents.container_rent_per_gb_s or rents.preload_rent_per_gb_s or rents.gpu_rent_per_gb_s or rents.load_per_s
    )
