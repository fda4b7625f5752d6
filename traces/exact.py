"""Numbers of any unit as whole microseconds, exactly: stamps of 2^53 and more lose nothing on the way.

The whole part of a number stays an integer; only what lies behind its point passes through a float.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from traces.places import Place

Unit = Literal["ns", "us", "ms", "s", "min", "h"]

US: Mapping[str, int] = MappingProxyType({"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000})
"""Microseconds of each unit from the microsecond on."""

_NS = 1_000
_LARGEST_US = 2**61
_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NOT_FINITE = r"(?i)^-?(inf|infinity|nan)$"
_NO_NUMBER = frozenset({"null", "none", "na", "n/a", "\\\\n", "-"})
"""How others write that there is no number; Python's ``repr`` doubles the backslash of ``\\N``."""
_PLACES = 9
_DECIMAL = pa.decimal128(38, _PLACES)


def whole_us(column: pa.Array, unit: Unit, place: Place, decimal: str = ".") -> NDArray[np.int64]:
    """A column's numbers in microseconds, to the nearest; empty cells give 0.

    Args:
        column: Texts, integers, decimals, floats or durations (whose own unit then counts).
        unit: Unit of what is no duration.
        place: Where they stand.
        decimal: What separates whole and fraction in texts.

    Raises:
        TraceError: A cell is no number, is not finite or is too large; or the column holds something else.
    """
    kind = column.type
    if pa.types.is_duration(kind):
        return whole_us(column.cast(pa.int64()), kind.unit, place)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_texts(column.fill_null("0"), unit, place, decimal)
    if pa.types.is_integer(kind):
        return _scaled(column.fill_null(0).to_numpy(zero_copy_only=False), None, unit, place)
    if pa.types.is_decimal(kind):
        return _of_decimals(column.cast(pa.string()).fill_null("0"), unit, place)
    values: NDArray[np.float64] = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    return _of_floats(values, unit, place)


def _of_texts(texts: pa.Array, unit: Unit, place: Place, decimal: str) -> NDArray[np.int64]:
    texts = compute.utf8_trim_whitespace(texts)
    if decimal != ".":
        wrong = compute.match_substring(texts, ".").to_numpy(zero_copy_only=False)
        place.refuse(wrong, f"has a point, though decimal is {decimal!r}")
        texts = compute.replace_substring(texts, decimal, ".")
    # which Arrow takes for numbers of base 16
    place.refuse(compute.match_substring_regex(texts, "[xX]").to_numpy(zero_copy_only=False), "is not a number")
    for kind in (pa.int64(), pa.uint64()):
        try:
            return _scaled(texts.cast(kind).to_numpy(zero_copy_only=False), None, unit, place)
        except pa.ArrowInvalid:
            continue
    texts = compute.replace_substring_regex(texts, r"^\+", "")
    wrong = compute.match_substring_regex(texts, _NOT_FINITE).to_numpy(zero_copy_only=False)
    hint = "; leave the cell empty where there is none" if _first_is_nan(texts, wrong) else ""
    place.refuse(wrong, f"is not a finite number{hint}")
    wrong = ~compute.match_substring_regex(texts, _NUMBER).to_numpy(zero_copy_only=False)
    advice = _advice(place.cells(int(np.argmax(wrong))), decimal) if wrong.any() else ""
    place.refuse(wrong, f"is not a number{advice}")
    return _of_decimals(texts, unit, place)


def _first_is_nan(texts: pa.Array, wrong: NDArray[np.bool_]) -> bool:
    return bool(wrong.any()) and "nan" in texts[int(np.argmax(wrong))].as_py().lower()


def _advice(cell: str, decimal: str) -> str:
    """What would make a number of a cell that is none, as far as it can be told."""
    if cell.strip("'").lower() in _NO_NUMBER:
        return "; leave the cell empty where there is none"
    commas = cell.count(",")
    if commas > 1:
        return "; leave separators of thousands out"
    return "; give decimal=," if commas and decimal == "." else ""


def _of_decimals(texts: pa.Array, unit: Unit, place: Place) -> NDArray[np.int64]:
    """Numbers as texts; what does not fit into 38 digits is too large for a time anyhow, unless it is below 1e-9."""
    try:
        cut = compute.replace_substring_regex(texts, rf"(\.\d{{{_PLACES}}})\d+$", r"\1")
        exact = cut.cast(_DECIMAL)
        whole = compute.floor(exact)
        behind = compute.subtract(exact, whole).cast(pa.float64()).to_numpy(zero_copy_only=False)
        return _scaled(whole.cast(pa.int64()).to_numpy(zero_copy_only=False), behind, unit, place)
    except pa.ArrowInvalid:
        return _of_floats(texts.cast(pa.float64()).to_numpy(zero_copy_only=False), unit, place)


def _too_large(unit: Unit) -> str:
    return f"is too large for a time in {unit}: is the unit right?"


def _of_floats(values: NDArray[np.float64], unit: Unit, place: Place) -> NDArray[np.int64]:
    place.refuse(~np.isfinite(values), "is not a finite number")
    place.refuse(np.abs(values) >= _LARGEST_US / US.get(unit, 1), _too_large(unit))
    whole = np.floor(values)
    return _scaled(whole.astype(np.int64), values - whole, unit, place)


def _scaled(whole: NDArray[Any], behind: NDArray[np.float64] | None, unit: Unit, place: Place) -> NDArray[np.int64]:
    """Whole numbers (int64 or uint64) and what is behind the point, in microseconds."""
    if unit == "ns":
        us, rest = whole // _NS, whole % _NS
        tail = rest.astype(np.float64) + (0.0 if behind is None else behind)
        half = _NS / 2
        up = (tail > half) | ((tail == half) & (us % 2 == 1))
        found: NDArray[np.int64] = us.astype(np.int64) + up
        return found
    most = _LARGEST_US // US[unit]
    too_large = whole > most if whole.dtype.kind == "u" else (whole > most) | (whole < -most)
    place.refuse(too_large, _too_large(unit))
    us = whole.astype(np.int64) * US[unit]
    return us if behind is None else us + np.rint(behind * US[unit]).astype(np.int64)
