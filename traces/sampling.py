"""Draw some functions of a class."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from traces.counts import Counts
from traces.describe import COV_CLASSES, RATE_GROUPS, statistics
from traces.errors import TraceError
from traces.trace import Trace

Source = TypeVar("Source", Counts, Trace, Counts | Trace)


def sample(source: Source, n: int, seed: int, cov_class: str | None = None, rate_group: str | None = None) -> Source:
    """Draw functions without replacement, in proportion to their weights (all 1 unless the data say otherwise).

    Args:
        source: Trace or counts.
        n: How many functions.
        seed: Seed of the draw.
        cov_class: Only this class of :data:`traces.describe.COV_CLASSES`; None for all.
        rate_group: Only this group of :data:`traces.describe.RATE_GROUPS`; None for all.

    Returns:
        The same kind of thing with the drawn functions, in the order of the source.

    Raises:
        TraceError: An unknown class or group, or fewer than ``n`` functions to draw from.
    """
    for what, given, known in (("cov_class", cov_class, COV_CLASSES), ("rate_group", rate_group, RATE_GROUPS)):
        if given is not None and given not in known:
            raise TraceError(f"{what} {given!r} is unknown, expected one of {', '.join(known)}")
    matches = np.ones(len(source.names), dtype=np.bool_)
    if cov_class is not None or rate_group is not None:
        table = statistics(source)
        for column, wanted in (("cov_class", cov_class), ("rate_group", rate_group)):
            if wanted is not None:
                matches &= (table[column] == wanted).to_numpy()
    candidates = np.flatnonzero(matches)
    weights = source.weights[candidates].astype(np.float64) if isinstance(source, Counts) else np.ones(len(candidates))
    candidates, weights = candidates[weights > 0], weights[weights > 0]
    if not len(candidates):
        raise TraceError(f"none of the {len(source.names)} functions matches; ask for another cov_class or rate_group")
    if not 1 <= n <= len(candidates):
        raise TraceError(f"cannot draw {n} functions of {len(candidates)} that match, expected 1..{len(candidates)}")
    drawn = np.random.default_rng(seed).choice(candidates, size=n, replace=False, p=weights / weights.sum())
    return source.select(np.sort(drawn))
