"""A provider's warm-up trigger: two containers a function, always there, at the price of their memory and time.

A trigger looks every minute whether a function still has them, and creates one that is missing where memory is free.
They outlive their keep-alive; requests that find no other memory still evict them, and the trigger then creates them
anew.
"""

from __future__ import annotations

from tyche_env.control.compiled import inner
from tyche_env.state import ClusterState

CONTAINERS = 2
EVERY_US = 60_000_000


@inner
def is_paid_for(st: ClusterState, function: int) -> bool:
    """Whether f owns no more containers than it always has."""
    return st.functions[function].owned <= CONTAINERS
