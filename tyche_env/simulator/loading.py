"""Loading the compiled kernels, which takes a minute once on a machine."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from functools import cache

from filelock import FileLock


@cache
def warm_up() -> None:
    """Load the compiled kernels; the first time on a machine one process compiles them, and says so on stderr."""
    from tyche_env.control.compiled import cache_folder
    from tyche_env.simulator.kernel_cache import COMPLETE, LOCK, prune

    folder = cache_folder()
    complete = folder / COMPLETE
    with FileLock(folder / LOCK):
        # the engine is compiled or loaded under the lock, so that processes started together compile it once
        fresh = not complete.exists()
        start_s = time.perf_counter()
        if fresh:
            print("tyche-env: compiling the kernels for this machine (once, about a minute) ...", file=sys.stderr)
        from tyche_env.simulator.engine import compile_all

        compile_all()
        with suppress(OSError):  # a cache that may only be read
            complete.touch()
        if fresh:
            print(f"tyche-env: compiled in {time.perf_counter() - start_s:.0f} s", file=sys.stderr)
            prune(folder.parent)
