"""The simulated backend: a compiled engine, and a plain-Python reference that says what it must do."""

from __future__ import annotations

import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tyche_env.simulator.backend import SimulatedBackend as SimulatedBackend


def __getattr__(name: str) -> Any:
    if name == "SimulatedBackend":
        from tyche_env.simulator.backend import SimulatedBackend

        return SimulatedBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def warm_up() -> None:
    """Load the compiled kernels; the first time on a machine this compiles them, and says so once on stderr."""
    from tyche_env.control.compiled import is_compiled

    fresh = not is_compiled()
    start_s = time.perf_counter()
    if fresh:
        print("tyche-env: compiling the kernels for this machine (once, about a minute) ...", file=sys.stderr)
    from tyche_env.simulator.engine import compile_all

    compile_all()
    if fresh:
        print(f"tyche-env: compiled in {time.perf_counter() - start_s:.0f} s", file=sys.stderr)
