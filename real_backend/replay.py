"""Open-loop replay: each request is sent at its absolute time, whatever became of the ones before it.

Time is never compressed.  A latency counts from the moment at which the request was due, so that lateness of the
injector is part of what it measures; how late it was is recorded besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


async def inject(
    arrival_us: NDArray[np.int64],
    now_us: Callable[[], int],
    send: Callable[[int], None],
    lateness_us: NDArray[np.int64],
) -> None:
    """Send every request when it is due.

    Args:
        arrival_us: (R,) ascending times.
        now_us: the clock.
        send: called with the request's row; does not wait.
        lateness_us: (R,) filled in: how much after its time each request was sent.
    """
    for request, due_us in enumerate(arrival_us.tolist()):
        while (wait_us := due_us - now_us()) > 0:
            await asyncio.sleep(wait_us / 1e6)
        lateness_us[request] = now_us() - due_us
        send(request)
