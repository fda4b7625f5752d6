"""OpenWhisk's policy: an idle container lives for a fixed time after its last run (``facts``: 10 minutes)."""

from __future__ import annotations

from tyche_env.control.compiled import inner
from tyche_env.state import ClusterState


@inner
def keep_alive_us(st: ClusterState) -> int:
    """How long the container lives from now on."""
    return st.cluster[0].keep_alive_us
