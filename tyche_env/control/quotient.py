"""Whole quotients of numbers without a sign: what ``//`` asks about signs and zero is not asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from numba import types as numba_types
from numba.extending import intrinsic

types: Any = numba_types  # numba does not type its extension interface


def _quotient(typing: Any, of: Any, by: Any) -> tuple[Any, Callable[..., Any]]:
    """Type and code of :data:`quotient`, in numba's form for intrinsics."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.udiv(*arguments)

    return types.intp(types.intp, types.intp), generate


quotient = cast(Callable[[int, int], int], intrinsic(_quotient))
"""The first number, at least 0, divided by the second, which has to be positive, rounded down."""
