"""Rules of your own for the decision core: a row kernel, a pre-warming policy, a routing rule.

A rule is a plain function of ``(st, function)``, where ``st`` are the core's tables (``tyche_env.state``) and
``function`` is a row of ``st.functions``.  It is compiled by itself when it is first used, within a second, and the
compiled core calls it by its address: neither the core nor other rules are compiled anew, and a rule runs wherever the
core does.  It may read every table, and write its own memory only.

    from tyche_env.rules import HOLD, LEAVE, NEVER, RowKernel

    def steady(st, function):
        row = st.functions[function]
        return (HOLD, row.window_count * 1000, NEVER) if row.arrivals > 1 else (LEAVE, 0, NEVER)

    kernel = RowKernel(steady)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tyche_env.codes import HOLD as HOLD
from tyche_env.codes import LEAVE as LEAVE
from tyche_env.codes import OFFLOAD as OFFLOAD

NEVER = -1
"""Instead of a time: do not ask again."""

FOREVER = -1
"""Instead of a keep-alive: the container gets no expiry."""

CERTAIN = 1 << 20
"""The greatest priority: priorities are P(requested while held) in 2^-20."""

Rule = Callable[[Any, int], Any]


def nothing(st: Any, function: int) -> int:
    """A rule that does nothing."""
    return 0


@dataclass(frozen=True, slots=True)
class RowKernel:
    """What to do with one function, asked at its own requests and timers (``docs/engine.md``, 8 and 11).

    Attributes:
        rule: ``(st, function) -> (decision, priority, again_us)``, all integers: LEAVE, HOLD or OFFLOAD; the priority
            in 2^-20; and after how many microseconds to ask again, at least 1000, or NEVER.
        memory: columns of ``st.kernel_memory`` (F, memory), int64, 0 at the start: the rule's to write.
        features: keep what observations show besides (``st.gaps``, ``st.gap_bins``, rates); costs a little time.
    """

    rule: Rule
    memory: int = 0
    features: bool = False


@dataclass(frozen=True, slots=True)
class PrewarmPolicy:
    """How long the platform keeps a container, and when it makes one ahead of a request (``docs/engine.md``, 11).

    Attributes:
        keep_alive: ``(st, function) -> keep_us``, asked when a run of the function ends: how long its container stays
            idle; 0: remove it now, FOREVER: until it is evicted.  It may call ``prewarm_at`` of
            ``tyche_env.control.hooks``.
        on_arrival: ``(st, function) -> int``, called at each request before anything else; what it returns is ignored.
            ``in_flight`` does not count this request yet.  A pre-warm that was planned has just been cancelled.
        memory: columns of ``st.prewarm_memory`` (F, memory), int64, 0 at the start: the rules' to write.
    """

    keep_alive: Rule
    on_arrival: Rule = nothing
    memory: int = 0


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """Which node serves a request (``docs/engine.md``, 11).

    Attributes:
        rule: ``(st, function) -> node``.  If that node cannot serve the request at once, or is none, the next one that
            can is taken, in order of number from the function's home on; if none can, the request queues.
    """

    rule: Rule


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one world; each is needed if, and only if, its setting is OWN."""

    kernel: RowKernel | None = None
    prewarm: PrewarmPolicy | None = None
    routing: RoutingRule | None = None
