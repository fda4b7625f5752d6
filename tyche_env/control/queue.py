"""Event keys and the heaps that order them: each key has four below it, none of which is less.

A key is ``time << 21 | kind << 17 | entity``: 42 bits of microseconds, 4 of kind, 17 of entity.  Comparing keys
compares (time, kind, entity), which is the tie rule, and a key is its own version stamp: an entity remembers the key it
waits for,
and a popped key that differs is stale.

*Deferred* setting keeps re-set timers cheap: a later time is only stored; the earlier key in the heap, when popped,
pushes the wanted one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tyche_env.control.compiled import inner
from tyche_env.state import NO_KEY as NO_KEY

LAST_US = 1 << 42
"""The first time that a key cannot say."""
SPARE = 3
"""Entries behind the keys of a heap that have to be there."""
ENTITY_BITS, TIME_SHIFT, ENTITY_MASK, KIND_MASK = 17, 21, (1 << 17) - 1, 15


@inner
def key_of(time_us: int, kind: int, entity: int) -> int:
    """The event key."""
    return (time_us << TIME_SHIFT) | (kind << ENTITY_BITS) | entity


@inner
def push(heap: NDArray[np.int64], count: int, key: int) -> None:
    """Put a key into a heap of ``count`` keys; the caller counts."""
    hole = count
    while hole > 0:
        parent = (hole - 1) >> 2
        above = heap[parent]
        if above <= key:
            break
        heap[hole] = above
        hole = parent
    heap[hole] = key


@inner
def sift(heap: NDArray[np.int64], count: int, key: int) -> None:
    """Put a key in place of the least one of a heap of ``count`` keys.

    The hole at the top sinks to the bottom first, without looking at the key: which of four children is least is a
    matter of chance, so it is computed and not branched on, and a key that replaces the least one mostly belongs far
    down anyway.  The ``SPARE`` entries behind the keys are overwritten.
    """
    for spare in range(SPARE):
        heap[count + spare] = NO_KEY
    hole = 0
    child = 1
    while child < count:
        a, b, c, d = heap[child], heap[child + 1], heap[child + 2], heap[child + 3]
        left, right = min(a, b), min(c, d)
        of_left = child + np.int64(b < a)
        of_right = child + 2 + np.int64(d < c)
        heap[hole] = min(left, right)
        hole = of_right if right < left else of_left
        child = 4 * hole + 1
    push(heap, hole, key)


@inner
def pop(heap: NDArray[np.int64], count: int) -> None:
    """Remove the least key of a heap of ``count`` keys; the caller counts."""
    sift(heap, count - 1, heap[count - 1])
