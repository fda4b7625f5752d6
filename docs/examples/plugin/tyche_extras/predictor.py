"""A predictor: the next minute has as many requests as the mean of the last sixty had."""

import numpy as np


def last_hour(counts, past):
    """Expected requests of each minute from ``past`` on, each from the minutes before it only."""
    total = np.concatenate(([0.0], np.cumsum(counts)))
    minute = np.arange(past, len(counts))
    first = np.maximum(0, minute - 60)
    return (total[minute] - total[first]) / np.maximum(1, minute - first)
