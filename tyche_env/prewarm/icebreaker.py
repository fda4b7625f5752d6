"""IceBreaker (Roy et al., ASPLOS'22): warm a function in the minutes in which its forecast makes that worth it.

The forecast of each minute is in the table of the world (``tyche_env.fourier`` fits it).  IceBreaker's utilities also
choose between fast and slow servers; nodes are alike here, so what is left is one threshold.
"""

from __future__ import annotations

from tyche_env.control.compiled import inner
from tyche_env.state import ClusterState

KEEP_US = 60_000_000
EVERY_US = 60_000_000
_THRESHOLD = 104_858
"""A tenth, in 2^-20: a container is held ten minutes a request at most, as long as OpenWhisk keeps it."""


@inner
def is_expected(st: ClusterState, function: int) -> bool:
    """Whether the forecast of the present minute is worth a container."""
    minute = st.cluster[0].now_us // EVERY_US
    return st.forecast[function, min(minute, st.forecast.shape[1] - 1)] >= _THRESHOLD
