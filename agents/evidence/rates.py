"""Pre-loaded share by how often a function is requested."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tyche_env.world import World

BINS_PER_DECADE = 2


def by_rate(world: World, totals: NDArray[Any]) -> list[list[int]]:
    """Requests and hits of one run by the rate of their function in the window.

    Args:
        world: whose scored window counts.
        totals: (F,) of ``metrics.TOTALS_DTYPE``.

    Returns:
        ``[bin, requests, pre-loaded requests]`` for each bin in use; bin 0 begins at one request a minute, and
        :data:`BINS_PER_DECADE` bins are a factor of ten.
    """
    called = totals[totals["requests"] > 0]
    minutes = (world.end_us - world.score_from_us) / 60e6
    bins = np.floor(BINS_PER_DECADE * np.log10(called["requests"] / minutes)).astype(int)
    hits = called["gpu"] + called["memory"]
    return [
        [int(place), int(called["requests"][bins == place].sum()), int(hits[bins == place].sum())]
        for place in np.unique(bins)
    ]
