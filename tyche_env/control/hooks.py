"""How the compiled core calls a user's rule: by address (``tyche_env.rules``).

The core is compiled once; a rule comes later, so it cannot be inlined.  It is compiled as a C function of two integers,
the address of the handles and the function, and its address stands in the cluster's row.  A call costs two
nanoseconds and the opening of the tables.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import cfunc
from numba import types as numba_types
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from traces.blame import placed, said
from tyche_env.codes import LEAVE, OFFLOAD
from tyche_env.control.compiled import INNER, inner
from tyche_env.control.handles import open_state_at
from tyche_env.control.queue import NO_KEY
from tyche_env.control.timers import set_prewarm
from tyche_env.errors import UserError
from tyche_env.rules import PrewarmPolicy, RoutingRule, RowKernel, Rule, Rules
from tyche_env.state import ClusterState
from tyche_env.tables import ONE_Q20

types: Any = numba_types

SHORTEST_US = 1000
"""Between two questions about one function, so that a rule that always says "now" does not stop time."""
LONGEST_US = 1 << 42


class RuleError(UserError):
    """A rule that cannot be compiled, or that raised an error; the message names it and its line."""


def _call(typing: Any, address: Any, handles: Any, function: Any) -> tuple[Any, Callable[..., Any]]:
    """Type and code of :data:`call`, in numba's form for intrinsics."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        pointer = builder.inttoptr(arguments[0], ir.FunctionType(word, [word, word]).as_pointer())
        return builder.call(pointer, arguments[1:])

    return types.int64(types.int64, types.int64, types.int64), generate


call = cast(Callable[[int, int, int], int], intrinsic(_call))
"""Call the C function at an address with the address of the handles and the function."""


@inner
def ask_rule(st: ClusterState, function: int) -> tuple[int, int, int]:
    """The answer of the user's kernel, made safe: a known decision, 0 <= priority <= 2^20, a time that passes."""
    s = st.cluster[0]
    decision = call(s.kernel_rule, s.handles, function)
    priority = min(ONE_Q20, max(0, s.answer_priority))
    again_us = s.answer_again_us
    if again_us >= 0:
        again_us = min(LONGEST_US, max(SHORTEST_US, again_us))
    if decision < LEAVE or decision > OFFLOAD:
        decision = LEAVE
    return decision, priority, max(-1, again_us)


@inner
def before_arrival(st: ClusterState, function: int) -> None:
    """Tell the user's pre-warming policy of a request; a pre-warm that was planned is pointless now."""
    s = st.cluster[0]
    st.functions[function].prewarm_key = NO_KEY
    call(s.arrival_rule, s.handles, function)


@inner
def keep_alive_us(st: ClusterState, function: int) -> int:
    """How long the user's pre-warming policy keeps a container; negative: for ever."""
    s = st.cluster[0]
    return max(-1, min(LONGEST_US, call(s.keep_rule, s.handles, function)))


@inner
def route_by_rule(st: ClusterState, function: int) -> int:
    """The node that the user's rule names, or -1 if it is none."""
    s = st.cluster[0]
    node = call(s.route_rule, s.handles, function)
    return node if 0 <= node < s.nodes else -1


@inner
def prewarm_at(st: ClusterState, function: int, time_us: int, keep_us: int) -> None:
    """For pre-warming policies: make a container for f at a time, to be kept for so long; one at a time is planned."""
    st.functions[function].prewarm_keep_us = keep_us
    set_prewarm(st, function, max(st.cluster[0].now_us, time_us))


# -- compiling ---------------------------------------------------------------------------------------------------------


def install(state: ClusterState, rules: Rules) -> None:
    """Compile a world's rules, if it has any, and write their addresses, which are this process's, into the state.

    Raises:
        RuleError: a rule cannot be compiled.
    """
    kernel, prewarm, routing = rules.kernel, rules.prewarm, rules.routing
    if rules != Rules() and sys.unraisablehook is not _note:
        _HEARD.append(sys.unraisablehook)
        sys.unraisablehook = _note
    if kernel is not None:
        state.cluster["kernel_rule"] = _address(kernel.rule, True)
    if prewarm is not None:
        state.cluster["keep_rule"] = _address(prewarm.keep_alive, False)
        state.cluster["arrival_rule"] = _address(prewarm.on_arrival, False)
    if routing is not None:
        state.cluster["route_rule"] = _address(routing.rule, False)


def _address(rule: Rule, answers: bool) -> int:
    return int(_compiled(rule, answers).address)


@cache
def _compiled(rule: Rule, answers: bool) -> Any:
    """A rule as a C function; kept for the life of the process, since addresses of it may be anywhere."""
    inlined: Any = inner(rule)

    def deciding(handles: int, function: int) -> int:
        st = open_state_at(handles)
        decision, priority, again_us = inlined(st, function)
        s = st.cluster[0]
        s.answer_priority = np.int64(priority)
        s.answer_again_us = np.int64(again_us)
        return np.int64(decision)

    def counting(handles: int, function: int) -> int:
        return np.int64(inlined(open_state_at(handles), function))

    signature = types.int64(types.int64, types.int64)
    options = {name: value for name, value in INNER.items() if name != "forceinline"}
    try:
        return cfunc(signature, **options)(deciding if answers else counting)
    except Exception as error:  # the compiler runs parts of the rule, and lets their errors through
        wanted = "(decision, priority, again_us), three integers" if answers else "one integer"
        raise RuleError(
            f"{_called(rule)}, {_place(rule, error)}: cannot be compiled ({_reason(error)}); "
            f"it may use numbers, st's tables and math, and must return {wanted}"
        ) from error


def _called(rule: Rule) -> str:
    return f"rule {getattr(rule, '__name__', rule)}"


def _place(rule: Rule, error: Exception) -> str:
    """File and line: the innermost of the rule's file that the compiler names, else where the rule begins."""
    code = rule.__code__
    file = Path(code.co_filename)
    found = re.findall(r'"([^"]+)", line (\d+)|(\S+) \((\d+)\)', str(error))
    named = [int(one or other) for quoted, one, bare, other in found if Path(quoted or bare).name == file.name]
    return placed(code.co_filename, named[0] if named else code.co_firstlineno)


def _reason(error: Exception) -> str:
    """The first line of a compiler's report that says something."""
    if not isinstance(error, NumbaError):
        return said(error)
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Failed in ")), type(error).__name__)


# -- errors ------------------------------------------------------------------------------------------------------------

_RAISED: list[BaseException] = []
"""The first error that a rule has raised since the last look."""
_HEARD: list[Callable[[Any], object]] = []
"""Who heard of errors that cannot be raised before we did."""


def _note(unraisable: Any) -> None:
    """Keep what a rule raises: it cannot pass through the compiled core, which goes on with 0 for an answer."""
    if "numba" not in str(unraisable.object):
        _HEARD[-1](unraisable)
    elif not _RAISED and unraisable.exc_value is not None:
        _RAISED.append(unraisable.exc_value)


def check_rules() -> None:
    """Raise what a rule has raised while the compiled core ran.

    Raises:
        RuleError: names file and line.
    """
    if not _RAISED:
        return
    error = _RAISED.pop()
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        raise RuleError(f"a rule of your own: {said(error)}") from error
    code = trace.tb_frame.f_code
    raise RuleError(f"rule {code.co_name}, {placed(code.co_filename, trace.tb_lineno)}: {said(error)}") from error


__all__ = ["PrewarmPolicy", "RoutingRule", "RowKernel", "RuleError", "check_rules", "install", "prewarm_at"]
