"""What stages would have taken alone: the model of contention (``docs/engine.md``, 12) run backwards.

Of n stages that are on C cores at once each gets on at speed min(1, C / n), so what a stage has done is the integral
of that speed over its time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def alone_us(begin_us: NDArray[np.float64], end_us: NDArray[np.float64], cores: int | None) -> NDArray[np.float64]:
    """Work of each stage.

    Args:
        begin_us: (J,) when each began.
        end_us: (J,) when it ended.
        cores: that they share; None: each has its own.

    Returns:
        (J,) the time that each would have taken alone.
    """
    if cores is None or len(begin_us) == 0:
        return end_us - begin_us
    at_us = np.unique(np.concatenate([begin_us, end_us]))
    change = np.zeros(len(at_us))
    # a stage of no length joins nothing
    real = end_us > begin_us
    np.add.at(change, np.searchsorted(at_us, begin_us[real]), 1)
    np.add.at(change, np.searchsorted(at_us, end_us[real]), -1)
    speed = np.minimum(1.0, cores / np.maximum(1.0, np.cumsum(change)))
    done_us = np.concatenate([[0.0], np.cumsum(np.diff(at_us) * speed[:-1])])
    found: NDArray[np.float64] = np.interp(end_us, at_us, done_us) - np.interp(begin_us, at_us, done_us)
    return found
