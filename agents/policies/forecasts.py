"""Policies that are predictors, fitted before a window to a table that both engines read (``Kernel.TABLE``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from agents.policies.history import History
from agents.policies.policy import KernelPolicy, PolicyError
from agents.policies.predictors import Rates
from traces.blame import blaming, home_of
from tyche_env.tables import table_row
from tyche_env.world import Kernel, Prewarm, World


@dataclass(frozen=True, slots=True, eq=False)
class ForecastPolicy(KernelPolicy):
    """A predictor's forecasts: for each function and minute, the chance of a request within the next 60 s.

    Attributes:
        rates: what it expects (``agents.policies.predictors``).
        forecast: (F, M) of the window it was prepared for, as in ``World.forecast``; None before.
    """

    rates: Rates | None = None
    forecast: NDArray[np.int32] | None = None

    def prepare(self, history: History) -> Self:
        """Fit a model a function, and forecast every minute of the window from those before it.

        Raises:
            ModuleNotFoundError: the extra ``experiments`` is not installed.
            PolicyError: the predictor returns something else than a rate a minute.
            UserCodeError: a predictor of the user's fails.
        """
        return replace(self, forecast=np.stack([table_row(self._expected(*each)) for each in history.minutes()]))

    def _expected(self, counts: NDArray[np.float64], past: int) -> NDArray[np.float64]:
        """What the predictor answers about one function."""
        assert self.rates is not None
        with blaming(f"policy {self.name}", home_of(self.rates)):
            rates = np.asarray(self.rates(counts, past), np.float64)
        if rates.shape != (len(counts) - past,):
            raise PolicyError(
                f"policy {self.name}: its predictor must return {len(counts) - past} rates, one a minute, "
                f"got shape {rates.shape}"
            )
        return rates

    def equip(self, world: World) -> World:
        """The world with the forecasts.

        Raises:
            PolicyError: it has not been fitted, or the platform reads a forecast of its own from the same table.
        """
        if self.forecast is None:
            raise PolicyError(f"policy {self.name}: has to be fitted first; policy.prepare(history) does it")
        if world.settings.prewarm == Prewarm.ICEBREAKER:
            raise PolicyError(
                f"policy {self.name}: fills the table of forecasts that pre-warming icebreaker reads; use another"
            )
        return KernelPolicy.equip(self, replace(world, forecast=self.forecast))


def forecaster(name: str, rates: object) -> ForecastPolicy:
    """The policy of a predictor.

    Raises:
        PolicyError: it is no function.
    """
    if not callable(rates):
        raise PolicyError(
            f"policy {name}: a predictor is a function (counts, past) -> rates, got {type(rates).__name__}"
        )
    return ForecastPolicy(name, Kernel.TABLE, False, "a predictor's forecasts", rates=rates)
