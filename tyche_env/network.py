"""The row network: a small multi-layer perceptron that scores one function from its own features.

This module fixes its form and holds the plain twin of the compiled kernel (``control.network``): two hidden layers of
rectified linear units and one output, whose logistic function is the priority.  Scaling of the features is folded into
the first layer, so that the weights are all that a trained agent hands over.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEATURES = (
    "log_age_s",
    "log_mean_gap_s",
    "log_mean_gap_3_s",
    "log_last_gap_s",
    "log_gap_cov",
    "log_censored_gap_s",
    "log_rate_1min_per_h",
    "log_rate_10min_per_h",
    "log_rate_60min_per_h",
    "hazard_10s",
    "hazard_60s",
    "survival",
    "log_arrivals",
    "log_age_of_mean_gap",
    "log_age_of_last_gap",
    "held",
)
"""What the network is told about a function that was requested before: no identity, no profile, no time of day.
The last says whether it takes memory now: a copy of it runs, is held or loads.

``log`` is log(1 + x); ``tyche_env.features`` says how each follows from the columns of an observation.
"""
MOST_ARRIVALS = 33
"""Arrivals beyond this number say nothing more: so many gaps are kept."""
INPUTS = len(FEATURES)
HIDDEN = 64
"""Width of both hidden layers; narrower ones are padded with zeros."""
SIZE = INPUTS * HIDDEN + HIDDEN + HIDDEN * HIDDEN + HIDDEN + HIDDEN + 1 + 1
"""Length of the flat weights: first layer (INPUTS, HIDDEN), its biases, second layer, its biases, output, its bias; and
the floor: functions with a priority below it are left as they are, neither loaded nor off-loaded."""


class Layers(NamedTuple):
    """The flat weights taken apart; views, float32."""

    first: NDArray[np.float32]
    first_bias: NDArray[np.float32]
    second: NDArray[np.float32]
    second_bias: NDArray[np.float32]
    output: NDArray[np.float32]
    output_bias: NDArray[np.float32]
    floor: NDArray[np.float32]


def layers_of(weights: NDArray[np.float32]) -> Layers:
    """Views of the layers, (INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN,), (1,), (1,).

    Raises:
        ValueError: the weights have another length.
    """
    if weights.shape != (SIZE,):
        raise ValueError(f"network: needs {SIZE} weights, got shape {weights.shape}")
    ends = np.cumsum([INPUTS * HIDDEN, HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN, 1])
    first, first_bias, second, second_bias, output, output_bias, floor = np.split(weights, ends)
    first, second = first.reshape(INPUTS, HIDDEN), second.reshape(HIDDEN, HIDDEN)
    return Layers(first, first_bias, second, second_bias, output, output_bias, floor)


def logits(weights: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The network's output before the logistic function.

    Args:
        weights: (SIZE,).
        features: (..., INPUTS).
    """
    layers = layers_of(weights)
    hidden = np.maximum(features @ layers.first + layers.first_bias, 0)
    hidden = np.maximum(hidden @ layers.second + layers.second_bias, 0)
    answer: NDArray[np.float32] = hidden @ layers.output + layers.output_bias
    return answer


def priorities(weights: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The priorities in 0..1 that the network gives, shape of ``features`` without its last dimension."""
    return (1 / (1 + np.exp(-logits(weights, features)))).astype(np.float32)
