"""The container policy in force, asked what a platform has to know; the rules are in the modules beside this one.

FaasCache and always-on containers aside, all that differs between policies is how long a container is kept and when
one is made ahead of a request (``docs/engine.md``, 7, 10 and 11).
"""

from __future__ import annotations

from tyche_env.codes import Prewarm
from tyche_env.control import hooks
from tyche_env.control.compiled import inner
from tyche_env.control.routing import has_room
from tyche_env.control.timers import set_expiry, set_prewarm
from tyche_env.prewarm import always_on, histogram, icebreaker, keep_alive, pagurus, rainbowcake
from tyche_env.rules import FOREVER
from tyche_env.state import ClusterState


@inner
def begin(st: ClusterState) -> None:
    """Time 0: timers of the policies that look at each function every minute."""
    s = st.cluster[0]
    if s.prewarm == Prewarm.ALWAYS_ON or s.prewarm == Prewarm.ICEBREAKER:
        for function in range(s.functions):
            set_prewarm(st, function, 0)


@inner
def before_arrival(st: ClusterState, function: int) -> None:
    """A request of f is there; neither ``in_flight`` nor f's history know of it."""
    s = st.cluster[0]
    if s.prewarm == Prewarm.HISTOGRAM:
        histogram.before_arrival(st, function)
    elif s.prewarm == Prewarm.OWN:
        hooks.before_arrival(st, function)


@inner
def after_arrival(st: ClusterState, function: int) -> None:
    """The same, once f's history is up to date."""
    if st.cluster[0].prewarm == Prewarm.RAINBOWCAKE:
        rainbowcake.expect_next(st, function)


@inner
def keep_alive_us(st: ClusterState, function: int) -> int:
    """How long a container is kept after a run of f (0: not at all, negative: for ever)."""
    s = st.cluster[0]
    keep_us = keep_alive.keep_alive_us(st)
    if s.prewarm == Prewarm.HISTOGRAM:
        keep_us = histogram.keep_alive_us(st, function)
    elif s.prewarm == Prewarm.FAASCACHE:
        keep_us = FOREVER
    elif s.prewarm == Prewarm.PAGURUS:
        keep_us = pagurus.keep_alive_us(st)
    elif s.prewarm == Prewarm.RAINBOWCAKE:
        keep_us = rainbowcake.keep_alive_us(st, function)
    elif s.prewarm == Prewarm.ICEBREAKER:
        keep_us = icebreaker.KEEP_US
    elif s.prewarm == Prewarm.OWN:
        keep_us = hooks.keep_alive_us(st, function)
    return keep_us


@inner
def renewal_us(st: ClusterState, function: int) -> int:
    """How long a container of f outlives its keep-alive; -1: not at all."""
    s = st.cluster[0]
    if s.prewarm == Prewarm.ALWAYS_ON and always_on.is_paid_for(st, function):
        return keep_alive.keep_alive_us(st)
    if s.prewarm == Prewarm.ICEBREAKER and icebreaker.is_expected(st, function):
        return icebreaker.KEEP_US
    return -1


@inner
def outlives(st: ClusterState, container: int) -> bool:
    """Whether an idle container whose time is over stays, as something less (RainbowCake) or as it is."""
    s = st.cluster[0]
    c = st.containers[container]
    if s.prewarm == Prewarm.RAINBOWCAKE and c.shared == 0:
        rainbowcake.peel(st, container)
        return True
    longer_us = renewal_us(st, c.owner)
    if longer_us < 0:
        return False
    set_expiry(st, container, s.now_us + longer_us)
    return True


@inner
def wants_container(st: ClusterState, function: int) -> bool:
    """Whether the platform creates a container for f ahead of a request, now that its pre-warm timer is due."""
    s = st.cluster[0]
    f = st.functions[function]
    n = st.nodes[f.home_node]
    if s.prewarm == Prewarm.ALWAYS_ON:
        set_prewarm(st, function, s.now_us + always_on.EVERY_US)
        f.prewarm_keep_us = keep_alive.keep_alive_us(st)
        return f.owned < always_on.CONTAINERS and n.queue_length == 0 and n.free_mb >= f.container_mb
    if s.prewarm == Prewarm.ICEBREAKER:
        set_prewarm(st, function, s.now_us + icebreaker.EVERY_US)
        f.prewarm_keep_us = icebreaker.KEEP_US
        if f.owned > 0 or not icebreaker.is_expected(st, function):
            return False
    # not if the function has a container already, nor where requests would have to wait for it
    return f.owned_idle == 0 and n.queue_length == 0 and has_room(st, function, f.home_node)
