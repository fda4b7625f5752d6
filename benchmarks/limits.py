"""What the single steps of which the engine's work consists cost on this machine, each measured alone.

``docs/performance.md`` sets missed figures against them.

    python benchmarks/limits.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pages
from numpy.typing import NDArray

from tyche_env.bench.measurement import machine, median_cpu_s, today
from tyche_env.control.compiled import outer
from tyche_env.control.queue import SPARE, pop, push
from tyche_env.state import FUNCTION_DTYPE

STEPS = 1_000_000
REPEATS = 5
HEAPS = (17, 100, 560, 13_000)
"""Keys: completions of 200 functions and of 5,000, timers of the same."""
FUNCTIONS = (200, 5_000)
_LINE = 8
"""64-bit integers in a cache line."""


@outer
def turn_over(heap: NDArray[np.int64], count: int, ahead: NDArray[np.int64]) -> None:
    """Take the least key of a heap out and put one in that is later by chance, a million times."""
    for step in range(STEPS):
        key = heap[0] + ahead[step % len(ahead)]
        pop(heap, count)
        push(heap, count - 1, key)


@outer
def follow(after: NDArray[np.int64]) -> int:
    """Load a million integers, each of which says where the next one is."""
    at = 0
    for _ in range(STEPS):
        at = after[at]
    return at


@outer
def toss(coins: NDArray[np.int64], into: NDArray[np.int64]) -> None:
    """Branch a million times."""
    for step in range(STEPS):
        if coins[step % len(coins)] != 0:
            into[step & 7] += step
        else:
            into[7 - (step & 7)] ^= step


@outer
def divide(value: int, by: int) -> int:
    """Divide a million times, each time what the last division left."""
    for _ in range(STEPS):
        value = (value // by) ^ (1 << 61)
    return value


def heap_ns(keys: int) -> float:
    """CPU nanoseconds for one key out of a heap and one into it."""
    random = np.random.default_rng(0)
    heap = np.sort(random.integers(0, 1 << 40, keys + SPARE))
    ahead = random.integers(1, 1 << 40, 1 << 14)
    return 1e9 * median_cpu_s(lambda: turn_over(heap, keys, ahead), REPEATS) / STEPS


def load_ns(size: int) -> float:
    """CPU nanoseconds for one load anywhere in so many bytes, when the load before it says where."""
    lines = max(2, size // (8 * _LINE))
    order = np.random.default_rng(0).permutation(lines) * _LINE
    after = np.zeros(lines * _LINE, np.int64)
    after[order] = np.roll(order, -1)
    return 1e9 * median_cpu_s(lambda: follow(after), REPEATS) / STEPS


def branch_ns(by_chance: bool) -> float:
    """CPU nanoseconds for a branch and a little work, foreseeable or not."""
    coins = np.random.default_rng(0).integers(0, 2 if by_chance else 1, 1 << 18)
    into = np.zeros(8, np.int64)
    return 1e9 * median_cpu_s(lambda: toss(coins, into), REPEATS) / STEPS


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep the table, too")
    arguments = parser.parse_args()
    about = {"date": today(), "machine": machine()}
    rows = [(f"one key out of a heap of {keys:,} and one into it", heap_ns(keys)) for keys in HEAPS]
    for functions in FUNCTIONS:
        size = functions * FUNCTION_DTYPE.itemsize
        rows.append((f"a load anywhere in the {size / 1e6:.2g} MB of {functions:,} functions", load_ns(size)))
    rows.append(("a branch that goes wrong", 2 * (branch_ns(True) - branch_ns(False))))
    rows.append(("a 64-bit division", 1e9 * median_cpu_s(lambda: divide(1 << 61, 977), REPEATS) / STEPS))
    found = about | {"steps": [{"step": name, "ns": value} for name, value in rows]}
    print(pages.limits({"limits": found}))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
