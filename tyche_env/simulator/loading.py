"""Loading the compiled kernels, which takes a minute once on a machine."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from functools import cache

from filelock import FileLock

from tyche_env.kernel_place import COMPLETE, COST, say, writable


@cache
def warm_up() -> None:
    """Load the compiled kernels; the first time on a machine one process compiles them, and says so on stderr.

    Raises:
        UserError: others can write where the user wants kernels to be.
    """
    from tyche_env.control.compiled import kernel_place
    from tyche_env.simulator.kernel_cache import LOCK, prune

    place = kernel_place()
    if place.folder is None:
        say(f"compiling the kernels and keeping them nowhere, since {place.why}: {COST}")
        _compile()
        return
    complete = place.folder / COMPLETE
    # under the lock, so that processes started together compile once; what may only be read is whole
    with FileLock(place.folder / LOCK) if writable(place.folder) else nullcontext():
        fresh = not complete.exists()
        start_s = time.perf_counter()
        if fresh:
            if place.why:
                say(f"kernels are kept in {place.folder.parent}, since {place.why}")
            say("compiling the kernels for this machine (once, about a minute) ...")
        _compile()
        with suppress(OSError):  # a cache that may only be read
            complete.touch()
        if fresh:
            say(f"compiled in {time.perf_counter() - start_s:.0f} s")
            prune(place.folder.parent)


def _compile() -> None:
    from tyche_env.simulator.engine import compile_all

    compile_all()
