"""A loop around the core's routing, so that one call from Python times thousands of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tyche_env.control.compiled import outer
from tyche_env.control.handles import open_state
from tyche_env.control.routing import route


@outer
def route_all(handles: NDArray[np.int64], functions: NDArray[np.int64], found: NDArray[np.int64]) -> None:
    """The node of a request to each function as things stand, into ``found``; nothing is changed."""
    st = open_state(handles)
    for at in range(len(functions)):
        found[at] = route(st, functions[at], at)
