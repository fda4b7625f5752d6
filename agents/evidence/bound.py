r"""A lower bound on the delay before inference that no policy, pre-warming policy or mode can beat.

The bound is on **queue + warming + loading** of a request (time from its arrival to the start of inference, without
scheduling); where nobody queues, that is warming + loading.  Queueing has to be part of it: a request that waits can be
loaded while it waits, so warming + loading alone can be pushed to 0 by a cluster that is full.

Relaxation: all memory is one pool, every arrival is known, containers may be anywhere, pre-warming is free.

Proof sketch.  Fix a run of any policy.  Let request i of function f arrive at a and be served at n >= a in container c;
write cost(i) = (n - a) + warming + library + model + transfer.

1. *Size.*  A container that starts f with f's artifacts present is at least m = min{container_mb : container_mb >=
   peak_mb of f}: they came in by a load (which needs peak_mb) or by an earlier run in a container made for f.
2. *Charge.*  Charge to i the time x that c spent before a with what i profits from: since the load command, or since
   f's previous run in c started.  Both lie after the start of c's previous request, so charges in one container do
   not overlap, and inside any stretch of time B charges times sizes add up to at most B x total memory.
3. *Cold or warm start.*  cost(i) >= its own library + model draws.  No charge.
4. *Load.*  A load that began y before n has at least (fastest load + command - scheduling - clearing - y) left when the
   stages begin, and y <= x + (n - a).  So cost(i) >= fastest load + command - scheduling - clearing - x.
5. *Left by an earlier run* j in c.  c was busy with j at least (scheduling + shortest inference of f) before n; so
   x + (n - a) >= that, and cost(i) >= scheduling + shortest inference - x.
6. Hence cost(i) >= W - x with W = min(the right-hand sides of 3 to 5 at x = 0); 5 only if f was requested before.
   So only charges within [a - W, a) matter.
7. Cut time into blocks and count of each charge only what lies in the block of its arrival; the rest is taken as free.
   Memory x time that can matter in a block is total memory x length of the union of its [a - W, a).  Minimising the sum
   of (W - x) under that budget is a fractional knapsack, solved by taking the smallest sizes first.  Blocks share
   nothing, so their optima add up.  Every way to cut is valid, so the largest of several bounds is taken: blocks of
   several lengths, and cuts where the union has gaps.

Noise is covered: 3 uses the request's own draws, 4 and 5 the smallest factor that any draw gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tyche_env.draws import Concern, draw_u64, noisy_us
from tyche_env.world import IntArray, World

Floats = NDArray[np.float64]

BLOCKS_US = tuple(250_000 << exponent for exponent in range(0, 15, 2))
"""Block lengths tried: 0.25 s to about 68 min."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Lower bounds on the mean of queue + warming + loading over the scored requests; None without any.

    Attributes:
        request_mean_us: on the mean over requests.
        function_mean_us: on the mean over functions of their means.
    """

    request_mean_us: float | None
    function_mean_us: float | None


def bound(world: World) -> Bound:
    """Bound the delay before inference in a world from below; see the module's docstring for the proof."""
    scored = world.arrival_us >= world.score_from_us
    count = int(scored.sum())
    if count == 0:
        return Bound(None, None)
    worth_us = _least_delay_us(world)[scored]
    function = world.arrival_function[scored]
    arrival_us = world.arrival_us[scored]
    size_mb = _smallest_container_mb(world)[function]
    requests = np.bincount(function, minlength=world.function_count)
    called = int((requests > 0).sum())
    total_mb = int(world.node_memory_mb.sum())

    # Nothing can be loaded before time 0.
    too_late_us = np.maximum(0, worth_us - arrival_us)
    worth_us = worth_us - too_late_us
    cuts = [arrival_us // block_us * block_us for block_us in BLOCKS_US] + [_component_starts_us(arrival_us, worth_us)]

    def best(weight: Floats) -> float:
        bounds = [_knapsacks_us(arrival_us, worth_us, size_mb, weight, total_mb, start_us) for start_us in cuts]
        return float(np.sum(too_late_us * weight)) + max(bounds)

    return Bound(best(np.full(count, 1.0 / count)), best(1.0 / (requests[function] * called)))


def _least_delay_us(world: World) -> IntArray:
    """(R,) W of the proof: what a request pays at least when nothing was charged to it."""
    table, settings = world.functions, world.settings
    functions = range(world.function_count)
    sigma = table.sigma_ppm.tolist()

    def least(column: IntArray) -> list[int]:
        return [noisy_us(int(column[f]), sigma[f], 0) for f in functions]

    fastest_load = [a + b for a, b in zip(least(table.library_us), least(table.model_us), strict=True)]
    head_start = settings.command_us - settings.scheduling_us - settings.clear_us
    inference = np.array(least(table.inference_us), dtype=np.int64)
    on_gpu = np.array(least(table.gpu_inference_us), dtype=np.int64)
    inference = np.where(table.gpu_mb > 0, np.minimum(inference, on_gpu), inference)
    if len(world.arrival_duration_us):
        inference = np.full(world.function_count, np.iinfo(np.int64).max // 2)
        np.minimum.at(inference, world.arrival_function, world.arrival_duration_us)
    kept = inference + settings.scheduling_us
    seen = [0] * world.function_count
    worth = np.zeros(len(world.arrival_us), dtype=np.int64)
    for row, f in enumerate(world.arrival_function.tolist()):
        ordinal = seen[f]
        seen[f] += 1
        own = _stage_us(world, f, Concern.LIBRARY, ordinal) + _stage_us(world, f, Concern.MODEL, ordinal)
        least_us = min(own, fastest_load[f] + head_start)
        if ordinal > 0:
            least_us = min(least_us, int(kept[f]))
        worth[row] = max(0, least_us)
    return worth


def _stage_us(world: World, function: int, concern: Concern, ordinal: int) -> int:
    """The stage's duration that the request with this ordinal draws."""
    column = world.functions.library_us if concern == Concern.LIBRARY else world.functions.model_us
    sigma = int(world.functions.sigma_ppm[function])
    u64 = 0 if sigma == 0 else draw_u64(world.settings.seed, concern, function, ordinal)
    return noisy_us(int(column[function]), sigma, u64)


def _smallest_container_mb(world: World) -> IntArray:
    """(F,) the smallest container size of the world that can hold each function while it loads."""
    sizes = np.unique(world.functions.container_mb)
    smallest: IntArray = sizes[np.searchsorted(sizes, world.functions.peak_mb)]
    return smallest


def _component_starts_us(arrival_us: IntArray, worth_us: IntArray) -> IntArray:
    """(R,) start of the connected part of the union of [a - W, a) that each request belongs to."""
    earliest_us = np.minimum.accumulate((arrival_us - worth_us)[::-1])[::-1]
    before_us = np.concatenate(([-1], arrival_us[:-1]))
    begins = earliest_us > before_us
    begins[0] = True
    starts: IntArray = earliest_us[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    return starts


def _knapsacks_us(
    arrival_us: IntArray,
    worth_us: IntArray,
    size_mb: IntArray,
    weight: Floats,
    total_mb: int,
    start_us: IntArray,
) -> float:
    """The least weighted sum of delays when each block of time has its own budget.

    Args:
        arrival_us: (R,) ascending.
        worth_us: (R,) W of each request.
        size_mb: (R,) memory that a charge occupies.
        weight: (R,) weight of each request in the sum.
        total_mb: memory of all nodes.
        start_us: (R,) start of the block that each request lies in, ascending.
    """
    value_us = np.minimum(worth_us, arrival_us - start_us)
    earliest_us = np.minimum.accumulate((arrival_us - value_us)[::-1])[::-1]
    before_us = np.concatenate(([-1], arrival_us[:-1]))
    # What the union of the block gains between one arrival and the next.
    gained_us = np.maximum(0, arrival_us - np.maximum(before_us, earliest_us))
    first = np.flatnonzero(np.diff(start_us, prepend=-1 - abs(int(start_us[0]))))
    block = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(start_us))))
    budget = np.add.reduceat(gained_us, first).astype(np.float64) * total_mb
    order = np.lexsort((size_mb / weight, block))
    need = (value_us * size_mb).astype(np.float64)[order]
    before = np.cumsum(need) - need
    used = before - before[first][block]
    unpaid = np.clip((used + need - budget[block]) / np.maximum(need, 1.0), 0.0, 1.0)
    return float(np.sum(unpaid * (value_us * weight)[order]))
