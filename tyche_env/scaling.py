"""Observations scaled to [0, 1], in place and by compiled code: the one way in which wrapper and adapters do it.

A column becomes x / bound, or log(1 + x / a) / log(1 + bound / a).  The logarithm is a polynomial of plain float32
operations, of which the compiler makes vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tyche_env.control.compiled import inner_fused, outer_fused
from tyche_env.spaces import TABLES, Column, Layout

SMALLEST = {"s": 0.1, "1/s": 1e-5, "MB": 100.0, "s/MB": 1e-6, "count": 1.0, "ratio": 1.0, "code": 1.0}
"""By unit: differences below this hardly show in a scaled observation."""

_ONE, _LN_2 = np.float32(1.0), np.float32(np.log(2.0))
_ROOT_BITS, _EXPONENT_BITS, _SHIFT = np.int32(0x3F3504F3), np.int32(-(1 << 23)), np.int32(23)
POLYNOMIAL = tuple(
    np.float32(c)
    for c in (
        *(-0.5000084638595581, 0.33319219946861267, -0.24919062852859497),
        *(0.20449118316173553, -0.18587608635425568, 0.1194944903254509),
    )
)
"""(log(1 + x) - x) / x^2 for 1 + x in [sqrt(1/2), sqrt(2)], least greatest relative error of the logarithm: 1.3e-6."""
_COEFFICIENTS = np.array(POLYNOMIAL)


@inner_fused
def log1p(u: np.float32, polynomial: tuple[np.float32, ...]) -> np.float32:
    """log(1 + u) for u >= 0, within 1.5e-6 of itself; 0 for 0."""
    bits = np.float32(_ONE + u).view(np.int32)
    above = np.int32(bits - _ROOT_BITS)
    exponent = np.int32(above & _EXPONENT_BITS)
    mantissa = np.int32(bits - exponent).view(np.float32)
    x = u if exponent == 0 else np.float32(mantissa - _ONE)  # 1 + u forgets most of a small u
    c0, c1, c2, c3, c4, c5 = polynomial
    q = ((((c5 * x + c4) * x + c3) * x + c2) * x + c1) * x + c0
    return np.float32(np.int32(above >> _SHIFT)) * _LN_2 + (x + x * x * q)


@inner_fused
def scaled_value(
    x: np.float32, factors: NDArray[np.float32], at: int, polynomial: tuple[np.float32, ...]
) -> np.float32:
    """One value, by its column of (3, k) factors and :data:`POLYNOMIAL`, see :func:`scale_rows`."""
    return min(_ONE, factors[0, at] * x + factors[1, at] * log1p(factors[2, at] * x, polynomial))


@inner_fused
def scale(values: NDArray[np.float32], factors: NDArray[np.float32], polynomial: tuple[np.float32, ...]) -> None:
    """Scale (k,) values in place by (3, k) factors and :data:`POLYNOMIAL`, see :func:`scale_rows`."""
    for at in range(len(values)):
        values[at] = scaled_value(values[at], factors, at, polynomial)


def scale_rows(values: NDArray[np.float32], factors: NDArray[np.float32]) -> None:
    """Each of (n, k) values x >= 0 becomes the least of 1 and f0 x + f1 log(1 + f2 x), in place.

    Args:
        values: contiguous.
        factors: (3, k); f0 is 0 where there is a logarithm, the others are where there is none.
    """
    _scale_rows(values, factors, _COEFFICIENTS)


@outer_fused
def _scale_rows(values: NDArray[np.float32], factors: NDArray[np.float32], coefficients: NDArray[np.float32]) -> None:
    # what a loop is given it keeps in registers; constants, here, the compiler would load anew for every vector
    c = coefficients
    polynomial = c[0], c[1], c[2], c[3], c[4], c[5]
    for row in range(len(values)):
        scale(values[row], factors, polynomial)


def scale_of(column: Column) -> tuple[float, float]:
    """How a column is scaled: x becomes log(1 + x / a) / b, or x / b if a is infinite.

    Columns bounded by 2 (shares, probabilities, decisions) are divided by their bound.  All others have heavy tails:
    the logarithm shows a gap of 10 s beside one of a day.

    Returns:
        a and b.
    """
    if column.high <= 2:
        return np.inf, column.high
    smallest = SMALLEST[column.unit]
    return smallest, float(np.log1p(column.high / smallest))


def factors_of(columns: Sequence[Column], rows: int = 1) -> NDArray[np.float32]:
    """(3, rows x columns) factors of :func:`scale_rows` for rows of columns, one after the other."""
    a, b = np.array([scale_of(column) for column in columns]).T
    straight = np.isinf(a)
    factors = np.where(straight, 1 / b, 0), np.where(straight, 0, 1 / b), np.where(straight, 0, 1 / a)
    return np.tile(np.array(factors, np.float32), rows)


def factors_of_layout(layout: Layout) -> NDArray[np.float32]:
    """Factors for a whole flat observation, (3, size); masks stay as they are."""
    factors = np.zeros((3, layout.size), np.float32)
    factors[0] = 1
    for name, part in layout.parts.items():
        factors[:, part] = factors_of(TABLES[name], layout.rows[name])
    return factors


def scaled(values: NDArray[np.float32], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """A scaled copy of values, (..., k)."""
    copy = values.copy()
    scale_rows(copy.reshape(-1, factors.shape[1]), factors)
    return copy


def scaled_space(given: spaces.Dict) -> spaces.Dict:
    """The space of scaled observations."""
    boxes: dict[str, spaces.Space[NDArray[np.float32]]] = {
        name: spaces.Box(0.0, 1.0, box.shape) for name, box in given.items()
    }
    return spaces.Dict(boxes)
