"""A reward term: every cold start costs a tenth of a second."""

from tyche_env.world import StartType


def cold_starts(step):
    """Called once a step; what it returns is added to the reward."""
    return -0.1 * float((step.requests["start_type"] == StartType.COLD).sum())
